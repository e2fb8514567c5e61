"""Cancellations of many runs: those that are there, page by page, and those that begin later."""

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import pytest

from innkeeper_engine.model.cancellations import Cancellation
from innkeeper_engine.model.clock import RandomIds
from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.guards import Guard, NoGuard, SweepGuard
from innkeeper_engine.model.state import Applied
from innkeeper_engine.registering import KEPT_MS
from innkeeper_executor import sweeping
from innkeeper_executor.sweeping import Sweeps
from tests.executor.house import ENV, Hand, House, VirtualClock, function, ops, output, sleep, soon
from tests.executor.many_runs import DeadError, do_all, find_due, interrupted, make_runs

HOUR_MS = 3_600_000


async def cancel(house: House, **fields: Any) -> str:
    """Ask for a cancellation as the API does; its id."""
    now_ms = house.clock.now_ms()
    made = Cancellation(
        **{
            "id": RandomIds().ulid(now_ms),
            "slug": "f",
            "before_ms": now_ms + HOUR_MS,
            "created_ms": now_ms,
            **fields,
        }
    )
    await house.store.configure(ENV, cancellations=[(made.id, msgspec.json.encode(made), now_ms)])
    return made.id


async def statuses(house: House, runs: Sequence[str]) -> list[str]:
    """The status of each run."""
    return [await house.status(run) for run in runs]


async def why(house: House, run: str) -> str:
    """Why a run was cancelled, by the note on its way to its history."""
    entries = await house.store.command("XRANGE", house.store.key("hist"), "-", "+")
    notes = [orjson.loads(fields[3]) for _, fields in entries if fields[1].decode() == run]
    return str(next(note["why"] for note in notes if note["type"] == "cancelled"))


async def test_a_thousand_runs_are_looked_through_also_where_an_executor_dies(
    still_house: House, clock: VirtualClock
) -> None:
    """In the middle of a page; those that the condition spares go on."""
    house = still_house
    await house.register(function("f"), function("g"))
    hand, dead = house.hand(), house.hand()
    runs = await make_runs(house, hand, *range(1_000))
    (other,) = await make_runs(house, hand, 1, name="test/g")
    # Some have begun: they are in the second phase.
    assert await hand.due() == 64
    begun = [await hand.driver.arrival() for _ in range(64)]
    cancellation = await cancel(house, expression="event.data.n % 2 == 0")

    async def die() -> None:
        raise DeadError

    assert (await find_due(dead)).sweeps == [(ENV, cancellation)]
    sweeps = Sweeps(house.store, dead.surroundings, interrupted(house, 8, die))
    await sweeps.go_on(ENV, cancellation)
    with pytest.raises(DeadError):
        await sweeps.go_on(ENV, cancellation)
    halfway = await house.store.sweep(ENV, cancellation)
    assert (halfway.revision, halfway.phase) == (1, "queued")
    assert 0 < halfway.cancelled < halfway.looked
    clock.ms += 5_000
    assert await do_all(hand) >= 4
    found = dict(zip(runs, await statuses(house, runs), strict=True))
    assert {found[run] for n, run in enumerate(runs) if n % 2 == 0} == {"Cancelled"}
    assert {found[run] for n, run in enumerate(runs) if n % 2} == {"Scheduled", "Running"}
    assert await house.status(other) in ("Scheduled", "Running")
    done = await house.store.sweep(ENV, cancellation)
    assert (done.phase, done.looked >= 900) == ("done", True)
    assert await why(house, runs[0]) == "bulk"
    hand.worker.stop_accepting()
    for request in begun:
        request.answer(output())
    await soon(hand.worker.wait_until_idle())


async def test_a_page_that_two_look_through_is_counted_once(still_house: House) -> None:
    """They do the same, and the second one's word comes too late."""
    house = still_house
    await house.register(function("f"))
    hand, other = house.hand(), house.hand()
    runs = await make_runs(house, hand, *range(10))
    cancellation = await cancel(house)
    seen: list[Guard] = []

    async def overtaken(guard: Guard, effects: Sequence[Effect], *, registry: int | None = None) -> Applied:
        if isinstance(guard, SweepGuard) and not seen:
            seen.append(guard)
            await other.sweeps.go_on(ENV, cancellation)
        return await house.store.apply(guard, effects, registry=registry)

    for each in (hand, other):
        await find_due(each)
    await Sweeps(house.store, hand.surroundings, overtaken).go_on(ENV, cancellation)
    sweep = await house.store.sweep(ENV, cancellation)
    assert (sweep.revision, sweep.phase, sweep.looked, sweep.cancelled) == (1, "begun", 0, 0)
    assert set(await statuses(house, runs)) == {"Cancelled"}


async def test_runs_that_begin_later_in_the_window_are_cancelled_as_they_start(
    still_house: House, clock: VirtualClock
) -> None:
    """Before anybody is called; not those before or after it, nor those of which the condition is not true."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    now_ms = clock.now_ms()
    cancellation = await cancel(
        house, after_ms=now_ms + 1_000, before_ms=now_ms + 2_000, expression="event.data.n == 1"
    )
    early = await make_runs(house, hand, 1)
    assert await do_all(hand) == 3
    clock.ms += 1_000
    inside, spared = await make_runs(house, hand, 1), await make_runs(house, hand, 2)
    clock.ms += 1_000
    late = await make_runs(house, hand, 1)
    assert await statuses(house, early + inside + spared + late) == [
        "Scheduled",
        "Cancelled",
        "Scheduled",
        "Scheduled",
    ]
    assert await why(house, inside[0]) == "bulk"
    assert await house.store.run_payload(inside[0], "e:0") != [None]
    assert (await house.store.sweep(ENV, cancellation)).cancelled == 0


@pytest.mark.parametrize("is_there", [False, True], ids=["later", "there"])
async def test_a_run_counts_from_the_receipt_of_its_event(
    still_house: House, clock: VirtualClock, is_there: bool
) -> None:
    """Whether it starts under the cancellation or is swept: routed late, it is in the window it would have been in."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    event = house.event("test/f", {"n": 1})
    await house.store.append(ENV, [event])
    received_ms = clock.now_ms()
    clock.ms += 5_000
    if is_there:
        await hand.route_all()
    await cancel(house, after_ms=received_ms + 1, before_ms=received_ms + HOUR_MS)
    await do_all(hand)
    await hand.route_all()
    runs = await house.started(event[0])
    assert await statuses(house, runs) == ["Scheduled"], "received before the window"
    if is_there:
        await cancel(house, after_ms=received_ms, before_ms=received_ms + 1)
        await do_all(hand)
        assert await statuses(house, runs) == ["Cancelled"]


async def test_a_run_that_starts_as_the_cancellation_is_written_is_not_missed(still_house: House) -> None:
    """Either the router knows of it, or the run is there when it is swept."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    await hand.surroundings.context(ENV)
    await house.send("test/f")
    apply = hand.router._apply
    written: list[str] = []

    async def late(guard: Guard, effects: Sequence[Effect], *, registry: int | None = None) -> Applied:
        if not written:
            written.append(await cancel(house))
        return await apply(guard, effects, registry=registry)

    hand.router._apply = late
    await hand.route_all()
    (run,) = await house.store.recent_runs(ENV, 9)
    assert await house.status(run) == "Cancelled"


async def test_a_cancellation_that_is_over_is_shown_for_the_retention_and_forgotten(
    still_house: House, clock: VirtualClock
) -> None:
    """As long as its window is open, and then."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    cancellation = await cancel(house)
    assert await do_all(hand) == 3
    clock.ms += HOUR_MS + house.store.settings.runs_keep_s * 1000 - 1
    assert await hand.chores() == 0
    assert list(await house.store.cancellations(ENV)) == [cancellation]
    clock.ms += 1
    assert await hand.chores() == 1
    assert await house.store.cancellations(ENV) == {}
    assert await hand.chores() == 0
    assert await house.store.command("KEYS", house.store.key("swp:*")) == []


async def test_a_cancellation_that_is_deleted_cancels_nothing_more(still_house: House) -> None:
    """Not even the rest of the page that somebody is at."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    runs = await make_runs(house, hand, *range(100))
    cancellation = await cancel(house)
    pieces: list[int] = []

    async def deleted(guard: Guard, effects: Sequence[Effect], *, registry: int | None = None) -> Applied:
        if isinstance(guard, NoGuard) and pieces:
            await house.store.configure(ENV, cancellations=[(cancellation, b"", 0)])
        pieces.append(len(effects))
        return await house.store.apply(guard, effects, registry=registry)

    assert (await find_due(hand)).sweeps == [(ENV, cancellation)]
    await Sweeps(house.store, hand.surroundings, deleted).go_on(ENV, cancellation)
    assert pieces == [64, 36]
    assert sorted(await statuses(house, runs)).count("Cancelled") == 64
    assert await hand.chores() == 0
    await hand.sweeps.go_on(ENV, cancellation)
    assert await house.store.command("KEYS", house.store.key("swp:*")) == []


async def test_runs_with_large_events_are_looked_at_a_few_at_a_time(still_house: House) -> None:
    """Where the condition is about them; otherwise nobody reads them."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    events = [house.event("test/f", {"n": n, "large": "x" * 1_500_000}) for n in range(8)]
    for event in events:
        await house.store.append(ENV, [event])
        await hand.route_all()
    runs = [run for event_id, _, _ in events for run in await house.started(event_id)]
    read: list[tuple[int, bool]] = []
    real = house.store.run_heads

    async def watched(wanted: Sequence[str], *, events: bool = True) -> Any:
        heads = await real(wanted, events=events)
        read.append((len(heads), events))
        return heads

    house.store.run_heads = watched  # type: ignore[method-assign, assignment]
    await cancel(house, expression="event.data.n < 4")
    await do_all(hand)
    assert (await statuses(house, runs)).count("Cancelled") == 4
    assert sum(count for count, _ in read) == 8
    assert len(read) > 1
    read.clear()
    await cancel(house)
    await do_all(hand)
    assert set(await statuses(house, runs)) == {"Cancelled"}
    assert read == [(4, False)]


async def test_runs_that_ended_without_a_word_are_taken_off_the_list(still_house: House) -> None:
    """An older version ends runs so."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    runs = await make_runs(house, hand, *range(3))
    await house.store.command("DEL", house.store.key(f"st:{runs[0]}"))
    cancellation = await cancel(house)
    await do_all(hand)
    assert (await house.store.sweep(ENV, cancellation)).looked == 2
    assert await house.store.live_runs(ENV, ["f"]) == {"f": 0}


async def test_a_cancellation_of_a_later_version_is_left_to_it(
    still_house: House, clock: VirtualClock
) -> None:
    """It stays, and comes up again."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    runs = await make_runs(house, hand, 1)
    await house.store.configure(ENV, cancellations=[("X", b'{"new":1}', 1)])
    assert await hand.chores() == 1
    assert await hand.chores() == 0
    clock.ms += 5_000
    assert await hand.chores() == 1
    assert list(await house.store.cancellations(ENV)) == ["X"]
    assert await statuses(house, runs) == ["Scheduled"]


async def test_executors_sweep_by_themselves(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page after page at once; a request in flight is aborted, and its slot is the next one's when it has stopped."""
    monkeypatch.setattr(sweeping, "PAGE", 10)
    await house.register(function("f", concurrency=1))
    runs = await make_runs(house, house.hand(), *range(300))
    await house.start_executor()
    request = await house.driver.arrival()
    request.may_stop.clear()
    try:
        cancellation = await cancel(house, expression="event.data.n != 299", created_ms=1)
        await soon(request.aborted.wait())
        await soon(until_swept(house, cancellation))
        assert await house.slots("f") == 1
        assert house.driver.nothing_arrived
    finally:
        request.may_stop.set()
    last = await house.driver.arrival()
    assert last.call.run_id == runs[-1]
    last.answer(output())
    await house.run_ended(runs[-1])
    assert (await statuses(house, runs)).count("Cancelled") == 299


async def until_swept(house: House, cancellation: str) -> None:
    """Until all runs have been looked at; a key that nobody writes times the wait, on the server."""
    while (await house.store.sweep(ENV, cancellation)).phase != "done":
        await house.store.command("BLPOP", house.store.key("nothing"), 0.02)


# ---- functions that are gone


async def asleep(house: House, hand: Hand) -> str:
    """A run of `f` that sleeps for a second."""
    (run,) = await make_runs(house, hand, 1)
    assert await hand.due() == 1
    (await hand.driver.arrival()).answer(ops(sleep("z", "1s")))
    await soon(hand.worker.wait_until_idle())
    return run


async def test_what_a_function_that_is_gone_has_begun_is_cancelled_ten_minutes_later(
    still_house: House, clock: VirtualClock
) -> None:
    """Until then it waits; afterwards nothing of the function is left."""
    house = still_house
    await house.register(function("f", concurrency=3), function("g"))
    hand = house.hand()
    run, (queued,) = await asleep(house, hand), await make_runs(house, hand, 2)
    (other,) = await make_runs(house, hand, 1, name="test/g")
    await house.register(function("g"))
    clock.ms += KEPT_MS - 1
    assert await hand.chores() == 0
    assert await statuses(house, [run, queued]) == ["Running", "Scheduled"]
    assert await hand.due() == 1
    request = await hand.driver.arrival()
    assert request.call.run_id == other
    request.answer(output())
    await soon(hand.worker.wait_until_idle())
    clock.ms += 1
    assert await do_all(hand) == 3
    assert await statuses(house, [run, queued]) == ["Cancelled", "Cancelled"]
    assert {await why(house, each) for each in (run, queued)} == {"function"}
    assert await house.store.cancellations(ENV) == {}
    assert await house.store.command("KEYS", house.store.key("f:*")) == []
    assert await hand.chores() == 0


async def test_a_function_that_comes_back_in_time_goes_on_where_it_was(
    still_house: House, clock: VirtualClock
) -> None:
    """Nothing is cancelled later."""
    house = still_house
    await house.register(function("f"), function("g"))
    hand = house.hand()
    run = await asleep(house, hand)
    await house.register(function("g"))
    clock.ms += KEPT_MS - 1
    assert await hand.due() == 0
    await house.register(function("f"), function("g"))
    clock.ms += KEPT_MS
    assert await hand.chores() == 0
    await hand.due()
    request = await hand.driver.arrival()
    assert (request.call.run_id, request.call.stack, request.call.attempt) == (run, ("z",), 0)
    request.answer(output())
    await soon(hand.worker.wait_until_idle())
    assert await house.status(run) == "Completed"


async def test_a_function_that_comes_back_at_the_last_moment_goes_on(
    still_house: House, clock: VirtualClock
) -> None:
    """While somebody is about to cancel its runs."""
    house = still_house
    await house.register(function("f"), function("g"))
    hand = house.hand()
    (run,) = await make_runs(house, hand, 1)
    await house.register(function("g"))
    clock.ms += KEPT_MS
    ((_, gone),) = (await find_due(hand)).sweeps

    back = interrupted(house, 1, lambda: house.register(function("f"), function("g")))
    await Sweeps(house.store, hand.surroundings, back).go_on(ENV, gone)
    assert await house.store.cancellations(ENV) == {}
    assert await house.status(run) == "Scheduled"
    assert await hand.due() == 1
    (await hand.driver.arrival()).answer(output())
    await soon(hand.worker.wait_until_idle())


async def test_a_function_that_comes_back_after_its_runs_were_cancelled_begins_anew(
    still_house: House, clock: VirtualClock
) -> None:
    """Also where somebody takes the last of it away in this moment."""
    house = still_house
    await house.register(function("f"), function("g"))
    hand = house.hand()
    (run,) = await make_runs(house, hand, 1)
    await house.register(function("g"))
    clock.ms += KEPT_MS
    for _ in range(2):
        assert await hand.chores() == 1
    ((_, gone),) = (await find_due(hand)).sweeps
    context = await hand.surroundings.context(ENV)
    await house.register(function("f", concurrency=1), function("g"))
    sweep = await house.store.sweep(ENV, gone)
    await hand.sweeps._end(ENV, context.registry.cancellations[gone], sweep, context)
    assert await house.status(run) == "Cancelled"
    assert await house.store.cancellations(ENV) == {}
    assert await house.store.command("HGETALL", house.store.key(f"f:{ENV}/f")) == [b"c", b"1"]
    (after,) = await make_runs(house, hand, 2)
    assert await hand.due() == 1
    request = await hand.driver.arrival()
    assert request.call.run_id == after
    request.answer(output())
    await soon(hand.worker.wait_until_idle())


async def test_the_end_of_a_function_that_an_older_version_brought_back_is_void(still_house: House) -> None:
    """It knows of no such thing, and takes nothing away."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    runs = await make_runs(house, hand, 1)
    await cancel(house, why="function")
    assert await do_all(hand) == 1
    assert await statuses(house, runs) == ["Scheduled"]
    assert await house.store.cancellations(ENV) == {}


async def test_a_run_whose_event_cannot_be_read_keeps_no_other_from_being_cancelled(
    still_house: House,
) -> None:
    """No condition holds for it, so it is spared; without a condition nobody asks for its event."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    runs = await make_runs(house, hand, 1, 2)
    await house.store.command("HSET", house.store.key(f"pl:{runs[0]}"), "e:0", b"z99\nnothing")
    await cancel(house, expression="event.data.n > 0 || true")
    await do_all(hand)
    assert await statuses(house, runs) == ["Scheduled", "Cancelled"]
    await cancel(house)
    await do_all(hand)
    assert await statuses(house, runs) == ["Cancelled", "Cancelled"]
