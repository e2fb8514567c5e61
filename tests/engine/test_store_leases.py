"""Leases: whose commit counts, what becomes of an executor that is gone."""

import pytest

from innkeeper_engine.model.effects import Discover, Retry, Touch
from innkeeper_engine.model.guards import KeepGuard, LeaseGuard, LiveGuard
from innkeeper_engine.store.store import Store
from tests.conftest import OpenStore
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import (
    begin,
    cancel,
    commit,
    do,
    finish,
    lease,
    nothing_to_lease,
    plan_and_lease,
    results,
    saved,
    start,
)
from tests.engine.model_server import read_shard


async def test_a_commit_counts_once(store: Store) -> None:
    """Sent again because its answer got lost, it is refused."""
    held = await begin(store)
    assert (await commit(store, held, saved("a", b"1"))).status == "ok"
    assert (await commit(store, held, saved("a", b"2"), finish())).status == "lost"
    assert await results(store) == {"a": b"1"}
    assert await store.is_live("run")


async def test_a_retry_is_not_committed_twice(store: Store) -> None:
    """The item waits without a token then."""
    held = await begin(store)
    await commit(store, held, Retry(held.item, 1, 0))
    assert (await commit(store, held, Retry(held.item, 1, 0))).status == "lost"
    assert (await lease(store, "b")).attempt == 1


async def test_the_commit_of_another_token_is_refused_as_a_whole(store: Store) -> None:
    """None of its effects happens."""
    held = await begin(store)
    refused = await store.apply(LeaseGuard(held.item, "not its token", 0), [saved("a"), finish()])
    assert (refused.status, await results(store), await store.is_live("run")) == ("lost", {}, True)
    assert (await store.apply(LeaseGuard("no such item", "t", 0), [])).status == "lost"


async def test_a_commit_on_an_older_picture_is_stale(store: Store) -> None:
    """A checkpoint came in between: the answer says where the item is now, nothing is done, the lease stays."""
    held = await begin(store)
    kept = await store.apply(KeepGuard(held.item, held.token), [saved("a", go=False), Touch(held.item)])
    assert kept.status == "ok"
    stale = await commit(store, held, finish())
    assert (stale.status, stale.seen, stale.attempt, stale.step_count) == ("stale", 1, 0, 1)
    assert stale.state_bytes > 0
    held.seen = stale.seen
    assert (await commit(store, held, finish())).status == "ok"


async def test_a_checkpoint_starts_the_attempts_anew(store: Store) -> None:
    """What failed before it is over."""
    held = await begin(store)
    await commit(store, held, Retry(held.item, 3, 0))
    again = await lease(store, "b")
    assert again.attempt == 3
    await store.apply(KeepGuard(again.item, again.token), [Touch(again.item)])
    assert (await commit(store, again, Retry(again.item, 4, 0))).attempt == 0


async def test_a_checkpoint_of_another_dispatch_is_refused(store: Store) -> None:
    """Generations count the dispatches of an item; 0 asks for none."""
    held = await begin(store)
    for generation, status in [(1, "ok"), (2, "lost"), (0, "ok")]:
        guard = KeepGuard(held.item, held.token, 0, generation)
        assert (await store.apply(guard, [])).status == status


async def test_a_checkpoint_beyond_the_limits_of_the_run_does_nothing(store: Store) -> None:
    """Steps that have a result already are not counted twice."""
    held = await begin(store)
    guard = KeepGuard(held.item, held.token)
    assert (await store.apply(guard, [saved("a", go=False)], most=(1, 10**6))).status == "ok"
    assert (await store.apply(guard, [saved("a", go=False)], most=(1, 10**6))).status == "ok"
    full = await store.apply(guard, [saved("b", go=False)], most=(1, 10**6))
    assert (full.status, full.step_count) == ("full", 2)
    assert set(await results(store)) == {"a"}


async def test_a_lease_that_runs_out_goes_back(timed: Store, clock: TestClock) -> None:
    """The item is leased again with its attempt, and remembers that it was lost; the old commit is refused."""
    held = await begin(timed)
    clock.now_ms += timed.settings.lease_ms
    due = await timed.due()
    assert due.expired == 1
    again = await lease(timed, "again", "Y")
    assert (again.item, again.attempt, again.expiries, again.generation) == (held.item, 0, 1, 2)
    assert (await commit(timed, held, finish())).status == "lost"
    await commit(timed, again, Retry(again.item, 1, 0))
    assert (await lease(timed, "third")).expiries == 0


async def test_a_heartbeat_keeps_a_lease(timed: Store, clock: TestClock) -> None:
    """All leases of an executor in one call."""
    held = await begin(timed)
    for _ in range(3):
        clock.now_ms += timed.settings.lease_ms - 1
        assert await timed.beat([(held.item, held.token)]) == ([], [])
        assert (await timed.due()).expired == 0


async def test_a_heartbeat_does_not_revive_a_lease(timed: Store, clock: TestClock) -> None:
    """After its end, it says that the lease is lost; an ended run, that it is over."""
    await do(timed, start("one"), start("two", event=2))
    one, two = await lease(timed, "t1"), await lease(timed, "t2")
    clock.now_ms += timed.settings.lease_ms // 2
    await timed.beat([(two.item, two.token)])
    await do(timed, cancel("two"))
    clock.now_ms += timed.settings.lease_ms // 2
    await timed.due()
    assert await timed.beat([(one.item, one.token), (two.item, two.token)]) == ([one.token], [two.token])
    assert not await nothing_to_lease(timed)


async def test_a_checkpoint_extends_a_lease_no_further_than_its_executor_asked(
    open_store: OpenStore, clock: TestClock
) -> None:
    """Another process may have other settings; who died must not be waited for longer."""
    store = await open_store(clock_ms=clock)
    held = await begin(store)
    clock.now_ms += store.settings.lease_ms - 1
    await store.apply(KeepGuard(held.item, held.token, 10 * store.settings.lease_ms), [])
    clock.now_ms += store.settings.lease_ms - 1
    assert (await store.due()).expired == 0
    clock.now_ms += 1
    assert (await store.due()).expired == 1


async def test_hello_hands_back_what_an_executor_does_not_know(store: Store) -> None:
    """At once, and without counting: the answer that brought the lease got lost."""
    await do(store, *(start(f"r{n}", event=n) for n in range(3)))
    known, lost = await lease(store, "known"), await lease(store, "lost")
    other = await lease(store, "other", "Y")
    assert await store.hello("X", [known.token]) == 1
    again = await lease(store, "again", "Y")
    assert (again.item, again.expiries, again.attempt) == (lost.item, 0, 0)
    assert (await commit(store, known, finish(known.run))).status == "ok"
    assert (await commit(store, other, finish(other.run))).status == "ok"
    assert (await commit(store, lost, finish(lost.run))).status == "lost"


async def test_hello_drops_the_leases_of_ended_runs(store: Store) -> None:
    """They do not come back to the queue."""
    await begin(store)
    await do(store, cancel())
    assert await store.hello("X", []) == 1
    assert await nothing_to_lease(store)
    assert not [name for name in await read_shard(store) if name.startswith(("i:", "x:", "s:", "timers"))]


async def test_cancelling_takes_what_waits_and_tells_who_works(store: Store) -> None:
    """Queued items and pauses are gone at once; the leased one keeps its slot until its executor has stopped."""
    await store.configure("env", functions=[("env/app-fn", "", ["c", 2])])
    held = await begin(store)
    await commit(store, held)
    working, _ = await plan_and_lease(store, "a", "b")
    await do(store, Discover("run"), start("next", event=2))
    await do(store, cancel())
    keys = await read_shard(store)
    assert not [name for name in keys if name.startswith(("w:", "ri:run", "st:run"))]
    assert sorted(keys["inbox:X"].value) == ["token-a", "token-b"]
    assert keys["inbox:X"].ttl_ms > 0
    assert await nothing_to_lease(store)
    ended = await store.apply(LeaseGuard(working.item, working.token, 0), [saved("a")])
    assert (ended.status, await results(store)) == ("ended", {})
    assert (await lease(store, "slot")).run == "next"


async def test_the_commit_that_ends_a_run_frees_its_own_slot(store: Store) -> None:
    """And those of siblings when they have stopped."""
    await store.configure("env", functions=[("env/app-fn", "", ["c", 1])])
    held = await begin(store)
    await do(store, start("next", event=2))
    assert await nothing_to_lease(store)
    applied = await store.apply(
        LeaseGuard(held.item, held.token, 0), [finish()], executor="X", tokens=["with the commit"]
    )
    assert [found.run for found in applied.leases] == ["next"]


async def test_an_expired_lease_of_an_ended_run_frees_its_slot(timed: Store, clock: TestClock) -> None:
    """The executor never said that it had stopped."""
    await timed.configure("env", functions=[("env/app-fn", "", ["c", 1])])
    await begin(timed)
    await do(timed, cancel(), start("next", event=2))
    clock.now_ms += timed.settings.lease_ms
    assert (await lease(timed, "slot")).run == "next"


async def test_live_is_while_the_run_goes_on(store: Store) -> None:
    """A cancellation of a run that has ended is refused."""
    held = await begin(store)
    assert (await store.apply(LiveGuard("run"), [])).status == "ok"
    await commit(store, held, finish())
    assert (await store.apply(LiveGuard("run"), [cancel()])).status == "ended"
    summary = await store.run("run")
    assert summary is not None
    assert summary.status == "Completed"


async def test_a_stale_commit_brings_no_work(store: Store) -> None:
    """Its executor is busy deciding again; a refused one may take other work."""
    held = await begin(store)
    await do(store, start("next", event=2))
    await store.apply(KeepGuard(held.item, held.token), [Touch(held.item)])
    guard = LeaseGuard(held.item, held.token, 0)
    assert (await store.apply(guard, [], executor="X", tokens=["t"])).leases == []
    lost = await store.apply(guard._replace(token="other"), [], executor="X", tokens=["t"])
    assert (lost.status, len(lost.leases)) == ("lost", 1)


@pytest.mark.parametrize("tokens", [1, 3, 8])
async def test_a_lease_brings_at_most_what_was_asked_for(store: Store, tokens: int) -> None:
    """One item a token."""
    await do(store, *(start(f"r{n}", event=n) for n in range(5)))
    due = await store.due(executor="X", tokens=[f"t{n}" for n in range(tokens)])
    assert [found.token for found in due.leases] == [f"t{n}" for n in range(min(tokens, 5))]
