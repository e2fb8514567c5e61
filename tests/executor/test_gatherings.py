"""Debounces and batches: what is due becomes one run, whoever dies meanwhile."""

from typing import Any

import msgspec
import orjson
import pytest
from structlog.testing import capture_logs

from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.functions import Batch, Debounce, FunctionConfig
from innkeeper_engine.model.guards import GatherGuard, Guard
from innkeeper_engine.model.state import Applied
from innkeeper_engine.registering import KEPT_MS
from innkeeper_executor.gathering import Gatherings
from tests.executor.house import ENV, Hand, House, VirtualClock, function, output, soon
from tests.executor.many_runs import find_due

PERIOD_MS = 10_000


def debounced(**options: Any) -> FunctionConfig:
    """A function that starts ten seconds after its last event."""
    options = {"period_ms": PERIOD_MS, **options}
    return msgspec.structs.replace(function("f"), debounce=Debounce(**options))


def batched(**options: Any) -> FunctionConfig:
    """A function that gets three events at once."""
    options = {"max_size": 3, "timeout_ms": PERIOD_MS, **options}
    return msgspec.structs.replace(function("f"), batch=Batch(**options))


async def gather(house: House, hand: Hand, *numbers: int) -> None:
    """Send numbered events, and route them."""
    for number in numbers:
        await house.send("test/f", {"n": number})
    await hand.route_all()


async def one_due(house: House, clock: VirtualClock, *others: FunctionConfig) -> Hand:
    """Event 1 was debounced, and its time has come; registered are also these others."""
    await house.register(debounced(), *others)
    hand = house.hand()
    await gather(house, hand, 1)
    clock.ms += PERIOD_MS
    return hand


async def received(hand: Hand) -> list[int]:
    """The numbers of the events with which the app is called; it returns."""
    assert await hand.due() == 1
    request = await hand.driver.arrival()
    request.answer(output())
    await soon(hand.worker.wait_until_idle())
    return [orjson.loads(event)["data"]["n"] for event in request.call.events]


async def run_count(house: House) -> int:
    """How many runs there are."""
    return len(await house.store.recent_runs(ENV, 100))


@pytest.mark.parametrize(("config", "expected"), [(debounced(), [2]), (batched(), [1, 2])])
async def test_a_gathering_starts_one_run_also_where_executors_die(
    still_house: House, clock: VirtualClock, config: FunctionConfig, expected: list[int]
) -> None:
    """What one has found and not started, another finds; who was only slow starts nothing more."""
    house = still_house
    await house.register(config)
    slow, hand = house.hand(), house.hand()
    await gather(house, hand, 1, 2)
    assert await hand.chores() == 0
    clock.ms += PERIOD_MS
    (found,) = (await find_due(slow)).gathered
    clock.ms += 4_999
    assert await hand.chores() == 0
    clock.ms += 1
    assert await hand.chores() == 1
    await slow.gatherings.fire(found)
    assert await received(hand) == expected
    assert await run_count(house) == 1
    clock.ms += 60_000
    assert await hand.chores() == 0


async def test_a_run_that_was_started_by_one_who_never_knew_is_started_once(
    still_house: House, clock: VirtualClock
) -> None:
    """The answer to the commit got lost: it comes up no more, and the run is there."""
    house = still_house
    hand = await one_due(house, clock)

    async def unheard(guard: Guard, effects: Any, *, registry: int | None = None) -> Applied:
        await house.store.apply(guard, effects, registry=registry)
        raise ConnectionError("no answer came")

    (found,) = (await find_due(hand)).gathered
    with pytest.raises(ConnectionError):
        await Gatherings(house.store, hand.surroundings, unheard).fire(found)
    await hand.gatherings.fire(found)
    assert await received(hand) == [1]
    assert await run_count(house) == 1


async def test_events_that_come_after_it_was_due_begin_another_one(
    still_house: House, clock: VirtualClock
) -> None:
    """Also before its run has started."""
    house = still_house
    hand = await one_due(house, clock)
    (found,) = (await find_due(hand)).gathered
    await gather(house, hand, 2)
    await hand.gatherings.fire(found)
    assert await received(hand) == [1]
    clock.ms += PERIOD_MS
    assert await hand.chores() == 1
    assert await received(hand) == [2]


async def test_a_full_batch_is_due_at_once(still_house: House) -> None:
    """What is more begins the next one."""
    house = still_house
    await house.register(batched())
    hand = house.hand()
    await gather(house, hand, 1, 2, 3, 4)
    assert await hand.chores() == 1
    assert await received(hand) == [1, 2, 3]
    assert await hand.chores() == 0


async def test_a_pause_that_was_written_before_the_run_started_counts(
    still_house: House, clock: VirtualClock
) -> None:
    """Even in the moment between the decision and its commit."""
    house = still_house
    hand = await one_due(house, clock)
    decided: list[list[Effect]] = []

    async def late(guard: Guard, effects: Any, *, registry: int | None = None) -> Applied:
        if not decided:
            await house.register(msgspec.structs.replace(debounced(), paused=True))
        decided.append(effects)
        return await house.store.apply(guard, effects, registry=registry)

    (found,) = (await find_due(hand)).gathered
    await Gatherings(house.store, hand.surroundings, late).fire(found)
    assert [type(effects[0]).__name__ for effects in decided] == ["Start", "Skip"]
    (run,) = await house.store.recent_runs(ENV, 9)
    assert await house.status(run) == "Skipped"


@pytest.mark.parametrize(("config", "expected"), [(debounced(), [2]), (batched(), [1, 2])])
async def test_what_is_gathered_for_a_function_that_is_gone_waits_for_it(
    still_house: House, clock: VirtualClock, config: FunctionConfig, expected: list[int]
) -> None:
    """As its runs do: a deployment that is rolled back brings it back."""
    house = still_house
    await house.register(config, function("g"))
    hand = house.hand()
    await gather(house, hand, 1, 2)
    await house.register(function("g"))
    clock.ms += PERIOD_MS
    with capture_logs() as logs:
        for _ in range(3):
            assert await hand.chores() == 1
            clock.ms += 5_000
    assert {line["log_level"] for line in logs} <= {"debug"}
    assert await run_count(house) == 0
    await house.register(config, function("g"))
    assert await hand.chores() == 1
    assert await received(hand) == expected
    assert await run_count(house) == 1


async def test_a_function_that_goes_while_its_gathering_is_read_is_waited_for(
    still_house: House, clock: VirtualClock
) -> None:
    """The commit is refused, for the registry has changed, and decided on anew."""
    house = still_house
    hand = await one_due(house, clock, function("g"))
    (found,) = (await find_due(hand)).gathered
    await hand.surroundings.context(ENV)
    await house.register(function("g"))
    await hand.gatherings.fire(found)
    assert await run_count(house) == 0
    clock.ms += 5_000
    await house.register(debounced(), function("g"))
    assert await hand.chores() == 1
    assert await received(hand) == [1]


async def test_what_is_gathered_for_a_function_that_does_not_come_back_is_dropped(
    still_house: House, clock: VirtualClock
) -> None:
    """It is told which one, and not what was in the events."""
    house = still_house
    await house.register(debounced(), function("g"))
    hand = house.hand()
    await gather(house, hand, 4711)
    await house.register(function("g"))
    with capture_logs() as logs:
        for _ in range(10):
            clock.ms += KEPT_MS // 5
            await hand.chores()
    (line,) = [line for line in logs if line["log_level"] == "warning"]
    assert (line["event"], line["function"]) == ("gathered events were dropped: their function is gone", "f")
    assert "4711" not in repr(logs)
    assert await hand.chores() == 0
    assert await house.store.command("KEYS", house.store.key("g[eh]:*")) == []
    assert await run_count(house) == 0


async def test_what_nothing_is_left_of_is_dropped(still_house: House, clock: VirtualClock) -> None:
    """Events that were removed by hand, or whose server lost them."""
    house = still_house
    await house.register(debounced())
    hand = house.hand()
    await gather(house, hand, 1)
    await house.store.command("DEL", *await house.store.command("KEYS", house.store.key("ev:*")))
    clock.ms += PERIOD_MS
    with capture_logs() as logs:
        assert await hand.chores() == 1
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "gathered events were dropped: none of them is kept"
    ]
    assert await run_count(house) == 0


async def test_a_gathering_that_is_gone_is_not_started_again(still_house: House, clock: VirtualClock) -> None:
    """Its guard says so, whatever the effects."""
    house = still_house
    hand = await one_due(house, clock)
    (found,) = (await find_due(hand)).gathered
    assert (await house.store.apply(GatherGuard(found.id), [])).status == "ok"
    await hand.gatherings.fire(found)
    assert await run_count(house) == 0


@pytest.mark.parametrize(("config", "expected"), [(debounced(period_ms=30), [3]), (batched(), [1, 2, 3])])
async def test_executors_see_to_what_is_due(
    house: House, config: FunctionConfig, expected: list[int]
) -> None:
    """Two of them start it once."""
    await house.register(config)
    hand = house.hand()
    await gather(house, hand, 1, 2, 3)
    for _ in range(2):
        await house.start_executor()
    request = await house.driver.arrival()
    assert [orjson.loads(event)["data"]["n"] for event in request.call.events] == expected
    request.answer(output())
    await house.run_ended(request.call.run_id)
    assert await run_count(house) == 1
