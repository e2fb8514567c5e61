"""Executors live through what happens to their connections and their server."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from innkeeper_engine.model.calls import Answer, Call
from innkeeper_engine.store.connection import Address, StoreUnavailableError
from innkeeper_engine.store.store import Store
from tests.conftest import OpenStore, ValkeyProcess
from tests.executor.conftest import MakeHouse, MakeProxy
from tests.executor.house import House, function, ops, output, ran, soon
from tests.executor.proxy import Fate, Sent

STEPS = ("a", "b", "c", "d")


def four_steps(call: Call) -> Answer:
    """An app with four steps, one after the other; each adds to what the one before gave."""
    for n, step in enumerate(STEPS):
        if step not in call.stack:
            return ops(ran(step, n))
    return output(list(call.stack))


async def test_no_server_at_the_start_is_said_so(
    tmp_path_factory: pytest.TempPathFactory, store: Store
) -> None:
    """Within the time that connecting may take; nothing is left behind."""
    executor = House(store).executor(Address(path=str(tmp_path_factory.mktemp("none") / "v.sock")))
    open_store = executor.store.open
    executor.store.open = lambda timeout_s=0.1: open_store(timeout_s)  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailableError, match=r"no Redis or Valkey at .*v\.sock"):
        await executor.start()


async def test_requests_go_on_while_the_server_is_away(house: House, make_proxy: MakeProxy) -> None:
    """The answer is kept until it can be committed; the app is not asked twice."""
    await house.register(function("f"))
    proxy = await make_proxy(house.store.address)
    executor = await house.start_executor(proxy.address)
    await house.send("test/f")
    request = await house.driver.arrival()
    proxy.refusing = True
    await proxy.cut()
    async with asyncio.timeout(5):
        while executor.ready:
            await asyncio.sleep(0)
    request.answer(output("kept"))
    await asyncio.sleep(0)
    proxy.refusing = False
    await house.run_ended(request.call.run_id)
    assert await house.store.run_payload(request.call.run_id, "o") == [b'"kept"']
    assert len(house.driver.calls) == 1
    assert executor.ready


@pytest.mark.parametrize("every", [3, 7])
async def test_runs_end_right_on_a_line_that_breaks_all_the_time(
    house: House, make_proxy: MakeProxy, every: int
) -> None:
    """Every n-th script is cut off, before or after the server did it: each step has one result, each run one end."""
    await house.register(function("f", concurrency=5))
    house.driver.scripts["f"] = four_steps
    proxy = await make_proxy(house.store.address)
    scripts = 0

    def breaks(sent: Sent) -> Fate:
        nonlocal scripts
        if sent.name not in ("apply", "due") or not sent.request.get("effects", True):
            return Fate.PASS
        scripts += 1
        if scripts % every or scripts > every * 12:
            return Fate.PASS
        return Fate.CUT_AFTER if scripts % 2 else Fate.CUT_BEFORE

    proxy.rule = breaks
    await house.start_executor(proxy.address)
    events = [await house.send("test/f") for _ in range(10)]
    runs: list[str] = []
    await soon(settled(house, events, runs), 20)
    assert scripts > every * 3
    for run in runs:
        assert await house.store.run_payload(run, "o") == [b'["a","b","c","d"]']
    assert await house.slots("f") == 0
    assert house.driver.most_in_flight <= 5


async def settled(house: House, events: list[str], runs: list[str]) -> None:
    """Until every event has its one run and every run has ended; `on_run` is not told of ends seen by nobody."""
    for event in events:
        while not (started := await house.started(event)):
            await asyncio.sleep(0.01)
        (run,) = started
        while await house.store.is_live(run):
            await asyncio.sleep(0.01)
        assert await house.status(run) == "Completed"
        runs.append(run)


async def test_an_executor_outlives_its_server(
    private_valkey: Callable[..., ValkeyProcess],
    open_store: OpenStore,
    make_proxy: MakeProxy,
    make_house: MakeHouse,
) -> None:
    """The server comes back with an older state; what is registered there is what counts."""
    first = private_valkey()
    proxy = await make_proxy(first.address)
    house = make_house(await open_store(address=first.address))
    await house.register(function("f"))
    executor = await house.start_executor(proxy.address)
    await house.send("test/f")
    (await house.driver.arrival()).answer(output())
    await house.so_many_ended(1)
    proxy.refusing = True
    first.stop()
    private_valkey("--unixsocket", str(first.path))
    house.store = await open_store(address=first.address, prefix=house.store.settings.prefix)
    await house.register(function("g"))
    await house.store.command("SET", house.store.key("regver"), 7)
    proxy.refusing = False
    await house.send("test/g")
    request = await house.driver.arrival()
    assert request.call.slug == "g"
    request.answer(output())
    await house.so_many_ended(2)
    assert executor.ready


@pytest.mark.parametrize("read", ["registrations", "run_state"])
async def test_a_read_that_breaks_is_made_again_within_the_lease(
    house: House, make_proxy: MakeProxy, read: str
) -> None:
    """Of a leased item the registry, or state too large for the lease, is still to be read when the line breaks."""
    await house.register(function("f"))
    proxy = await make_proxy(house.store.address)
    house.driver.scripts["f"] = lambda call: output() if call.stack else ops(ran("large", "x" * 300_000))
    executor = await house.start_executor(proxy.address)
    ask = getattr(executor.store, read)
    asked = 0

    async def breaks_once(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreUnavailableError("the connection to Redis broke: by the test")
        return await ask(*args)

    setattr(executor.store, read, breaks_once)
    await house.send("test/f")
    await house.so_many_ended(1)
    assert asked >= 2
    assert [call.attempt for call in house.driver.calls] == [0, 0]
    assert [call.generation for call in house.driver.calls] == [1, 1]
