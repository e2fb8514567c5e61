"""Time in the store: its clock, crons, what wakes who sleeps; and the registry."""

import pytest

from innkeeper_engine.model.effects import MAX_EFFECTS, Arm, Effect, Note
from innkeeper_engine.model.guards import CronGuard, NoGuard
from innkeeper_engine.store.connection import StoreError
from innkeeper_engine.store.store import Store
from tests.conftest import OpenStore
from tests.engine.model_driver import START_MS, TestClock
from tests.engine.model_runs import ENV, FN, begin, commit, do, finish, lease, nothing_to_lease, start, wait
from tests.engine.model_server import read_shard

CRON = "env/app-fn#0 * * * *"


async def wakes(store: Store) -> bool:
    """Takes the token that wakes an idle executor; whether there was one."""
    return await store.command("LPOP", store.key("wake")) is not None


async def test_a_given_clock_is_for_tests_alone(valkey: object, open_store: OpenStore) -> None:
    """Under any other prefix a script refuses it."""
    store = await open_store(prefix="{ik:test}:", clock_ms=TestClock())
    with pytest.raises(StoreError, match="a given clock"):
        await store.due()


async def test_the_clock_never_goes_back(timed: Store, clock: TestClock) -> None:
    """Another server's clock may be behind; what was due stays due."""
    await do(timed, start(due_ms=clock.now_ms + 10))
    clock.now_ms += 10
    await timed.due()
    clock.now_ms -= 5_000
    held = await lease(timed, "a")
    assert held.started_ms == START_MS + 10


async def test_the_server_s_own_clock_is_used_without_one(store: Store) -> None:
    """In milliseconds."""
    seconds, _ = await store.command("TIME")
    due = await store.due()
    assert abs(due.clock_ms - int(seconds) * 1000) < 10_000


async def test_due_says_when_it_is_wanted_next(timed: Store, clock: TestClock) -> None:
    """And moves as many timers as it was asked to."""
    assert (await timed.due()).next_ms is None
    held = await begin(timed)
    waits = [wait(f"z{n}", kind="sleep", deadline_ms=clock.now_ms + n) for n in range(1, 6)]
    await commit(timed, held, *waits)
    assert (await timed.due()).next_ms == clock.now_ms + 1
    clock.now_ms += 5
    due = await timed.due(n=3)
    assert due.next_ms == clock.now_ms - 1
    assert await wakes(timed)
    assert (await timed.due(n=3)).next_ms is None


async def test_work_that_comes_wakes_one(store: Store) -> None:
    """One token at most, however much there is."""
    await do(store, start(), start("two", event=2))
    await do(store, start("three", event=3))
    assert await wakes(store)
    assert not await wakes(store)


async def test_who_leaves_work_wakes_the_next(store: Store) -> None:
    """And who takes the last of it, nobody."""
    await do(store, start(), start("two", event=2))
    await wakes(store)
    await lease(store, "a")
    assert await wakes(store)
    await lease(store, "b")
    await store.due()
    await wakes(store)
    await store.due()
    assert not await wakes(store)


async def test_an_earlier_timer_wakes_who_sleeps_until_a_later_one(timed: Store, clock: TestClock) -> None:
    """Within the five seconds that anybody sleeps at most."""
    held = await begin(timed)
    await wakes(timed)
    now = clock.now_ms
    await commit(timed, held, wait("far", kind="sleep", deadline_ms=now + 60_000))
    assert not await wakes(timed)
    await do(timed, wait("near", kind="sleep", deadline_ms=now + 1_000))
    assert await wakes(timed)
    await do(timed, wait("later", kind="sleep", deadline_ms=now + 2_000))
    assert not await wakes(timed)


async def test_an_event_wakes_the_router(store: Store) -> None:
    """One token at most."""
    await store.append(ENV, [("E" * 26, "x", b"{}"), ("F" * 26, "x", b"{}")])
    assert await store.command("LLEN", store.key("rwake")) == 1


async def test_a_cron_fires_once_for_its_slot(timed: Store, clock: TestClock) -> None:
    """Two executors that decide on the same slot: the second is refused."""
    slot = clock.now_ms + 1_000
    await timed.configure(ENV, crons=[(CRON, slot, slot)])
    assert (await timed.due()).crons == []
    clock.now_ms += 1_000
    assert (await timed.due()).crons == [(CRON, slot)]
    effects: list[Effect] = [start("tick", announces=False), Arm(CRON, slot + 60_000, slot + 60_000)]
    assert (await timed.apply(CronGuard(CRON, slot), effects)).status == "ok"
    refused = await timed.apply(CronGuard(CRON, slot), [start("again", event=2)])
    assert (refused.status, await timed.run("again")) == ("moved", None)
    assert (await timed.due()).crons == []
    clock.now_ms += 60_000
    assert (await timed.due()).crons == [(CRON, slot + 60_000)]


async def test_a_cron_that_nobody_decided_on_comes_up_again(timed: Store, clock: TestClock) -> None:
    """Its executor died in between."""
    slot = clock.now_ms
    await timed.configure(ENV, crons=[(CRON, slot, slot)])
    assert (await timed.due()).crons == [(CRON, slot)]
    clock.now_ms += 4_999
    assert (await timed.due()).crons == []
    clock.now_ms += 1
    assert (await timed.due()).crons == [(CRON, slot)]


async def test_an_armed_cron_keeps_its_slot(timed: Store, clock: TestClock) -> None:
    """A sync, however often, skips none and repeats none."""
    slot = clock.now_ms + 1_000
    await timed.configure(ENV, crons=[(CRON, slot, slot)])
    clock.now_ms += 2_000
    await timed.configure(ENV, crons=[(CRON, slot + 60_000, slot + 60_000)])
    assert (await timed.due()).crons == [(CRON, slot)]


async def test_a_removed_cron_is_gone(timed: Store, clock: TestClock) -> None:
    """Also for who has decided on it already."""
    slot = clock.now_ms
    await timed.configure(ENV, crons=[(CRON, slot, slot)])
    await timed.due()
    await timed.configure(ENV, crons_gone=[CRON])
    assert (await timed.apply(CronGuard(CRON, slot), [Arm(CRON, slot + 1, slot + 1)])).status == "moved"
    clock.now_ms += 60_000
    assert (await timed.due()).crons == []
    assert not [name for name in await read_shard(timed) if name.startswith(("cron", "timers"))]


async def test_registrations_come_back_as_they_were_written(store: Store) -> None:
    """By app, with a version that rises."""
    first = await store.configure(ENV, app="a", blob=b"\x00\xff")
    second = await store.configure(ENV, app="b", blob=b"B")
    assert first < second == await store.registry_version()
    assert await store.registrations(ENV) == {"a": b"\x00\xff", "b": b"B"}
    assert await store.environments() == [ENV]
    await store.configure(ENV, app="a")
    assert await store.registrations(ENV) == {"b": b"B"}


async def test_a_registration_on_an_older_registry_is_refused(store: Store) -> None:
    """Nothing of it is written."""
    version = await store.configure(ENV, app="a", blob=b"A")
    assert (
        await store.configure(ENV, app="a", blob=b"B", functions=[(FN, "", ["c", 1])], expect=version - 1)
        == 0
    )
    assert await store.registrations(ENV) == {"a": b"A"}
    assert f"f:{FN}" not in await read_shard(store)
    assert await store.configure(ENV, app="a", blob=b"C", expect=version) > version


async def test_a_function_that_is_gone_holds_nobody(store: Store) -> None:
    """Paused or limited before: its runs in flight must get to know that it is gone."""
    await store.configure(ENV, functions=[(FN, "st", ["c", 1])])
    await do(store, start(), start("two", event=2))
    assert await nothing_to_lease(store)
    await store.configure(ENV, gone=[FN])
    assert {(await lease(store, token)).run for token in ("a", "b")} == {"run", "two"}


async def test_a_lane_is_no_partition_of_another_environment(store: Store) -> None:
    """Environments `prod` and `rod`: their names must not meet in a key of the scheduler."""
    functions = ("prod/f", "rod/f")
    await store.configure(ENV, functions=[(fn, "", ["c", 1]) for fn in functions])
    for n in range(2):
        for fn in functions:
            await do(store, start(f"{fn}{n}", event=n, fn=fn))
    seen = []
    for n in range(4):
        held = await lease(store, str(n))
        seen.append(held.run)
        await commit(store, held, finish(held.run))
    assert sorted(seen) == ["prod/f0", "prod/f1", "rod/f0", "rod/f1"]


async def test_one_script_does_a_bounded_number_of_effects(store: Store) -> None:
    """More are refused before anything is sent."""
    with pytest.raises(ValueError, match=f"at most {MAX_EFFECTS}"):
        await store.apply(NoGuard(), [Note("run", b"{}")] * (MAX_EFFECTS + 1))
    assert await read_shard(store) == {}
    assert (await store.apply(NoGuard(), [Note("run", b"{}")] * MAX_EFFECTS)).status == "ok"


async def test_timers_of_a_later_version_wait_for_it(timed: Store, clock: TestClock) -> None:
    """In either set: they come up again, and nothing else is held up by them."""
    for timers in ("timers", "timers2"):
        await timed.command("ZADD", timed.key(timers), clock.now_ms, "Znew")
    await do(timed, start(due_ms=clock.now_ms))
    assert (await timed.due(executor="X", tokens=["t"])).leases
    for timers in ("timers", "timers2"):
        later = await timed.command("ZSCORE", timed.key(timers), "Znew")
        assert clock.now_ms < float(later) <= clock.now_ms + 10_000
