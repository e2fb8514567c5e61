"""Debounces and batches: events that wait for one another, and the one run that comes of them."""

import itertools
from collections.abc import Callable
from typing import Literal

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from innkeeper_engine.model.effects import Effect, Gather, Once, Skip, Start
from innkeeper_engine.model.guards import CursorGuard, GatherGuard, NoGuard
from innkeeper_engine.model.state import Gathered
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_house import check_leftovers
from tests.engine.model_runs import ENV, FN, commit, do, event_id, finish, lease, start
from tests.engine.model_server import read_shard

SLUG = FN.removeprefix(f"{ENV}/")
PERIOD_MS, CEILING_MS = 60_000, 150_000
MIB = 1 << 20


async def send(store: Store, event: int, *, size: int = 20) -> str:
    """The n-th event is stored, and routed so far as that nobody looks at it again."""
    body = b'{"name":"%b"}' % (b"x" * size)
    await store.append(ENV, [(event_id(event), "x", body)])
    peeked = await store.peek(1)
    assert peeked is not None
    await store.apply(CursorGuard(ENV, peeked.cursor, "", 1), [])
    return event_id(event)


def debounce(event: int, group: str = "d", *, ceiling_ms: int = 0) -> Gather:
    """The event takes the place of the one before."""
    return Gather("debounce", f"{FN}|{group}", ENV, FN, event_id(event), PERIOD_MS, ceiling_ms)


def batch(event: int, group: str = "b", *, most: int = 3) -> Gather:
    """The event joins the others."""
    return Gather("batch", f"{FN}|{group}", ENV, FN, event_id(event), PERIOD_MS, 0, most)


Key = Literal["idempotency", "once"]


def keyed(gather: Gather, key: Key, value: str, refused: tuple[Effect, ...] = ()) -> Gather:
    """Of an event whose sender chose its id, or of a function with a key of its own."""
    if key == "idempotency":
        return gather._replace(idempotency=value, refused=refused)
    return gather._replace(once=value, refused=refused)


async def gather(store: Store, effect: Gather) -> None:
    """The event comes and is taken in."""
    await send(store, int(effect.event[1:]))
    await do(store, effect)


async def gathered(store: Store) -> list[tuple[str, ...]]:
    """The events of all that is told to be due now, without anybody doing anything about it."""
    return [found.events for found in (await store.due()).gathered]


def run_of(found: Gathered, run: str = "run") -> Start:
    """The run of a gathering: its events are copied."""
    return start(run, announces=False)._replace(events=tuple((event, b"") for event in found.events))


async def let_go(store: Store, found: Gathered, run: str = "run") -> str:
    """Start the run of a gathering."""
    return (await store.apply(GatherGuard(found.id), [run_of(found, run)])).status


def ids(*events: int) -> tuple[str, ...]:
    """The ids of events."""
    return tuple(event_id(event) for event in events)


# ---- debounce


async def test_a_debounce_lets_the_last_event_go(timed: Store, clock: TestClock) -> None:
    """So long after it as was said; every event before puts it off."""
    for event in range(1, 4):
        await gather(timed, debounce(event))
        clock.now_ms += PERIOD_MS - 1
        assert await gathered(timed) == []
    assert (await timed.due()).next_ms == clock.now_ms + 1
    clock.now_ms += 1
    (found,) = (await timed.due()).gathered
    assert (found.kind, found.env, found.slug, found.events) == ("debounce", ENV, SLUG, ids(3))
    assert await let_go(timed, found) == "ok"
    summary = await timed.run("run")
    assert summary is not None
    assert (summary.status, summary.event_ids) == ("Scheduled", ids(3))


async def test_a_debounce_is_put_off_no_longer_than_its_ceiling(timed: Store, clock: TestClock) -> None:
    """Counted from its first event."""
    first_ms = clock.now_ms
    for event in range(1, 6):
        await gather(timed, debounce(event, ceiling_ms=CEILING_MS))
        clock.now_ms += PERIOD_MS // 2
        assert await gathered(timed) == ([] if event < 5 else [ids(5)])
    assert clock.now_ms == first_ms + CEILING_MS


async def test_an_event_that_comes_once_it_is_closed_opens_another(timed: Store, clock: TestClock) -> None:
    """Whether the first one's run has been made or not; its ceiling is counted anew."""
    await gather(timed, debounce(1, ceiling_ms=CEILING_MS))
    clock.now_ms += PERIOD_MS
    (first,) = (await timed.due()).gathered
    await gather(timed, debounce(2, ceiling_ms=CEILING_MS))
    assert await let_go(timed, first, "one") == "ok"
    clock.now_ms += PERIOD_MS - 1
    assert await gathered(timed) == []
    clock.now_ms += 1
    (second,) = (await timed.due()).gathered
    assert (first.events, second.events) == (ids(1), ids(2))
    assert first.id != second.id


async def test_groups_know_nothing_of_one_another(timed: Store, clock: TestClock) -> None:
    """Each value of a key has a debounce of its own, and so has each kind."""
    await gather(timed, debounce(1, "d1"))
    await gather(timed, debounce(2, "d2"))
    await gather(timed, batch(3))
    await do(timed, debounce(3, "d1"))
    clock.now_ms += PERIOD_MS
    assert sorted(await gathered(timed)) == [ids(2), ids(3), ids(3)]


@pytest.mark.parametrize("key", ["idempotency", "once"])
async def test_a_debounce_looks_whether_the_right_is_taken_and_takes_none(
    timed: Store, clock: TestClock, key: Key
) -> None:
    """Its run takes it, by the last event."""
    refused = (Skip("skipped", ENV, FN, "app", ids(9), "", "", b"{}"),)
    await gather(timed, keyed(debounce(1), key, "taken"))
    await gather(timed, keyed(debounce(2), key, "taken"))
    name = "idem" if key == "idempotency" else "once"
    assert f"{name}:taken" not in await read_shard(timed)
    await timed.command("SET", timed.key(f"{name}:taken"), "run", "EX", 86_400)
    await gather(timed, keyed(debounce(3), key, "taken", refused))
    summary = await timed.run("skipped")
    assert (summary is None) == (key == "idempotency")
    clock.now_ms += PERIOD_MS
    assert await gathered(timed) == [ids(2)]


# ---- batch


async def test_a_batch_lets_all_of_its_events_go(timed: Store, clock: TestClock) -> None:
    """In the order in which they came, so long after the first."""
    await gather(timed, batch(2))
    clock.now_ms += PERIOD_MS - 1
    await gather(timed, batch(1))
    assert await gathered(timed) == []
    clock.now_ms += 1
    (found,) = (await timed.due()).gathered
    assert (found.kind, found.env, found.slug, found.events) == ("batch", ENV, SLUG, ids(2, 1))
    assert await let_go(timed, found) == "ok"
    held = await lease(timed, "a")
    assert held.payload is not None
    assert (held.event_count, set(held.payload)) == (2, {"e:0", "e:1"})


async def test_a_full_batch_goes_at_once(timed: Store, clock: TestClock) -> None:
    """And wakes whoever makes its run; what comes then is in the next one."""
    for event in range(1, 6):
        await gather(timed, batch(event))
        if event == 3:
            assert await timed.command("LPOP", timed.key("wake")) is not None
    assert await gathered(timed) == [ids(1, 2, 3)]
    clock.now_ms += PERIOD_MS
    assert sorted(await gathered(timed)) == [ids(1, 2, 3), ids(4, 5)]


async def test_a_batch_has_ten_mebibytes_at_most(timed: Store, clock: TestClock) -> None:
    """What would not fit in is the first of the next; the older ones do not wait for it."""
    for event in range(1, 5):
        await send(timed, event, size=3 * MIB)
        await do(timed, batch(event, most=100))
    assert await gathered(timed) == [ids(1, 2, 3)]
    clock.now_ms += PERIOD_MS
    assert sorted(await gathered(timed)) == [ids(1, 2, 3), ids(4)]


@pytest.mark.parametrize("key", ["idempotency", "once"])
async def test_a_batch_takes_the_rights_of_its_events(timed: Store, clock: TestClock, key: Key) -> None:
    """At once, for a day, in the name of the batch: one with the same comes too late."""
    refused: tuple[Effect, ...] = (Skip("skipped", ENV, FN, "app", ids(2), "", "", b"{}"),)
    await gather(timed, keyed(batch(1), key, "taken"))
    await gather(timed, keyed(batch(2), key, "taken", refused))
    await gather(timed, keyed(batch(3), key, "other"))
    summary = await timed.run("skipped")
    assert (summary is None) == (key == "idempotency")
    clock.now_ms += PERIOD_MS
    (found,) = (await timed.due()).gathered
    assert found.events == ids(1, 3)
    right = (await read_shard(timed))["idem:taken" if key == "idempotency" else "once:taken"]
    assert right.value == found.id
    assert 86_000_000 < right.ttl_ms <= 86_400_000


async def test_an_event_that_was_sent_again_starts_no_run_beside_its_batch(timed: Store) -> None:
    """Also where the function is not batched any more: the rights are the batch's."""
    await gather(timed, batch(1)._replace(idempotency="taken", once="taken"))
    again = start("again", event=1)
    await do(timed, again._replace(idempotency="taken"))
    assert await timed.run("again") is None
    await do(timed, again._replace(rights=(Once("taken", 86_400_000, b"{}", b""),)))
    summary = await timed.run("again")
    assert summary is not None
    assert summary.status == "Skipped"


# ---- both


@pytest.mark.parametrize("make", [debounce, batch])
async def test_an_event_that_is_decided_on_again_is_gathered_once(
    timed: Store, clock: TestClock, make: Callable[[int], Gather]
) -> None:
    """While it is in, and when what it opened is closed; its rights are not refused by itself."""
    refused: tuple[Effect, ...] = (Skip("skipped", ENV, FN, "app", ids(1), "", "", b"{}"),)
    effect = keyed(make(1), "once", "mine", refused)
    await gather(timed, effect)
    clock.now_ms += PERIOD_MS // 2
    await do(timed, effect)
    clock.now_ms += PERIOD_MS // 2
    assert await gathered(timed) == [ids(1)], "not put off"
    await do(timed, effect)
    assert not [name for name in await read_shard(timed) if name.startswith("g:")], "nothing is open"
    clock.now_ms += 5_000
    assert await gathered(timed) == [ids(1)]
    assert await timed.run("skipped") is None


async def test_an_event_in_a_full_batch_is_not_refused_by_itself(timed: Store) -> None:
    """Decided on again, it finds its own key taken by the batch that it is in."""
    refused: tuple[Effect, ...] = (Skip("skipped", ENV, FN, "app", ids(1), "", "", b"{}"),)
    effects = [keyed(batch(event), "once", f"k{event}", refused) for event in range(1, 4)]
    for effect in effects:
        await gather(timed, effect)
    await do(timed, *effects)
    assert await timed.run("skipped") is None
    assert await gathered(timed) == [ids(1, 2, 3)]


@pytest.mark.parametrize("most", [2, 3, 4])
async def test_a_batch_that_may_be_no_larger_than_it_is_goes_before_the_next_event(
    timed: Store, clock: TestClock, most: int
) -> None:
    """Its function has a smaller `maxSize` now: nobody is handed more than that who may be handed it."""
    for event in range(1, 5):
        await gather(timed, batch(event, most=9))
    await gather(timed, batch(5, most=most))
    assert await gathered(timed) == [ids(1, 2, 3, 4)], "at once"
    clock.now_ms += PERIOD_MS
    assert sorted(await gathered(timed)) == [ids(1, 2, 3, 4), ids(5)]


async def test_a_batch_is_filled_up_to_a_smaller_size(timed: Store) -> None:
    """Where it has not reached that yet."""
    for event in (1, 2):
        await gather(timed, batch(event, most=9))
    await gather(timed, batch(3, most=3))
    assert await gathered(timed) == [ids(1, 2, 3)]


@pytest.mark.parametrize("make", [debounce, batch])
async def test_an_event_that_has_expired_is_not_gathered(timed: Store, make: Callable[[int], Gather]) -> None:
    """There is nothing to run with."""
    await do(timed, make(1))
    assert set(await read_shard(timed)) <= {"clock"}


async def test_events_are_kept_until_their_run_is_made(timed: Store, clock: TestClock) -> None:
    """However late somebody comes to make it; with the last of their gatherings the retention begins."""
    year_s, kept_s = 365 * 86_400, timed.settings.events_keep_s
    await timed.append(ENV, [(event_id(1), "x", b"{}")])
    await timed.apply(CursorGuard(ENV, 0, "", 1), [debounce(1), batch(1)])
    key = timed.key(f"ev:{ENV}:{event_id(1)}")
    assert await timed.command("TTL", key) > year_s
    clock.now_ms += PERIOD_MS
    one, other = (await timed.due()).gathered
    assert await let_go(timed, one, "one") == "ok"
    assert await timed.command("TTL", key) > year_s
    assert await let_go(timed, other, "other") == "ok"
    assert kept_s - 60 < await timed.command("TTL", key) <= kept_s
    assert f"eg:{ENV}" not in await read_shard(timed)


async def test_an_event_whose_place_another_takes_is_kept_no_longer_for_it(timed: Store) -> None:
    await gather(timed, debounce(1))
    await gather(timed, debounce(2))
    first, second = [await timed.command("TTL", timed.key(f"ev:{ENV}:{event_id(n)}")) for n in (1, 2)]
    assert first <= timed.settings.events_keep_s < second


async def test_what_another_version_has_gathered_is_let_go_all_the_same(
    timed: Store, clock: TestClock
) -> None:
    """It does not count who holds an event."""
    await gather(timed, batch(1))
    await timed.command("DEL", timed.key(f"eg:{ENV}"))
    clock.now_ms += PERIOD_MS
    (found,) = (await timed.due()).gathered
    assert await let_go(timed, found) == "ok"
    assert f"eg:{ENV}" not in await read_shard(timed)


@pytest.mark.parametrize("make", [debounce, batch])
async def test_a_run_is_made_once(timed: Store, clock: TestClock, make: Callable[[int], Gather]) -> None:
    """Two executors that were told of it: the second is refused, and nothing of the gathering is left."""
    await gather(timed, make(1))
    clock.now_ms += PERIOD_MS
    (found,) = (await timed.due()).gathered
    assert await let_go(timed, found) == "ok"
    assert await let_go(timed, found, "again") == "moved"
    assert await timed.run("again") is None
    clock.now_ms += PERIOD_MS
    await commit(timed, await lease(timed, "a"), finish())
    assert await gathered(timed) == []
    check_leftovers(await read_shard(timed))


async def test_what_is_not_due_cannot_be_let_go(timed: Store) -> None:
    """It is still open."""
    await gather(timed, batch(1))
    assert (await timed.apply(GatherGuard(f"{FN}|b#{event_id(1)}"), [])).status == "moved"
    assert (await timed.apply(GatherGuard("unknown"), [])).status == "moved"


async def test_a_gathering_that_nobody_dealt_with_comes_up_again(timed: Store, clock: TestClock) -> None:
    """Its executor died in between. Nothing is added to it meanwhile."""
    await gather(timed, batch(1))
    clock.now_ms += PERIOD_MS
    (found,) = (await timed.due()).gathered
    await gather(timed, batch(2))
    clock.now_ms += 4_999
    assert await gathered(timed) == []
    clock.now_ms += 1
    assert (await timed.due()).gathered == [found]
    await gather(timed, batch(3, most=9))
    clock.now_ms += PERIOD_MS - 5_000
    assert sorted(await gathered(timed)) == [ids(1), ids(2, 3)]
    assert await let_go(timed, found) == "ok"
    clock.now_ms += 5_000
    assert await gathered(timed) == [ids(2, 3)]


async def test_a_decision_on_an_older_registry_leaves_it_to_be_decided_again(
    timed: Store, clock: TestClock
) -> None:
    """A pause that was written before its run starts counts."""
    await gather(timed, batch(1))
    clock.now_ms += PERIOD_MS
    due = await timed.due()
    (found,) = due.gathered
    version = await timed.configure(ENV, functions=[(FN, "s", [])])
    assert version != due.registry
    applied = await timed.apply(GatherGuard(found.id), [run_of(found)], registry=due.registry)
    assert (applied.status, applied.registry) == ("moved", version)
    assert await timed.run("run") is None
    applied = await timed.apply(GatherGuard(found.id), [run_of(found)], registry=version)
    assert applied.status == "ok"


async def test_the_registry_is_a_condition_of_every_decision(timed: Store) -> None:
    """Where a version is given; also under no guard and with the first registry there is."""
    assert (await timed.apply(NoGuard(), [start("one")], registry=0)).status == "ok"
    version = await timed.configure(ENV, app="app", blob=b"{}")
    assert (await timed.apply(NoGuard(), [start("two", event=2)], registry=0)).status == "moved"
    assert (await timed.apply(NoGuard(), [start("two", event=2)], registry=version)).status == "ok"


async def test_many_that_are_due_come_in_portions_and_hold_up_nobody(timed: Store, clock: TestClock) -> None:
    """A reply tells of thirty-two; a timer that was due before those that are left is not behind them."""
    for event in range(150):
        await send(timed, event)
    await do(timed, *(batch(event, f"b{event}") for event in range(150)))
    clock.now_ms += PERIOD_MS
    await do(timed, start("late", event=200, due_ms=clock.now_ms + 10))
    clock.now_ms += 20
    await timed.command("DEL", timed.key("wake"))
    seen: list[tuple[str, ...]] = []
    leased: list[int] = []
    for expected in (32, 32, 32, 32, 22, 0):
        due = await timed.due(n=40, executor="X", tokens=["t"])
        assert len(due.gathered) == expected
        if len(seen) + expected < 150:
            assert await timed.command("LPOP", timed.key("wake")) is not None
        seen += [found.events for found in due.gathered]
        leased.append(len(due.leases))
    assert sorted(seen) == [ids(event) for event in range(150)]
    assert leased == [0, 0, 0, 1, 0, 0], "the fourth forty"


class Account:
    """Which events must be told of when, in plain words."""

    def __init__(self, clock: TestClock) -> None:
        self._clock = clock
        self._open: dict[str, tuple[int, int, tuple[str, ...]]] = {}
        """Group -> when it was opened, when it is due, its events."""
        self._closed: dict[tuple[str, ...], int] = {}
        """Events -> when they are told of."""

    def comes(self, group: str, event: str) -> None:
        """An event comes into a group: debounces' names begin with d."""
        now_ms = self._clock.now_ms
        first_ms, _, events = self._open.pop(group, (now_ms, 0, ()))
        if group.startswith("d"):
            self._open[group] = (first_ms, min(now_ms + PERIOD_MS, first_ms + CEILING_MS), (event,))
        elif len(events) == 3:
            self._closed[*events, event] = now_ms
        else:
            self._open[group] = (first_ms, first_ms + PERIOD_MS, (*events, event))

    def told(self) -> set[tuple[str, ...]]:
        """What somebody who looks now is told of; again five seconds later, unless a run is made of it."""
        now_ms = self._clock.now_ms
        for group, (_, due_ms, events) in list(self._open.items()):
            if due_ms <= now_ms:
                self._closed[events] = now_ms
                del self._open[group]
        found = {events for events, at in self._closed.items() if at <= now_ms}
        self._closed.update(dict.fromkeys(found, now_ms + 5_000))
        return found

    def done(self, events: tuple[str, ...]) -> None:
        """A run was made."""
        del self._closed[events]


@given(
    things=st.lists(
        st.one_of(
            st.tuples(st.just("event"), st.sampled_from(["d1", "d2", "b1", "b2"])),
            st.tuples(st.just("time"), st.sampled_from([1, 4_999, 20_000, PERIOD_MS // 2, PERIOD_MS])),
            st.tuples(st.just("crash"), st.sampled_from([0, 5_000, PERIOD_MS])),
        ),
        max_size=60,
    )
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_event_is_where_it_belongs_whatever_happens(
    timed: Store, clock: TestClock, things: list[tuple[str, str | int]]
) -> None:
    """Each batch has each of its events once, in order; a debounce its last; and each is told of in time."""
    account, life = Account(clock), next(_numbers)
    for kind, what in [*things, ("time", CEILING_MS), ("time", 5_000)]:
        if isinstance(what, str):
            number = next(_numbers)
            if what.startswith("d"):
                await gather(timed, debounce(number, f"{life}{what}", ceiling_ms=CEILING_MS))
            else:
                await gather(timed, batch(number, f"{life}{what}", most=4))
            account.comes(what, event_id(number))
            continue
        clock.now_ms += what
        due = await timed.due()
        assert {found.events for found in due.gathered} == account.told()
        for found in due.gathered if kind == "time" else ():
            assert await let_go(timed, found, f"r{next(_numbers)}") == "ok"
            account.done(found.events)
    assert not [name for name in await read_shard(timed) if name.startswith(("g:", "gh:", "ge:"))]


_numbers = itertools.count(1_000)
