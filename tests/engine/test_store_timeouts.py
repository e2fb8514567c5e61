"""timeouts.start and timeouts.finish: a run that waits too long for its first request, or takes too long after it."""

import pytest

from innkeeper_engine.model.effects import Effect, Retry, Save, Start
from innkeeper_engine.model.guards import KeepGuard, LeaseGuard, LiveGuard
from innkeeper_engine.model.state import Lease
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_house import check_leftovers
from tests.engine.model_runs import (
    FN,
    IDS,
    cancel,
    cancel_on,
    commit,
    do,
    finish,
    lease,
    notes,
    nothing_to_lease,
    plan_and_lease,
    results,
    route_all,
    saved,
    start,
    wait,
)
from tests.engine.model_server import read_shard

START_MS, FINISH_MS = 10_000, 20_000
CANCELLED = b'{"error":"function cancelled","message":"function cancelled","name":"Error"}'


def hurried(run: str = "run", **options: object) -> Start:
    """A run with both timeouts."""
    made = start(run, **options)  # type: ignore[arg-type]
    return made._replace(start_timeout_ms=START_MS, finish_timeout_ms=FINISH_MS, ids=IDS)


async def begun(store: Store, token: str = "first") -> Lease:
    """A run with both timeouts, its first request leased."""
    await do(store, hurried())
    return await lease(store, token)


async def pass_time(store: Store, clock: TestClock, ms: int) -> None:
    """Time passes, and an executor looks what is due. Leases are kept meanwhile."""
    clock.now_ms += ms
    for item in [name[2:] for name in await read_shard(store) if name.startswith("i:")]:
        await store.command(
            "ZADD", store.key("timers"), "XX", clock.now_ms + store.settings.lease_ms, f"L{item}"
        )
    await store.due()


async def status(store: Store, run: str = "run") -> str:
    """The status of a run that there is."""
    summary = await store.run(run)
    assert summary is not None
    return summary.status


async def assert_timed_out(store: Store, clock: TestClock, which: str) -> None:
    """The run is cancelled, with one note, one event and an error as every cancelled run has; nothing of it is left."""
    assert await status(store) == "Cancelled"
    text = f'{{"t":{clock.now_ms},"type":"cancelled","why":"timeout","timeout":"{which}"}}'
    assert [note for note in await notes(store) if note[0] == "run"] == [("run", text.encode())]
    peeked = await store.peek(9)
    assert peeked is not None
    assert [(event.id, event.name) for event in peeked.events] == [(IDS[0], "inngest/function.cancelled")]
    assert await store.run_payload("run", "o", "x") == [None, CANCELLED]
    assert await nothing_to_lease(store)
    await route_all(store)
    check_leftovers(await read_shard(store))


# ---- start


async def test_a_run_that_waits_too_long_for_its_first_request_is_cancelled(
    timed: Store, clock: TestClock
) -> None:
    """As long as it was said, no shorter; it never begins then."""
    await do(timed, hurried())
    await pass_time(timed, clock, START_MS - 1)
    assert await status(timed) == "Scheduled"
    assert (await timed.due()).next_ms == clock.now_ms + 1
    await pass_time(timed, clock, 1)
    await assert_timed_out(timed, clock, "start")


async def test_the_time_begins_when_the_run_is_due(timed: Store, clock: TestClock) -> None:
    """An event may lie ahead."""
    await do(timed, hurried(due_ms=clock.now_ms + 60_000))
    await pass_time(timed, clock, 60_000 + START_MS - 1)
    assert await status(timed) == "Scheduled"
    await pass_time(timed, clock, 1)
    await assert_timed_out(timed, clock, "start")


async def test_a_run_that_has_begun_is_not_late_to_begin(timed: Store, clock: TestClock) -> None:
    """Also if its first request had to be taken back."""
    await begun(timed)
    assert "Orun" not in await timers(timed)
    await timed.hello("X", [])
    await pass_time(timed, clock, START_MS)
    assert await status(timed) == "Running"
    assert (await lease(timed, "again")).run == "run"


async def timers(store: Store) -> dict[str, float]:
    """What is due when, without leases."""
    keys = await read_shard(store)
    found = [timer for name in ("timers", "timers2") if name in keys for timer in keys[name].value]
    return {member: at for member, at in found if not member.startswith("L")}


async def test_a_run_without_timeouts_has_no_timers(timed: Store) -> None:
    """Neither before nor after its first request."""
    await do(timed, start())
    assert await timers(timed) == {}
    await lease(timed, "a")
    assert await timers(timed) == {}


@pytest.mark.parametrize("is_begun", [False, True], ids=["scheduled", "running"])
async def test_the_end_of_a_run_takes_its_timers_along(timed: Store, is_begun: bool) -> None:
    """Whichever of them runs."""
    await do(timed, hurried())
    assert set(await timers(timed)) == {"Orun"}
    if is_begun:
        await lease(timed, "a")
        assert set(await timers(timed)) == {"Frun"}
    await do(timed, finish())
    assert await timers(timed) == {}


async def test_timeouts_come_in_turn_with_what_else_is_due(timed: Store, clock: TestClock) -> None:
    """They are kept apart, where a version that does not know them drops none: both are looked at by time."""
    due_ms = clock.now_ms + START_MS
    await do(timed, hurried("run", announces=False))
    await do(timed, start("before", event=2, due_ms=due_ms - 1), start("after", event=3, due_ms=due_ms + 1))
    keys = await read_shard(timed)
    assert {member for member, _ in keys["timers"].value} == {"ibefore.0", "iafter.0"}
    assert {member for member, _ in keys["timers2"].value} == {"Orun"}
    assert (await timed.due()).next_ms == due_ms - 1
    clock.now_ms = due_ms + 1
    assert (await timed.due(n=1)).next_ms == due_ms
    assert await status(timed) == "Scheduled"
    assert (await timed.due(n=1)).next_ms == due_ms + 1
    assert await status(timed) == "Cancelled"
    assert (await timed.due(n=1)).next_ms is None


# ---- finish


async def test_a_run_that_sleeps_too_long_is_cancelled(timed: Store, clock: TestClock) -> None:
    """As long after its first request as it was said; what waits for it goes at once."""
    held = await begun(timed)
    await pass_time(timed, clock, FINISH_MS // 2)
    await commit(timed, held, wait("z", kind="sleep"), wait("s", kind="signal", name="sig"))
    await pass_time(timed, clock, FINISH_MS // 2 - 1)
    assert await status(timed) == "Running"
    await pass_time(timed, clock, 1)
    await assert_timed_out(timed, clock, "finish")


async def test_what_is_queued_for_a_late_run_goes_at_once(timed: Store, clock: TestClock) -> None:
    """Items of its steps, those of a retry that is not due, its discovery."""
    held = await begun(timed)
    await commit(timed, held, saved("a", go=False), saved("b"))
    again = await lease(timed, "again")
    later = Retry(again.item, 1, clock.now_ms + 60_000)
    await commit(timed, again, later, *(saved(step) for step in "cd"))
    await pass_time(timed, clock, FINISH_MS)
    await assert_timed_out(timed, clock, "finish")


async def overdue(store: Store, clock: TestClock) -> Lease:
    """A run that is too late with its first request in flight."""
    held = await begun(store)
    await pass_time(store, clock, FINISH_MS)
    assert await status(store) == "Running"
    assert await nothing_to_lease(store)
    assert await store.beat([(held.item, held.token)]) == ([], [])
    return held


async def test_a_late_run_may_end_by_the_request_in_flight(timed: Store, clock: TestClock) -> None:
    """Nothing was cancelled then."""
    held = await overdue(timed, clock)
    await commit(timed, held, finish())
    assert await status(timed) == "Completed"
    assert await notes(timed) == []
    check_leftovers(await read_shard(timed))


@pytest.mark.parametrize("how", ["step", "sleep", "retry"])
async def test_a_late_run_ends_with_the_request_in_flight(timed: Store, clock: TestClock, how: str) -> None:
    """Whatever it answered, the answer counts and nothing follows from it."""
    held = await overdue(timed, clock)
    effects: dict[str, tuple[Effect, ...]] = {
        "step": (saved("a"),),
        "sleep": (wait("z", kind="sleep"),),
        "retry": (Retry(held.item, 1, 0),),
    }
    assert (await commit(timed, held, *effects[how])).status == "ok"
    assert await results(timed) == ({"a": b'{"data":1}'} if how == "step" else {})
    await assert_timed_out(timed, clock, "finish")


async def test_a_late_run_ends_with_its_next_checkpoint(timed: Store, clock: TestClock) -> None:
    """The executor is told to end the call, as with every cancellation; its lease is there until it has."""
    held = await overdue(timed, clock)
    keep = KeepGuard(held.item, held.token, 1_000)
    assert (await timed.apply(keep, [])).status == "ok"
    assert await status(timed) == "Running", "more time was asked for, nothing done"
    assert (await timed.apply(keep, [Save("run", "a", b'{"data":1}', False)])).status == "ok"
    assert await status(timed) == "Cancelled"
    assert await timed.command("LPOP", timed.key("inbox:X")) == held.token.encode()
    assert await timed.beat([(held.item, held.token)]) == ([], [held.token])
    assert (await timed.apply(keep, [Save("run", "b", b'{"data":1}', False)])).status == "ended"
    assert (await commit(timed, held, finish())).status == "ended"
    assert await results(timed) == {"a": b'{"data":1}'}
    await assert_timed_out(timed, clock, "finish")


async def test_a_late_run_may_end_by_a_checkpoint(timed: Store, clock: TestClock) -> None:
    """An SDK that goes on by itself says so when the function has returned."""
    held = await overdue(timed, clock)
    await timed.apply(KeepGuard(held.item, held.token, 1_000), [saved("a", go=False), finish()])
    assert await status(timed) == "Completed"


async def test_a_late_run_ends_when_its_lease_runs_out(timed: Store, clock: TestClock) -> None:
    """Nobody asks again."""
    await overdue(timed, clock)
    clock.now_ms += timed.settings.lease_ms
    assert (await timed.due()).expired == 1
    await assert_timed_out(timed, clock, "finish")


async def test_a_late_run_ends_when_its_executor_knows_nothing_of_it(timed: Store, clock: TestClock) -> None:
    """After a restart."""
    await overdue(timed, clock)
    assert await timed.hello("X", []) == 1
    await assert_timed_out(timed, clock, "finish")


async def test_the_first_of_several_requests_in_flight_ends_a_late_run(
    timed: Store, clock: TestClock
) -> None:
    """The others are told, and keep their slots until they have stopped."""
    await commit(timed, await begun(timed), wait("z", kind="sleep"))
    first, second = await plan_and_lease(timed, "a", "b")
    await pass_time(timed, clock, FINISH_MS)
    assert await status(timed) == "Running"
    await commit(timed, first, saved("a"))
    assert await status(timed) == "Cancelled"
    assert (await read_shard(timed))[f"s:c|{FN}"].value == {second.item}
    assert await timed.beat([(second.item, second.token)]) == ([], [second.token])
    assert (await commit(timed, second, saved("b"))).status == "ended"
    await assert_timed_out(timed, clock, "finish")


async def test_nothing_begins_in_a_late_run(timed: Store, clock: TestClock) -> None:
    """A child that ends, an event that comes, a discovery that somebody asks for: all too late."""
    held = await begun(timed)
    invoke = wait("i", kind="invoke")
    assert (await timed.apply(KeepGuard(held.item, held.token), [invoke])).status == "ok"
    await do(timed, start("child", event=2, parent="run.i", announces=False))
    child = await lease(timed, "child")
    await pass_time(timed, clock, FINISH_MS)
    await commit(timed, child, finish("child"))
    assert (await timed.apply(LiveGuard("run"), [saved("s")])).status == "ok"
    assert await nothing_to_lease(timed)
    assert await status(timed) == "Running"
    await commit(timed, held)
    await assert_timed_out(timed, clock, "finish")


async def test_late_runs_that_wait_for_much_end_one_after_the_other(timed: Store, clock: TestClock) -> None:
    """One script ends some with all that they wait for; the others at once in the next, which somebody is woken for."""
    runs = [f"r{n}" for n in range(3)]
    for n, run in enumerate(runs):
        await do(timed, hurried(run, event=n, announces=False))
        held = await lease(timed, f"t{n}")
        for first in range(0, 900, 225):
            waits = [wait(f"w{k}", run=run, kind="sleep") for k in range(first, first + 225)]
            await timed.apply(KeepGuard(held.item, held.token), waits)
        await commit(timed, held)
    clock.now_ms += FINISH_MS
    await timed.command("DEL", timed.key("wake"))
    ended = []
    for _ in range(3):
        await timed.due()
        ended.append([await status(timed, run) for run in runs].count("Cancelled"))
        if len(ended) == 1:
            assert await timed.command("LPOP", timed.key("wake")) is not None
    assert ended == [2, 3, 3]
    check_leftovers(await read_shard(timed))


async def test_a_late_run_can_be_cancelled_by_an_event(timed: Store, clock: TestClock) -> None:
    """The call that is in flight may take very long."""
    await do(timed, hurried(cancels=[cancel_on("stop")], announces=False))
    held = await lease(timed, "a")
    await commit(timed, held, saved("a"), wait("z"))
    held = await lease(timed, "b")
    await pass_time(timed, clock, FINISH_MS)
    keys = await read_shard(timed)
    assert {name for name in keys if name.startswith("w:")} == {"w:run.c0"}
    await do(timed, cancel(pause="run.c0"))
    assert await status(timed) == "Cancelled"
    await commit(timed, held)
    check_leftovers(await read_shard(timed))


async def test_a_timeout_that_passed_during_the_last_request_changes_nothing(
    timed: Store, clock: TestClock
) -> None:
    """It is late, and all the same no timer is left and the run's commit is the only thing that counts."""
    held = await overdue(timed, clock)
    guard = LeaseGuard(held.item, held.token, held.seen)
    assert (await timed.apply(guard, [saved("a"), finish()])).status == "ok"
    assert (await timed.apply(guard, [saved("a"), finish()])).status == "lost"
    assert await status(timed) == "Completed"
    assert await timers(timed) == {}
