"""Requests that the server makes for functions: sealed in the store, made once per attempt, results as steps."""

import asyncio

import orjson

from innkeeper_apps.classes import Classes
from innkeeper_apps.egress import EgressPolicy
from innkeeper_apps.sealing import Sealer
from innkeeper_engine.model.effects import Plan
from innkeeper_engine.model.environments import Environment, Policy
from innkeeper_engine.model.guards import NoGuard
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_executor.fetching import Fetcher
from tests.apps.rawserver import RawServer, Seen, http, serving
from tests.executor.house import (
    KEY,
    Hand,
    House,
    Request,
    VirtualClock,
    fetch,
    function,
    ops,
    output,
    soon,
)


async def hello(server: RawServer, request: Seen, writer: asyncio.StreamWriter) -> None:
    """A server that greets."""
    writer.write(http(200, b"hello"))


async def asked(house: House, hand: Hand, url: str) -> str:
    """A run of `f` whose first request asked for a fetch; it lies in the queue."""
    await house.register(function("f", retries=1))
    await house.send("test/f")
    await hand.route_all()
    lease_of_discovery = await first(hand)
    run = lease_of_discovery.call.run_id
    hand.worker.stop_accepting()
    lease_of_discovery.answer(ops(fetch("get", url)))
    await soon(hand.worker.wait_until_idle())
    assert await house.items(run) == [f"{run}:get"]
    return run


async def first(hand: Hand) -> Request:
    """Take the one item there is, which calls the app."""
    assert await hand.due() == 1
    return await hand.driver.arrival()


async def test_the_response_is_the_result_of_the_step(house: House) -> None:
    """The app is not asked for it; it goes on with the response."""
    await house.register(function("f"))
    await house.start_executor()
    async with serving(hello) as server:
        await house.send("test/f")
        request = await house.driver.arrival()
        request.answer(ops(fetch("get", f"http://127.0.0.1:{server.port}/greeting")))
        request = await house.driver.arrival()
        assert [seen.target for seen in server.seen] == ["/greeting"]
    assert request.call.step_id == "step"
    data = orjson.loads(request.call.steps["get"])["data"]
    assert (data["status_code"], data["body"]) == (200, "hello")
    request.answer(output())
    await house.run_ended(request.call.run_id)


async def test_the_request_lies_in_the_store_sealed(still_house: House) -> None:
    """Neither its address nor its headers can be read there; with the key they can."""
    run = await asked(still_house, still_house.hand(), "http://127.0.0.1:9/secret-path")
    sealed = (await still_house.item(f"{run}:get"))["d"].encode("latin-1")
    assert b"secret-path" not in sealed
    assert b"secret-path" in Sealer(KEY).unseal(sealed)


async def test_a_request_that_fails_is_tried_again_and_then_the_step_fails(
    still_house: House, clock: VirtualClock
) -> None:
    """The function goes on and may catch it; the run has not failed."""
    house = still_house
    run = await asked(house, house.hand(), "http://127.0.0.1:9/")
    hand = house.hand()
    assert await hand.due() == 1
    await soon(hand.worker.wait_until_idle())
    assert (await house.item(f"{run}:get"))["a"] == "1"
    clock.ms += 1
    assert await hand.due() == 1
    request = await hand.driver.arrival()
    error = orjson.loads(request.call.steps["get"])["error"]
    assert error["name"] == "GatewayError"
    assert request.call.attempt == 0
    request.answer(output("caught"))
    await soon(hand.worker.wait_until_idle())
    assert await house.status(run) == "Completed"


async def test_a_request_that_cannot_be_opened_fails_its_step_at_once(still_house: House) -> None:
    """Sealed with a key that is not this executor's: another attempt would meet the same."""
    house = still_house
    await house.register(function("f"))
    await house.send("test/f")
    hand = house.hand()
    await hand.route_all()
    request = await first(hand)
    run = request.call.run_id
    for step, sealed in (
        ("other-key", Sealer(bytes(32)).seal(b"{}")),
        ("other-shape", Sealer(KEY).seal(b'{"later":1}')),
        ("no-json", Sealer(KEY).seal(b"\x00")),
    ):
        await house.store.apply(NoGuard(), [Plan(run, step, "f", sealed)])
    assert await hand.due() == 3
    following = await hand.driver.arrival()
    assert {*following.call.stack} <= {"other-key", "other-shape", "no-json"}
    payload = await house.store.run_state(run)
    reasons = {
        step: orjson.loads(payload[step])["error"]["message"]
        for step in ("other-key", "other-shape", "no-json")
        if step in payload
    }
    assert "does not open with this encryption key" in reasons["other-key"]
    assert "unknown shape" in reasons["other-shape"]
    assert "unknown shape" in reasons["no-json"]


async def after_three_lost_leases(house: House, clock: VirtualClock) -> Hand:
    """Three executors take the item and are never heard of again; the fourth has just taken it."""
    for _ in range(3):
        await house.hand().lease()
        clock.ms += 31_000
        assert (await house.store.due()).expired == 1
    hand = house.hand()
    assert await hand.due() == 1
    return hand


async def test_a_fetch_whose_executors_are_lost_fails_its_step_not_the_run(
    still_house: House, clock: VirtualClock
) -> None:
    """Three leases an attempt, two attempts; then the function is told."""
    house = still_house
    run = await asked(house, house.hand(), "http://127.0.0.1:9/")
    hand = await after_three_lost_leases(house, clock)
    await soon(hand.worker.wait_until_idle())
    assert (await house.item(f"{run}:get"))["a"] == "1"
    clock.ms += 1
    await house.store.due()
    hand = await after_three_lost_leases(house, clock)
    request = await hand.driver.arrival()
    error = orjson.loads(request.call.steps["get"])["error"]
    assert error["message"] == "the executor that made this request was lost 3 times in a row"
    request.answer(output())
    await soon(hand.worker.wait_until_idle())
    assert await house.status(run) == "Completed"


async def test_a_fetch_of_a_cancelled_run_is_aborted(house: House) -> None:
    """The connection is closed: nobody waits for the answer any more."""

    async def hangs(server: RawServer, request: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    await house.register(function("f", concurrency=1))
    await house.start_executor()
    async with serving(hangs) as server:
        await house.send("test/f")
        request = await house.driver.arrival()
        request.answer(ops(fetch("get", f"http://127.0.0.1:{server.port}/hang")))
        await soon(server.arrived.wait())
        await house.send("test/f")
        await house.cancel(request.call.run_id)
        await soon(server.closed.wait())
        (await house.driver.arrival()).answer(output())
    await house.so_many_ended(1)


async def test_a_request_reaches_what_its_environments_list_says(house: House) -> None:
    """Not what another one's says, and nothing private without."""
    await house.register(function("f"))
    users = EgressPolicy.users()
    async with serving(hello) as server:
        url = f"http://127.0.0.1:{server.port}/"
        hand = house.hand()
        run = await asked(house, hand, url)
        lease = await hand.lease()
        fetcher = Fetcher(hand.surroundings, Classes(users, users, advice="set the list"), 5.0)
        environments = EnvironmentStore(house.store)
        granted = Policy(egress_allow=("127.0.0.1",))
        outcomes = []
        for name, policy in (("other", granted), ("default", granted), ("default", Policy())):
            await environments.write(Environment(name=name, policy=policy))
            hand.surroundings.saw_version(await house.store.registry_version())
            context = await hand.surroundings.context("default")
            outcomes.append(repr(await fetcher.fetch(lease, context, 1)))
        await fetcher.close()
        assert len(server.seen) == 1
    assert run in outcomes[0]
    for refused in (outcomes[0], outcomes[2]):
        assert "127.0.0.1 is a loopback address; set the list" in refused
    assert "hello" in outcomes[1]
