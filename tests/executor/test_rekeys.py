"""Items that were queued under keys which their function has not any more, and limits of another account."""

import msgspec
from structlog.testing import capture_logs

from innkeeper_engine.model.environments import Environment
from innkeeper_engine.model.functions import Concurrency, FunctionConfig
from innkeeper_engine.registering import limits_are_written, write_limits
from innkeeper_engine.registry import FunctionEntry, Registry
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_executor.limiting import AGAIN_MS, Limits
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


async def forget_limits(house: House) -> None:
    """The scheduler knows nothing of the function's keys, as a version without keys left it."""
    await house.store.command("DEL", house.store.key(f"f:{ENV}/f"))


async def limits(house: House) -> list[bytes]:
    """What the scheduler knows of the function's limits, sorted."""
    return sorted(await house.store.command("HGETALL", house.store.key(f"f:{ENV}/f")))


async def test_limits_of_an_older_version_are_written_anew_and_hold(still_house: House) -> None:
    """The app need not register again for its function to run."""
    house = still_house
    await house.register(limited("event.data.b"))
    before = await limits(house)
    await forget_limits(house)
    hand = house.hand()
    runs = await queue(house, hand, 3)
    with capture_logs() as logs:
        assert await hand.due() >= 1
        for n in range(1, 4):
            request = await hand.driver.arrival()
            assert await hand.due() == 0
            assert len(hand.driver.calls) == n
            request.answer(output())
        await idle(hand)
    assert await limits(house) == before
    assert {await house.status(run) for run in runs} == {"Completed"}
    (line,) = [line for line in logs if line["log_level"] == "info"]
    assert line["event"] == "limits that another version had registered are written anew"
    assert (line["env"], line["function"]) == (ENV, "f")


async def test_executors_start_what_an_older_version_registered(house: House) -> None:
    """With loops, and two of them at once."""
    await house.register(limited("event.data.b"))
    await forget_limits(house)
    house.driver.scripts["f"] = lambda call: output()
    for _ in range(2):
        await house.start_executor()
    for n in range(5):
        await house.send("test/f", {"a": n, "b": 1})
    await house.so_many_ended(5)
    assert house.driver.most_in_flight == 1


async def test_a_pause_is_kept_where_limits_are_written_anew(still_house: House) -> None:
    """Both stand in one place."""
    house = still_house
    await house.register(msgspec.structs.replace(limited("event.data.b"), paused=True, new_runs="Queue"))
    before = await limits(house)
    await forget_limits(house)
    registry = (await house.hand().surroundings.context(ENV)).registry
    assert await write_limits(house.store, registry, "f") > registry.version
    assert await limits(house) == before
    assert b"held" in before
    assert await write_limits(house.store, registry, "f") == 0, "it is not the current registry any more"


async def test_executors_that_want_different_limits_do_not_write_them_in_turn(
    still_house: House, clock: VirtualClock
) -> None:
    """Of two versions, until one of them is gone; the other has its way then."""
    house = still_house
    await house.register(limited("event.data.b"))
    context = await house.hand().surroundings.context(ENV)
    ours = context.registry.functions["f"]
    queueing = msgspec.structs.replace(ours.queueing, signature="another")
    theirs = msgspec.structs.replace(ours, queueing=queueing)
    other = Registry(ENV, 0, context.registry.apps.values())
    other.functions["f"] = theirs
    mine, his = Limits(house.store), Limits(house.store)
    versions = set()

    async def see_to(limits: Limits, entry: FunctionEntry, registry: Registry) -> None:
        registry.version = await house.store.registry_version()
        await limits.see_to(
            entry, msgspec.structs.replace(context, now_ms=house.clock.now_ms(), registry=registry)
        )
        versions.add(await house.store.registry_version())

    for _ in range(20):
        await see_to(his, theirs, other)
        await see_to(mine, ours, context.registry)
        clock.ms += AGAIN_MS // 25
    assert len(versions) == 2
    assert await limits_are_written(house.store, ours)
    clock.ms += AGAIN_MS
    await see_to(his, theirs, other)
    assert await limits_are_written(house.store, theirs)
    await see_to(mine, ours, context.registry)
    assert await limits_are_written(house.store, ours)
