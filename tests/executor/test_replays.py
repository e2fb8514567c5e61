"""Replays of many runs: page by page, each run once more and once only, whoever dies, behind what comes by itself."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from innkeeper_engine.decide.flow import CONSEQUENCES
from innkeeper_engine.model.clock import RandomIds
from innkeeper_engine.model.effects import MAX_EFFECTS, Effect
from innkeeper_engine.model.environments import Environment, Policy
from innkeeper_engine.model.functions import FunctionConfig
from innkeeper_engine.model.guards import Guard, NoGuard
from innkeeper_engine.model.replays import Replay, ReplayProgress, SetReplay
from innkeeper_engine.model.state import Applied, RunSummary
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_executor import replaying
from innkeeper_executor.replaying import Replays
from tests.executor.house import ENV, Hand, House, VirtualClock, function, output, soon
from tests.executor.many_runs import DeadError, do_all, find_due, interrupted, make_runs


async def replay(house: House, **fields: Any) -> str:
    """Ask for a replay as the API does; its id."""
    now_ms = house.clock.now_ms()
    made = Replay(
        **{
            "id": RandomIds().ulid(now_ms),
            "slug": "f",
            "app_id": "app",
            "function_id": "f",
            "until_ms": now_ms,
            "statuses": ("Cancelled",),
            "created_ms": now_ms,
            **fields,
        }
    )
    await house.store.apply(NoGuard(), [SetReplay(ENV, made.id, msgspec.json.encode(made), now_ms)])
    return made.id


def paused(slug: str) -> FunctionConfig:
    """A function that starts nothing."""
    return msgspec.structs.replace(function(slug), paused=True)


async def cancelled(house: House, hand: Hand, *numbers: int, name: str = "test/f") -> list[str]:
    """Runs that were made, one for each number, and cancelled."""
    runs = await make_runs(house, hand, *numbers, name=name)
    for run in runs:
        await house.cancel(run)
    return runs


async def replay_of_forty(house: House, clock: VirtualClock) -> tuple[Hand, str]:
    """A replay of forty runs is asked for; who may do it, and its id."""
    await house.register(function("f"))
    hand = house.hand()
    await cancelled(house, hand, *range(40))
    clock.ms += 1
    return hand, await replay(house)


async def made_by(house: House, replay_id: str) -> list[RunSummary]:
    """The runs that a replay has made."""
    found = [await house.store.run(run) for run in await house.store.recent_runs(ENV, 10_000)]
    return [run for run in found if run is not None and run.replay == replay_id]


async def progress(house: House, replay_id: str) -> ReplayProgress:
    """How far it is."""
    return await house.store.replay_progress(ENV, replay_id)


async def test_each_run_that_is_meant_is_run_once_more_also_where_an_executor_dies(
    still_house: House, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a page; what another function, status, time or event has is not meant."""
    monkeypatch.setattr(replaying, "PAGE", 50)
    house = still_house
    await house.register(function("f"), function("g"))
    hand, dead = house.hand(), house.hand()
    early = await cancelled(house, hand, 0)
    clock.ms += 1_000
    from_ms = clock.now_ms()
    runs = await cancelled(house, hand, *range(100))
    await cancelled(house, hand, 2, name="test/g")
    event = house.event("test/f", {"n": 2})
    await house.store.append(ENV, [event])
    await hand.route_all()
    clock.ms += 1_000
    replay_id = await replay(house, from_ms=from_ms, expression="event.data.n % 2 == 0")
    pieces = 0

    async def dying(guard: Guard, effects: Sequence[Effect], *, registry: int | None = None) -> Applied:
        nonlocal pieces
        pieces += 1
        applied = await house.store.apply(guard, effects, registry=registry)
        if pieces == 2:
            raise DeadError
        return applied

    with pytest.raises(DeadError):
        await Replays(house.store, dead.surroundings, dying).go_on(ENV, replay_id)
    halfway = await progress(house, replay_id)
    assert (halfway.phase, halfway.revision) == ("running", 2)
    assert 0 < halfway.replayed <= 32 <= halfway.looked < 50
    assert (await find_due(hand)).replays == [], "somebody works on it"
    clock.ms += replaying.UNFINISHED_MS
    await do_all(hand)
    done = await progress(house, replay_id)
    assert (done.phase, done.looked, done.replayed, done.unavailable) == ("done", 102, 50, 0)
    made = await made_by(house, replay_id)
    assert sorted(run.of for run in made) == sorted(runs[::2])
    assert early[0] not in {run.of for run in made}
    assert {run.status for run in made} == {"Scheduled"}
    assert await house.store.run_payload(made[0].id, "e:0") == await house.store.run_payload(
        made[0].of, "e:0"
    )


async def test_two_who_work_on_one_page_make_each_run_once(still_house: House, clock: VirtualClock) -> None:
    """And count it once."""
    house = still_house
    hand, replay_id = await replay_of_forty(house, clock)
    other = house.hand()
    late = interrupted(house, 1, lambda: other.replays.go_on(ENV, replay_id))
    await Replays(house.store, hand.surroundings, late).go_on(ENV, replay_id)
    found = await progress(house, replay_id)
    assert (found.phase, found.looked, found.replayed) == ("done", 40, 40)
    assert len({run.of for run in await made_by(house, replay_id)}) == 40


async def test_what_a_replay_makes_is_not_run_once_more_by_it(
    still_house: House, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the clock that made its window is ahead; and where runs of its last place in the list are gone."""
    monkeypatch.setattr(replaying, "PAGE", 2)
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    runs = await cancelled(house, hand, 1, 2, 3)
    replay_id = await replay(house, until_ms=clock.now_ms() + 60_000)
    await hand.chores()
    for run in await made_by(house, replay_id):
        await house.cancel(run.id)
    last = (await progress(house, replay_id)).last
    await house.store.command("ZREM", house.store.key(f"runs:{ENV}"), last)
    await do_all(hand)
    made = await made_by(house, replay_id)
    assert sorted(run.of for run in made) == sorted(runs)
    assert (await progress(house, replay_id)).phase == "done"


async def test_a_replay_waits_while_the_function_starts_nothing(
    still_house: House, clock: VirtualClock
) -> None:
    """Paused or gone: nothing is recorded as skipped, and it goes on afterwards."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    await cancelled(house, hand, 1)
    clock.ms += 1
    await house.register(paused("f"))
    replay_id = await replay(house)
    assert await do_all(hand) == 1
    found = await progress(house, replay_id)
    assert (found.phase, found.why) == ("waiting", "paused")
    await house.register(function("g"))
    clock.ms += replaying.HELD_MS
    assert await do_all(hand) == 1
    assert (await progress(house, replay_id)).why == "gone"
    await house.register(function("f"))
    clock.ms += replaying.HELD_MS
    await do_all(hand)
    assert [run.status for run in await made_by(house, replay_id)] == ["Scheduled"]
    assert (await progress(house, replay_id)).why == ""


async def test_a_replay_that_waits_longer_than_runs_are_kept_is_still_there(
    still_house: House, clock: VirtualClock
) -> None:
    """It has not been finished: a function may be paused for weeks."""
    house = still_house
    await house.register(paused("f"))
    hand = house.hand()
    replay_id = await replay(house)
    clock.ms += 2 * house.store.settings.runs_keep_s * 1000
    assert await do_all(hand) == 1
    assert (await progress(house, replay_id)).phase == "waiting"
    await house.register(function("f"))
    clock.ms += replaying.HELD_MS
    await do_all(hand)
    assert (await progress(house, replay_id)).phase == "done"


async def test_a_run_whose_event_cannot_be_read_keeps_no_other_from_being_replayed(
    still_house: House, clock: VirtualClock
) -> None:
    """It is counted with those of which nothing is kept."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    runs = await cancelled(house, hand, 1, 2)
    await house.store.command("HSET", house.store.key(f"pl:{runs[0]}"), "e:0", b"z99\nnothing")
    clock.ms += 1
    replay_id = await replay(house)
    await do_all(hand)
    found = await progress(house, replay_id)
    assert (found.phase, found.replayed, found.unavailable) == ("done", 1, 1)


async def test_a_function_that_is_paused_in_the_middle_of_a_page_starts_no_more(
    still_house: House, clock: VirtualClock
) -> None:
    """What the page has left is done when it goes on."""
    house = still_house
    hand, replay_id = await replay_of_forty(house, clock)
    pausing = interrupted(house, 2, lambda: house.register(paused("f")))
    await Replays(house.store, hand.surroundings, pausing).go_on(ENV, replay_id)
    assert {run.status for run in await made_by(house, replay_id)} == {"Scheduled"}
    assert (await progress(house, replay_id)).replayed == 16
    await house.register(function("f"))
    clock.ms += replaying.UNFINISHED_MS
    await do_all(hand)
    assert (await progress(house, replay_id)).replayed == 40


async def test_a_replay_is_behind_what_comes_by_itself(
    still_house: House, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many runs of the function in the queue it waits until some have begun."""
    monkeypatch.setattr(replaying, "MOST_QUEUED", 2)
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    await cancelled(house, hand, 1)
    clock.ms += 1
    await house.store.append(ENV, [house.event("test/f", {"n": n}) for n in (2, 3)])
    await hand.route_all()
    replay_id = await replay(house)
    assert await do_all(hand) == 1
    assert (await progress(house, replay_id)).why == "queue"
    assert await hand.due(1) == 1
    clock.ms += replaying.QUEUE_MS
    await do_all(hand)
    assert len(await made_by(house, replay_id)) == 1
    hand.worker.stop_accepting()
    (await hand.driver.arrival()).answer(output())
    await soon(hand.worker.wait_until_idle())


async def test_a_replay_that_is_stopped_makes_no_more(still_house: House, clock: VirtualClock) -> None:
    """Not even the rest of the page that somebody is at."""
    house = still_house
    hand, replay_id = await replay_of_forty(house, clock)
    stopped = interrupted(house, 2, lambda: house.store.apply(NoGuard(), [SetReplay(ENV, replay_id, b"", 0)]))
    await Replays(house.store, hand.surroundings, stopped).go_on(ENV, replay_id)
    assert len(await made_by(house, replay_id)) == 16
    clock.ms += 60_000
    assert await do_all(hand) == 0
    assert await house.store.command("KEYS", house.store.key("rp*")) == []


async def test_what_was_skipped_runs_with_its_event_and_what_has_none_is_counted(
    still_house: House, clock: VirtualClock
) -> None:
    """A skipped run has no payload; of another one nothing is kept any more."""
    house = still_house
    await house.register(paused("f"))
    hand = house.hand()
    events = [house.event("test/f", {"n": n}) for n in (1, 2)]
    await house.store.append(ENV, events)
    await hand.route_all()
    await house.register(function("f"))
    clock.ms += 1
    await house.store.command("DEL", house.store.key(f"ev:{ENV}:{events[0][0]}"))
    replay_id = await replay(house, statuses=("Skipped", "Failed"))
    await do_all(hand)
    (made,) = await made_by(house, replay_id)
    assert made.event_ids == (events[1][0],)
    found = await progress(house, replay_id)
    assert (found.replayed, found.unavailable) == (1, 1)


async def test_large_events_come_a_few_at_a_time(still_house: House, clock: VirtualClock) -> None:
    """No reply of the store holds more than a few megabytes."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()
    events = [house.event("test/f", {"n": n, "large": "x" * 1_500_000}) for n in range(8)]
    for event in events:
        await house.store.append(ENV, [event])
        await hand.route_all()
        for run in await house.started(event[0]):
            await house.cancel(run)
    clock.ms += 1
    replay_id = await replay(house)
    assert await do_all(hand) == 3
    found = await progress(house, replay_id)
    assert (found.looked, found.replayed) == (8, 8)


async def test_a_replay_that_is_done_is_shown_as_long_as_runs_are_kept(
    still_house: House, clock: VirtualClock
) -> None:
    """In its environment, from its end on. And forgotten then."""
    house = still_house
    keep_s = house.store.settings.runs_keep_s + 3_600
    await EnvironmentStore(house.store).write(Environment(name=ENV, policy=Policy(runs_keep_s=keep_s)))
    await house.register(function("f"))
    hand = house.hand()
    replay_id = await replay(house, until_ms=clock.now_ms() + 1, created_ms=clock.now_ms() - keep_s * 1000)
    assert await do_all(hand) == 1
    clock.ms += keep_s * 1000 - 1
    assert await do_all(hand) == 0
    assert list(await house.store.replays(ENV)) == [replay_id]
    clock.ms += 1
    assert await do_all(hand) == 1
    assert await house.store.replays(ENV) == {}
    assert await house.store.command("KEYS", house.store.key("rp*")) == []


async def test_a_replay_of_a_later_version_is_left_to_it(still_house: House) -> None:
    """It stays."""
    house = still_house
    hand = house.hand()
    await house.store.apply(NoGuard(), [SetReplay(ENV, "X", b'{"new":1}', 1)])
    assert await hand.chores() == 1
    assert list(await house.store.replays(ENV)) == ["X"]


async def test_executors_replay_by_themselves(house: House) -> None:
    """As soon as it is asked for."""
    await house.register(function("f"))
    await cancelled(house, house.hand(), 1)
    await house.start_executor()
    replay_id = await replay(house, until_ms=house.clock.now_ms() + 1_000)
    request = await house.driver.arrival()
    request.answer(output())
    line = await house.run_ended(request.call.run_id)
    assert (line.status, [run.id for run in await made_by(house, replay_id)]) == ("Completed", [line.run])


def test_one_commit_holds_what_a_portion_of_a_replay_comes_to() -> None:
    """A start, a cancellation, a note per option of which the key gave nothing, and what the run is."""
    assert replaying.AT_ONCE * (3 + len(CONSEQUENCES)) + 1 <= MAX_EFFECTS
