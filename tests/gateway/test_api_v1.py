"""`/v1`: events, runs, signals and functions."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest
from structlog.testing import capture_logs

from innkeeper_engine.decide.notes import step_note
from innkeeper_engine.model.calls import Op, OpKind
from innkeeper_engine.model.effects import Wait
from innkeeper_engine.model.guards import LeaseGuard
from innkeeper_gateway.settings import GatewaySettings
from tests.conftest import OpenStore, ValkeyProcess
from tests.gateway.conftest import SIGNING_KEY, MakeWorld
from tests.gateway.world import World, function

UNKNOWN = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
STEP = "a" * 40


async def get(world: World, path: str, status: int = 200) -> Any:
    reply = await world.http.get(path)
    assert reply.status_code == status, reply.text
    return reply.json()


async def test_an_event_is_looked_up_by_the_id_that_was_answered(world: World) -> None:
    event_id = await world.send("x/y", data={"a": 10**30, "b": []}, id="mine", ts=1_700_000_000_000)
    reply = await get(world, f"/v1/events/{event_id}")
    data = reply["data"]
    assert data["internal_id"] == event_id
    assert (data["id"], data["name"], data["ts"]) == ("mine", "x/y", 1_700_000_000_000)
    assert data["data"] == {"a": 10**30, "b": []}
    assert data["received_at"].endswith("Z")
    assert reply["metadata"]["fetched_at"].endswith("Z")
    assert (await get(world, f"/v1/events/{event_id.lower()}"))["data"] == data


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/events/foo", 400, "Invalid event ID: foo; an ID is 26 letters and digits"),
        ("GET", f"/v1/events/{UNKNOWN}", 404, "Event not found"),
        ("GET", "/v1/events/foo/runs", 400, "Invalid event ID: foo; an ID is 26 letters and digits"),
        ("GET", "/v1/runs/foo", 400, "Invalid run ID: foo; an ID is 26 letters and digits"),
        ("GET", f"/v1/runs/{UNKNOWN}", 404, f"Run not found: {UNKNOWN}"),
        ("DELETE", "/v1/runs/x", 400, "Invalid run ID: x; an ID is 26 letters and digits"),
        ("DELETE", f"/v1/runs/{UNKNOWN}", 404, f"Run not found: {UNKNOWN}"),
        ("GET", "/v1/nothing", 404, "nothing is served at /v1/nothing"),
        ("PUT", "/v1/signals", 405, "PUT is not served at /v1/signals, but POST"),
        ("GET", "/v1/runs?limit=0", 400, "query.limit: Input should be greater than or equal to 1"),
    ],
)
async def test_errors_have_one_form_and_a_true_status(
    world: World, method: str, path: str, status: int, message: str
) -> None:
    reply = await world.http.request(method, path)
    assert reply.status_code == status
    assert reply.json() == {"error": message, "data": None, "status": status}
    assert reply.headers["x-inngest-server-kind"] == "dev"


async def test_an_unknown_event_has_no_runs_and_is_not_waited_for(make_world: MakeWorld) -> None:
    world = await make_world(GatewaySettings(dev=True, routed_wait_s=60))
    assert (await get(world, f"/v1/events/{UNKNOWN}/runs"))["data"] == []


async def test_a_run_is_shown_under_its_event_as_it_goes(world: World) -> None:
    await world.register(function("app-fn"))
    event_id = await world.send()
    (run_id,) = await world.route()
    path = f"/v1/events/{event_id}/runs"
    (scheduled,) = (await get(world, path))["data"]
    functions = await get(world, "/v1/apps/app/functions")
    assert scheduled["run_id"] == run_id
    assert scheduled["event_id"] == event_id
    assert scheduled["function_id"] == functions[0]["internal_id"]
    assert scheduled["function_version"] == 1
    assert (scheduled["status"], scheduled["ended_at"]) == ("Scheduled", None)
    assert "output" not in scheduled
    lease = await world.lease()
    (running,) = (await get(world, path))["data"]
    assert (running["status"], "output" in running) == ("Running", False)
    await world.finish(lease, b'{"n":123456789012345678901234567890}')
    (completed,) = (await get(world, path))["data"]
    assert completed["status"] == "Completed"
    assert completed["output"] == {"n": 123456789012345678901234567890}
    assert completed["run_started_at"] <= completed["ended_at"]


async def test_runs_of_an_event_wait_until_it_is_routed(make_world: MakeWorld) -> None:
    world = await make_world(GatewaySettings(dev=True, routed_wait_s=30))
    await world.register(function("app-fn"))
    for _ in range(2):  # the first one makes the subscription, the second one finds it
        event_id = await world.send()
        asked = asyncio.create_task(get(world, f"/v1/events/{event_id}/runs"))
        waits = world.store.key("rw:default")
        async with asyncio.timeout(10):
            while not await world.store.command("EXISTS", waits):
                await asyncio.sleep(0)
        assert not asked.done()
        runs = await world.route()
        async with asyncio.timeout(10):
            answer = await asked
        assert [run["run_id"] for run in answer["data"]] == runs
        await world.store.command("DEL", waits)


async def test_an_event_that_nobody_routes_is_answered_in_the_end(world: World) -> None:
    event_id = await world.send()
    assert (await get(world, f"/v1/events/{event_id}/runs"))["data"] == []


async def test_a_wait_ends_with_the_server(make_world: MakeWorld) -> None:
    world = await make_world(GatewaySettings(dev=True, routed_wait_s=60))
    event_id = await world.send()
    asked = asyncio.create_task(get(world, f"/v1/events/{event_id}/runs"))
    async with asyncio.timeout(10):
        while not await world.store.command("EXISTS", world.store.key("rw:default")):
            await asyncio.sleep(0)
        await world.app.close()
        assert (await asked)["data"] == []


async def test_a_wait_during_which_redis_goes_away_ends_in_time(
    make_world: MakeWorld, open_store: OpenStore, private_valkey: Callable[..., ValkeyProcess]
) -> None:
    server = private_valkey()
    store = await open_store(address=server.address)
    settings = GatewaySettings(dev=True, routed_wait_s=1.0, store_timeout_s=0.2)
    world = await make_world(settings, store=store)
    event_id = await world.send()
    asked = asyncio.create_task(world.http.get(f"/v1/events/{event_id}/runs"))
    async with asyncio.timeout(10):
        while not await store.command("EXISTS", store.key("rw:default")):
            await asyncio.sleep(0)
        server.stop()
        reply = await asked
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")


async def test_a_subscription_comes_back_with_redis(
    make_world: MakeWorld, open_store: OpenStore, private_valkey: Callable[..., ValkeyProcess]
) -> None:
    server = private_valkey()
    store = await open_store(address=server.address)
    world = await make_world(GatewaySettings(dev=True, routed_wait_s=10), store=store)

    async def runs_of_a_new_event() -> list[Any]:
        event_id = await world.send()
        asked = asyncio.create_task(get(world, f"/v1/events/{event_id}/runs"))
        while not await store.command("EXISTS", store.key("rw:default")):
            await asyncio.sleep(0)
        await world.route()
        await store.command("DEL", store.key("rw:default"))
        return list((await asked)["data"])

    async with asyncio.timeout(20):
        await world.register(function("app-fn"))
        assert len(await runs_of_a_new_event()) == 1
        server.stop()
        again = ValkeyProcess(server.path.parent)
        try:
            await world.register(function("app-fn", name="again"))
            assert len(await runs_of_a_new_event()) == 1
        finally:
            again.stop()


async def test_runs_are_listed_newest_first(world: World) -> None:
    await world.register(function("app-fn"))
    started = [await world.start(), await world.start(), await world.start()]
    listed = (await get(world, "/v1/runs?limit=2"))["data"]
    assert len(listed) == 2
    assert {run["run_id"] for run in listed} <= set(started)
    assert len((await get(world, "/v1/runs"))["data"]) == 3
    assert (await get(world, "/v1/runs"))["data"][0]["function_slug"] == "app-fn"


async def test_a_run_is_shown_with_its_steps(world: World) -> None:
    await world.register(function("app-fn"))
    run_id = await world.start()
    lease = await world.lease()
    op = Op(id=STEP, kind=OpKind.STEP_RUN, name="a", display_name="a")
    await world.finish(lease, b'"done"', step_note(lease, op, "Completed", world.clock.now_ms()))
    await world.record()
    run = (await get(world, f"/v1/runs/{run_id}"))["data"]
    assert (run["status"], run["output"]) == ("Completed", "done")
    (step,) = run["steps"]
    assert (step["id"], step["name"], step["op"], step["status"]) == (STEP, "a", "StepRun", "Completed")


async def test_a_run_waits_for_the_recorder(make_world: MakeWorld) -> None:
    world = await make_world(GatewaySettings(dev=True, folded_wait_s=30))
    await world.register(function("app-fn"))
    run_id = await world.start()
    lease = await world.lease()
    op = Op(id=STEP, kind=OpKind.STEP_RUN, name="a")
    await world.finish(lease, b"1", step_note(lease, op, "Completed", world.clock.now_ms()))
    asked = asyncio.create_task(get(world, f"/v1/runs/{run_id}"))
    async with asyncio.timeout(10):
        while not await world.store.command("EXISTS", world.store.key("hw")):
            await asyncio.sleep(0)
        assert not asked.done()
        await world.record()
        assert [step["id"] for step in (await asked)["data"]["steps"]] == [STEP]


async def test_a_run_is_shown_without_a_recorder_too(world: World) -> None:
    await world.register(function("app-fn"))
    run_id = await world.start()
    lease = await world.lease()
    op = Op(id=STEP, kind=OpKind.STEP_RUN, name="a")
    await world.finish(lease, b"1", step_note(lease, op, "Completed", world.clock.now_ms()))
    assert (await get(world, f"/v1/runs/{run_id}"))["data"]["steps"] == []


async def test_a_run_is_cancelled_once_and_for_all(world: World) -> None:
    await world.register(function("app-fn"))
    run_id = await world.start()
    for _ in range(2):
        reply = await world.http.delete(f"/v1/runs/{run_id}")
        assert (reply.status_code, reply.content) == (200, b"")
    run = (await get(world, f"/v1/runs/{run_id}"))["data"]
    assert run["status"] == "Cancelled"
    assert run["ended_at"] is not None
    peeked = await world.store.peek(10)
    assert peeked is not None
    assert [event.name for event in peeked.events] == ["inngest/function.cancelled"]


async def test_a_run_that_completed_is_not_cancelled_any_more(world: World) -> None:
    await world.register(function("app-fn"))
    run_id = await world.start()
    await world.finish(await world.lease(), b'"out"')
    assert (await world.http.delete(f"/v1/runs/{run_id}")).status_code == 200
    assert (await get(world, f"/v1/runs/{run_id}"))["data"]["output"] == "out"


async def test_runs_of_another_environment_are_not_there(world: World, make_world: MakeWorld) -> None:
    await world.register(function("app-fn"))
    run_id = await world.start()
    other = await make_world(GatewaySettings(dev=True, env="other"))
    assert (await other.http.get(f"/v1/runs/{run_id}")).status_code == 404
    assert (await other.http.delete(f"/v1/runs/{run_id}")).status_code == 404
    assert (await other.http.get(f"/v0/runs/{run_id}/actions")).status_code == 404
    assert await world.store.is_live(run_id)


async def wait_for_signal(world: World, name: str) -> str:
    """A run that waits for the signal `name`."""
    run_id = await world.start()
    lease = await world.lease()
    deadline_ms = world.clock.now_ms() + 3_600_000
    wait = Wait(
        f"{run_id}.{STEP}", run_id, STEP, "signal", "default", name, "", "", deadline_ms, b"", b"null"
    )
    assert (await world.store.apply(LeaseGuard(lease.item, lease.token, lease.seen), [wait])).status == "ok"
    return run_id


async def test_a_signal_reaches_the_run_that_waits_for_it_and_only_once(world: World) -> None:
    await world.register(function("app-fn"))
    run_id = await wait_for_signal(world, "go/1")
    body = {"signal": "go/1", "data": {"a": [1]}}
    with capture_logs() as logs:
        reply = await world.http.post("/v1/signals", json=body)
    told = [(line["action"], line["run_id"]) for line in logs if line["event"] == "change"]
    assert told == [("send signal", run_id)]
    assert (reply.status_code, reply.json()["data"]) == (200, {"run_id": run_id})
    assert await world.store.run_payload(run_id, STEP) == [b'{"data":{"data":{"a":[1]},"signal":"go/1"}}']
    assert (await world.lease()).run == run_id, "the function goes on"
    again = await world.http.post("/v1/signals", json=body)
    assert again.status_code == 404
    assert again.json() == {"error": "No signal found", "data": None, "status": 404}


async def test_of_two_signals_at_once_one_is_told_that_nobody_was_there(world: World) -> None:
    await world.register(function("app-fn"))
    run_id = await wait_for_signal(world, "race")
    replies = await asyncio.gather(
        *(world.http.post("/v1/signals", json={"signal": "race", "data": n}) for n in range(5))
    )
    assert sorted(reply.status_code for reply in replies) == [200, 404, 404, 404, 404]
    winner = next(n for n, reply in enumerate(replies) if reply.status_code == 200)
    (result,) = await world.store.run_payload(run_id, STEP)
    assert orjson.loads(result or b"")["data"]["data"] == winner


@pytest.mark.parametrize(
    "body", [b"{bad", b"[]", b"{}", b'{"signal":""}', b'{"signal":1}', b'{"signal":"\\ud800"}']
)
async def test_what_is_no_signal_is_refused(world: World, body: bytes) -> None:
    reply = await world.http.post("/v1/signals", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"].startswith("Invalid signal data: ")


async def test_functions_of_an_app_are_a_bare_list(world: World) -> None:
    limits = {"fn": [{"limit": 1}], "step": [{"limit": 2}]}
    await world.register(function("app-a"), function("app-b", concurrency=limits))
    functions = await get(world, "/v1/apps/app/functions")
    assert [f["id"] for f in functions] == ["app-a", "app-b"]
    assert functions[1]["config"]["concurrency"] == limits
    assert [each["not_enforced"] for each in functions] == [[], ["concurrency.fn"]]
    assert await get(world, "/v1/apps/nope/functions") == []


async def test_a_bearer_is_asked_for_outside_dev_mode(production: World) -> None:
    paths = ["/v1/runs", f"/v1/runs/{UNKNOWN}", f"/v0/runs/{UNKNOWN}/actions", "/v1/apps/app/functions"]
    for path in paths:
        for headers in ({}, {"authorization": "Bearer "}, {"authorization": "Bearer undefined"}):
            reply = await production.http.get(path, headers=headers)
            assert (reply.status_code, reply.json()["error"].partition(":")[0]) == (
                401,
                "Authentication failed",
            )
    for path in ("/fn/register", "/invoke/app-fn", "/v1/signals", f"/v1/checkpoint/{UNKNOWN}/async"):
        reply = await production.http.post(path, content=b"{}")
        assert (reply.status_code, reply.json()["error"].partition(":")[0]) == (
            401,
            "Authentication failed",
        ), path


@pytest.mark.parametrize(
    "bearer",
    [
        "signkey-prod-0123456789abcdef0123456789abcdef",
        "223e0a160af9da0a03e6dd2c4719c56f5d66a633cbe84e78aaa9f3735865522a",
        "signkey-prod-223e0a160af9da0a03e6dd2c4719c56f5d66a633cbe84e78aaa9f3735865522a",
        "signkey-prod-ffffffffffffffffffffffffffffffff",
    ],
)
async def test_the_key_itself_its_hash_and_the_fallback_let_in(production: World, bearer: str) -> None:
    reply = await production.http.get("/v1/runs", headers={"authorization": f"Bearer {bearer}"})
    assert (reply.status_code, reply.json()["data"]) == (200, [])


async def test_without_any_signing_key_nobody_is_let_in(make_world: MakeWorld) -> None:
    world = await make_world(GatewaySettings())
    for bearer in ("", "x", "undefined"):
        reply = await world.http.get("/v1/runs", headers={"authorization": f"Bearer {bearer}"})
        assert reply.status_code == 401


def test_settings_do_not_show_their_keys() -> None:
    settings = GatewaySettings(
        event_keys=("sesame",), signing_key="signkey-prod-00ff", signing_key_fallback="signkey-11"
    )
    shown = f"{settings!r} {settings}"
    assert "sesame" not in shown
    assert "00ff" not in shown
    assert "signkey-11" not in shown
    assert msgspec.structs.asdict(settings)["event_keys"] == ("sesame",)


async def test_a_signal_is_as_large_as_a_steps_output_and_says_nothing_else(world: World) -> None:
    refused = await world.http.post("/v1/signals", json={"signal": "s", "data": "x" * 4 * 1024 * 1024})
    assert refused.status_code == 413
    assert "4194304 are the most" in refused.json()["error"]
    odd = await world.http.post("/v1/signals", json={"signal": "s", "dta": 1})
    assert (odd.status_code, odd.json()["error"]) == (
        400,
        "Invalid signal data: dta: there is no such field; there are signal, data",
    )


async def test_all_methods_of_a_path_are_told(world: World) -> None:
    reply = await world.http.put("/v1/replays")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, POST")


async def test_a_branch_is_refused_where_there_are_none(world: World, production: World) -> None:
    bearer = {"authorization": f"Bearer {SIGNING_KEY}", "x-inngest-env": "feature"}
    for reply in (
        await world.http.post("/v1/cancellations", json={}, headers={"x-inngest-env": "feature"}),
        await production.http.get("/v1/runs", headers=bearer),
        await production.http.get(
            "/v1/runs?x-inngest-env=feature", headers={"authorization": bearer["authorization"]}
        ),
    ):
        assert reply.status_code == 400
        assert "there are no branches without an operator" in reply.json()["error"]
    assert (
        await production.http.get("/v1/runs", headers=bearer | {"x-inngest-env": "default"})
    ).status_code == 200
    # SDKs send it along wherever they send anything.
    assert (await world.http.post("/e/key", json={"name": "a"}, headers=bearer)).status_code == 200
    lenient = await world.http.post("/v1/signals", json={"signal": "s"}, headers=bearer)
    assert (lenient.status_code, lenient.json()["error"]) == (404, "No signal found")


async def test_who_an_event_is_about_is_shown_with_its_data(world: World) -> None:
    event_id = await world.send(data={}, user={"id": 7}, v="2")
    view = (await world.http.get(f"/v1/events/{event_id}")).json()["data"]
    assert (view["user"], view["v"]) == ({"id": 7}, "2")
