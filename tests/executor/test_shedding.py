"""When memory is short, executors take from what has ended, and say so."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs

from innkeeper_engine.model.state import Shed
from innkeeper_engine.store.store import Store
from innkeeper_executor.shedding import Shedding
from tests.conftest import OpenStore, ValkeyProcess
from tests.engine.model_memory import used
from tests.engine.model_runs import do, event_id, finish, route_all, start
from tests.executor.house import House


class Answers(Store):
    """A store that has been asked to make room, and answers what the test says."""

    def __init__(self, *answers: Shed) -> None:
        self.answers = list(answers)

    async def shed(self, n: int = 200) -> Shed:
        """The next answer."""
        return self.answers.pop(0)


async def test_it_goes_on_until_there_is_room() -> None:
    store = Answers(
        Shed(200, 5, 3, True, True),
        Shed(0, 0, 0, True, True),
        Shed(17, 1, 200, True, True),
        Shed(200, 9, 4, False, True),
    )
    with capture_logs() as logs:
        await Shedding(store).shed_some()
    assert store.answers == []
    (line,) = logs
    assert (line["log_level"], line["runs"], line["notes"], line["events"]) == ("warning", 417, 15, 207)


async def test_where_nothing_is_left_to_take_that_is_said_once_until_it_helps_again() -> None:
    nothing, enough = Shed(0, 0, 0, True, False), Shed(3, 3, 3, False, True)
    shedding = Shedding(Answers(nothing, nothing, enough, nothing))
    levels = []
    for _ in range(4):
        with capture_logs() as logs:
            await shedding.shed_some()
        levels.append([line["log_level"] for line in logs])
    assert levels == [["error"], [], ["warning"], ["error"]]


@pytest.fixture
async def small(open_store: OpenStore, private_valkey: Callable[..., ValkeyProcess]) -> AsyncIterator[House]:
    """A house on a server with little memory."""
    server = private_valkey("--maxmemory", "16mb", "--maxmemory-policy", "noeviction")
    house = House(await open_store(address=server.address))
    yield house
    await house.close()


async def test_an_executor_makes_room_by_itself(small: House) -> None:
    """It finds memory short as it looks at the time: the oldest runs lose something, the newest nothing."""
    store, large = small.store, b'"' + b"x" * 15_000 + b'"'
    for n in range(850):
        await do(store, start(f"r{n}", event=n), finish(f"r{n}", large))
    await small.start_executor()
    async with asyncio.timeout(20):
        while (oldest := await store.run("r0")) is not None and oldest.notes_lost is None:
            # A key that nobody writes times the wait, on the server.
            await store.command("BLPOP", store.key("nothing"), 0.02)
    newest = await store.run("r849")
    assert newest is not None
    assert newest.notes_lost is None
    assert await store.run_payload("r0", "o") == [None]
    assert await store.run_payload("r849", "o") == [large]


async def test_an_executor_lets_old_events_go_where_no_run_is_left_to_take_from(
    open_store: OpenStore, private_valkey: Callable[..., ValkeyProcess]
) -> None:
    """Those that started nothing, an hour after they came; the oldest, until there is room."""
    server = private_valkey("--maxmemory", "16mb", "--maxmemory-policy", "noeviction")
    # Executors go by the server's clock, on which all that comes here came an hour ago.
    store = await open_store(address=server.address, clock_ms=lambda: time.time_ns() // 1_000_000 - 3_600_000)
    house, large = House(store), b'{"data":"%b"}' % (b"x" * 15_000)
    sent = 0
    try:
        while await used(store) <= 0.83:
            await store.append("env", [(event_id(n), "x", large) for n in range(sent, sent + 10)])
            sent += 10
        await route_all(store)
        await house.start_executor()
        async with asyncio.timeout(20):
            while await used(store) >= 0.79:
                # A key that nobody writes times the wait, on the server.
                await store.command("BLPOP", store.key("nothing"), 0.02)
    finally:
        await house.close()
    there = [await store.event("env", event_id(n)) is not None for n in range(sent)]
    gone = there.index(True)
    assert 0 < gone < sent // 4
    assert there == [False] * gone + [True] * (sent - gone)
