"""What is decided on a registry is made true only while that one is current; and what is done beside requests."""

import asyncio
import logging
from collections.abc import Sequence

import msgspec
import pytest
from structlog.testing import capture_logs

from innkeeper_engine.model.cancellations import Cancellation
from innkeeper_engine.model.effects import Cancel, Effect, Start
from innkeeper_engine.model.functions import FunctionConfig, Trigger
from innkeeper_engine.model.guards import CronGuard, Guard, NoGuard
from innkeeper_engine.model.state import Applied
from innkeeper_engine.store.connection import StoreUnavailableError
from innkeeper_executor.applying import Apply, apply_decided
from innkeeper_executor.chores import AT_ONCE, MOST_WAITING, Chores
from tests.executor.house import ENV, House, VirtualClock, function, soon


def paused(config: FunctionConfig) -> FunctionConfig:
    """The same function, paused."""
    return msgspec.structs.replace(config, paused=True)


def first(house: House, *functions: FunctionConfig) -> tuple[Apply, list[Sequence[Effect]]]:
    """Commits, the first of which finds that somebody has registered these functions; and what was to be committed."""
    asked: list[Sequence[Effect]] = []

    async def apply(guard: Guard, effects: Sequence[Effect], *, registry: int | None = None) -> Applied:
        asked.append(effects)
        if len(asked) == 1:
            await house.register(*functions)
        return await house.store.apply(guard, effects, registry=registry)

    return apply, asked


async def test_an_event_is_decided_on_again_where_the_registry_has_changed(still_house: House) -> None:
    """A pause that was written before a run starts counts for it."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    event = await house.send("test/f")
    hand.router._apply, asked = first(house, paused(function("f")))
    await hand.route_all()
    assert len(asked) == 2
    (run,) = await house.started(event)
    assert await house.status(run) == "Skipped"


async def test_a_cron_is_decided_on_again_where_the_registry_has_changed(
    still_house: House, clock: VirtualClock
) -> None:
    """And at once, not seconds later."""
    house = still_house
    cron = msgspec.structs.replace(function("f"), triggers=(Trigger(cron="* * * * *"),))
    await house.register(cron)
    clock.ms += 60_000
    (found,) = (await house.store.due()).crons
    executor = house.executor(clock=clock)
    await executor.store.open()
    executor._worker.apply, asked = first(house, paused(cron))  # type: ignore[method-assign]
    await executor._fire(*found)
    assert len(asked) == 2
    (run,) = await house.store.recent_runs(ENV, 9)
    assert await house.status(run) == "Skipped"


async def test_a_cron_that_is_gone_is_not_decided_on(still_house: House, clock: VirtualClock) -> None:
    """Also one that goes in between."""
    house = still_house
    cron = msgspec.structs.replace(function("f"), triggers=(Trigger(cron="* * * * *"),))
    await house.register(cron)
    clock.ms += 60_000
    (found,) = (await house.store.due()).crons
    executor = house.executor(clock=clock)
    await executor.store.open()
    executor._worker.apply, asked = first(house, function("g"))  # type: ignore[method-assign]
    await executor._fire(*found)
    assert len(asked) == 1
    assert await house.store.recent_runs(ENV, 9) == []


async def test_a_guard_that_fails_is_not_taken_for_another_registry(still_house: House) -> None:
    """It is asked once."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    apply, asked = first(house, function("f"))
    guard = CronGuard("no such cron", 1)
    applied = await apply_decided(hand.surroundings, apply, ENV, guard, lambda _: [])
    assert applied is not None
    assert applied.status == "moved"
    assert len(asked) == 2


async def test_a_server_that_lost_its_data_is_not_asked_for_ever(still_house: House) -> None:
    """Its registry is older than the one that is known here, and it counts."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    known = (await hand.surroundings.context(ENV)).registry.version
    await house.store.command("DEL", *await house.store.command("KEYS", house.store.key("*")))
    await house.store.command("SET", house.store.key("regver"), 7)
    versions: list[int] = []

    async def late(guard: Guard, effects: Sequence[Effect], *, registry: int | None = None) -> Applied:
        versions.append(registry or 0)
        return await house.store.apply(guard, effects, registry=registry)

    applied = await apply_decided(hand.surroundings, late, ENV, NoGuard(), lambda _: [])
    assert applied is not None
    assert applied.status == "ok"
    assert versions == [known, 7]


async def test_a_run_and_its_cancellation_are_never_parted(still_house: House) -> None:
    """Where an event starts more than one script does: nobody may lease the run in between."""
    house, hand = still_house, still_house.hand()
    functions = [function(f"f{n}", "test/many") for n in range(300)]
    await house.register(*functions)
    now_ms = house.clock.now_ms()
    made = [
        Cancellation(id=f"c{n}", slug=f"f{n}", before_ms=now_ms + 1_000, created_ms=now_ms)
        for n in range(1, 300)
    ]
    await house.store.configure(
        ENV, cancellations=[(each.id, msgspec.json.encode(each), now_ms + 1_000) for each in made]
    )
    event = await house.send("test/many")
    pieces: list[Sequence[Effect]] = []
    real = hand.router._apply

    async def watched(guard: Guard, effects: Sequence[Effect], *, registry: int | None = None) -> Applied:
        if effects:
            pieces.append(effects)
        return await real(guard, effects, registry=registry)

    hand.router._apply = watched
    await hand.route_all()
    assert [len(piece) for piece in pieces] == [255, 256, 88]
    for piece in pieces:
        assert isinstance(piece[0], Start)
        assert isinstance(piece[-1], Cancel)
    statuses = [await house.status(run) for run in await house.started(event)]
    assert (statuses.count("Cancelled"), statuses.count("Scheduled")) == (299, 1)


# ---- chores


async def test_a_chore_is_under_way_once() -> None:
    """What comes up meanwhile, however often, is done once more afterwards: it may be news."""
    chores, go_on = Chores(), asyncio.Event()
    begun = most = working = 0

    async def work() -> None:
        nonlocal begun, most, working
        begun, working = begun + 1, working + 1
        most = max(most, working)
        await go_on.wait()
        working -= 1

    for _ in range(3):
        chores.begin("a", work)
    await asyncio.sleep(0)
    assert begun == 1
    for _ in range(3):
        chores.begin("a", work)
    go_on.set()
    await all_over(chores)
    assert (begun, most) == (2, 1)


async def all_over(chores: Chores) -> None:
    """Until nothing is under way."""
    async with asyncio.timeout(5):
        while chores.under_way:
            await asyncio.sleep(0)


async def test_a_few_chores_are_worked_on_at_once() -> None:
    """The others wait for room."""
    chores, go_on = Chores(), asyncio.Event()
    begun: list[int] = []

    async def work() -> None:
        begun.append(1)
        await go_on.wait()

    for n in range(AT_ONCE + 3):
        chores.begin(str(n), work)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(begun) == AT_ONCE
    go_on.set()
    await all_over(chores)
    assert len(begun) == AT_ONCE + 3


async def test_no_more_is_looked_for_than_can_wait() -> None:
    """There is room again as soon as something is over."""
    chores, go_on = Chores(), asyncio.Event()

    async def work() -> None:
        await go_on.wait()

    for n in range(MOST_WAITING - 1):
        chores.begin(str(n), work)
    await soon(chores.wait_for_room())
    chores.begin("the last", work)
    waiting = asyncio.create_task(chores.wait_for_room())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    await soon(waiting)
    await chores.close()


@pytest.mark.parametrize("error", [StoreUnavailableError("no answer"), RuntimeError("a bug")])
async def test_a_chore_that_fails_is_told_and_left(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes up again by itself, and takes nobody with it."""
    chores = Chores()

    async def work() -> None:
        raise error

    with caplog.at_level(logging.CRITICAL), capture_logs() as logs:
        chores.begin("a", work)
        await all_over(chores)
    (line,) = logs
    assert line["chore"] == "a"
    await chores.close()


async def test_chores_end_with_the_executor() -> None:
    """Those that are under way, and those that wait."""
    chores, ended = Chores(), 0

    async def work() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    for n in range(AT_ONCE + 3):
        chores.begin(str(n), work)
    await asyncio.sleep(0)
    chores.begin("0", work)
    chores.begin("not begun yet", work)
    await soon(chores.close())
    assert not chores.under_way
    assert ended <= AT_ONCE
