"""Items that were queued under keys which their function has not any more, and limits of another account."""

import msgspec

from innkeeper_engine.model.environments import Environment
from innkeeper_engine.model.functions import Concurrency, FunctionConfig
from innkeeper_engine.store.environments import EnvironmentStore
from tests.executor.house import ENV, Hand, House, VirtualClock, function, ops, output, sleep, soon


def limited(key: str, limit: int = 1, **options: object) -> FunctionConfig:
    """A function with one limit."""
    entry = Concurrency(limit=limit, key=key, **options)  # type: ignore[arg-type]
    return msgspec.structs.replace(function("f", retries=0), concurrency=(entry,))


async def idle(hand: Hand) -> None:
    """Until nothing is under way."""
    await soon(hand.worker.wait_until_idle())


async def queue(house: House, hand: Hand, count: int) -> list[str]:
    """Runs that have one `b`, and each an `a` of its own; oldest first."""
    runs = []
    for n in range(count):
        event = await house.send("test/f", {"a": n, "b": 1})
        await hand.route_all()
        runs += await house.started(event)
    return runs


async def test_a_limit_is_kept_under_the_new_key_also_by_what_was_queued(still_house: House) -> None:
    """Under the old key all might run at once, under the new one one at a time; nobody is called to find out."""
    house = still_house
    await house.register(limited("event.data.a"))
    hand = house.hand()
    runs = await queue(house, hand, 3)
    await house.register(limited("event.data.b"))
    assert await hand.due() == 3
    left = set(runs)
    for n in range(1, 4):
        request = await hand.driver.arrival()
        left.remove(request.call.run_id)
        assert request.call.attempt == 0
        assert await hand.due() == 0
        assert len(hand.driver.calls) == n
        assert {await house.status(run) for run in left} <= {"Scheduled"}
        request.answer(output())
    await idle(hand)
    assert {await house.status(run) for run in runs} == {"Completed"}


async def test_a_run_that_has_begun_goes_on_under_the_new_key(
    still_house: House, clock: VirtualClock
) -> None:
    """Where it was."""
    house = still_house
    await house.register(limited("event.data.a"))
    hand = house.hand()
    await queue(house, hand, 2)
    assert await hand.due() == 2
    for _ in range(2):
        (await hand.driver.arrival()).answer(ops(sleep("z", "1s")))
    await idle(hand)
    await house.register(limited("event.data.b"))
    clock.ms += 1_000
    assert await hand.due() == 2
    for _ in range(2):
        request = await hand.driver.arrival()
        assert (request.call.stack, request.call.attempt) == (("z",), 0)
        assert await hand.due() == 0
        assert hand.driver.nothing_arrived
        request.answer(output())
    await idle(hand)


async def test_an_event_that_does_not_come_along_is_read(still_house: House) -> None:
    """Nothing but the run's first event is needed."""
    house = still_house
    house.store.settings = msgspec.structs.replace(house.store.settings, inline_bytes=0)
    await house.register(limited("event.data.a"))
    hand = house.hand()
    await queue(house, hand, 2)
    await house.register(limited("event.data.b"))
    assert await hand.due() == 2
    for _ in range(2):
        request = await hand.driver.arrival()
        assert await hand.due() == 0
        assert hand.driver.nothing_arrived
        request.answer(output())
    await idle(hand)


async def test_an_executor_that_dies_with_such_an_item_costs_no_attempt(
    still_house: House, clock: VirtualClock
) -> None:
    """However often."""
    house = still_house
    await house.register(limited("event.data.a"))
    hand = house.hand()
    await queue(house, hand, 1)
    await house.register(limited("event.data.b"))
    for _ in range(4):
        assert (await house.hand().lease()).rekey
        clock.ms += 31_000
        assert (await house.store.due()).expired == 1
    assert await hand.due() == 1
    request = await hand.driver.arrival()
    assert request.call.attempt == 0
    request.answer(output())
    await idle(hand)


async def test_an_executor_with_little_room_keys_everything_again(house: House) -> None:
    """Each takes room for its round trip only."""
    await house.register(limited("event.data.a"))
    runs = await queue(house, house.hand(), 20)
    await house.register(limited("event.data.b"))
    house.driver.scripts["f"] = lambda call: output()
    await house.start_executor(capacity=1)
    await house.runs_ended(runs)
    assert len(house.driver.calls) == 20


async def test_runs_count_for_the_account_that_their_environment_is_in_when_they_are_made(
    still_house: House,
) -> None:
    """Executors learn of the change; what is queued already stays where it is."""
    house, hand = still_house, still_house.hand()
    await house.register(limited('"shared"', scope="account"))
    await queue(house, hand, 2)
    assert await hand.due() == 1
    first = await hand.driver.arrival()
    await EnvironmentStore(house.store).write(Environment(name=ENV, account="acme"))
    (of_acme,) = await queue(house, hand, 1)
    assert await hand.due() == 1
    second = await hand.driver.arrival()
    assert second.call.run_id == of_acme
    assert await hand.due() == 0
    second.answer(output())
    first.answer(output())
    (await hand.driver.arrival()).answer(output())
    await idle(hand)
