"""What the shard counts: consistent in itself, and back at nothing when nothing is left to do."""

import re

import pytest

from innkeeper_engine.model.effects import Fold, Note, Plan, Rekey, Retry
from innkeeper_engine.model.guards import CursorGuard, HistoryGuard, KeepGuard, LeaseGuard
from innkeeper_engine.model.numbers import FunctionNumbers, ShardNumbers
from innkeeper_engine.model.times import date_of
from innkeeper_engine.store import numbers as store_numbers
from innkeeper_engine.store.lists import Lists
from innkeeper_engine.store.numbers import read_environment_numbers, read_shard_numbers
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import START_MS, TestClock
from tests.engine.model_runs import (
    DAY_MS,
    ENV,
    FN,
    begin,
    cancel,
    commit,
    do,
    event_id,
    fail,
    finish,
    lease,
    saved,
    start,
    wait,
)

SLUG = "app-fn"


async def function(store: Store, clock: TestClock, slug: str = SLUG) -> FunctionNumbers:
    """What is counted of a function."""
    return (await read_environment_numbers(store, ENV, clock.now_ms)).functions[slug]


async def today(store: Store, clock: TestClock) -> dict[str, int]:
    """What was counted today."""
    return (await function(store, clock)).counts[date_of(clock.now_ms)]


async def shard(store: Store, clock: TestClock) -> ShardNumbers:
    """All of it."""
    return await read_shard_numbers(store, clock.now_ms)


async def test_a_run_of_two_steps_is_counted_from_end_to_end(timed: Store, clock: TestClock) -> None:
    first = await begin(timed)
    during = await function(timed, clock)
    assert (during.queued, during.running, during.steps_running, during.steps_scheduled) == (0, 1, 1, 0)
    await commit(timed, first, saved("a", b'{"data":12345}'))
    assert (await function(timed, clock)).steps_scheduled == 1
    await commit(timed, await lease(timed, "second"), saved("b", b'{"data":1}'))
    await commit(timed, await lease(timed, "third"), finish())

    counts = await today(timed, clock)
    assert counts == {"s": 1, "b": 1, "C": 1, "q": 3, "r": 3, "0": 3, "o": len('{"data":12345}{"data":1}')}
    after = await function(timed, clock)
    assert (after.queued, after.running, after.steps_running, after.steps_scheduled) == (0, 0, 0, 0)


async def test_requests_end_as_success_errored_or_failed(timed: Store, clock: TestClock) -> None:
    held = await begin(timed)
    await commit(timed, held, Retry(held.item, 1, 0))
    again = await lease(timed, "again")
    guard = LeaseGuard(again.item, again.token, again.seen, "failed")
    await timed.apply(guard, [saved("a", b'{"error":{"name":"E"}}')])
    last = await lease(timed, "last")
    await timed.apply(LeaseGuard(last.item, last.token, last.seen, "failed"), [fail()])

    counts = await today(timed, clock)
    assert (counts["1"], counts["2"], counts["F"]) == (1, 2, 1)
    assert counts["r"] == counts["q"] == 3
    assert "0" not in counts


async def test_a_result_that_comes_twice_is_counted_once(timed: Store, clock: TestClock) -> None:
    held = await begin(timed)
    for _ in range(2):
        await timed.apply(KeepGuard(held.item, held.token), [saved("a", b'{"data":1}', go=False)])

    assert (await today(timed, clock))["o"] == len('{"data":1}')


async def test_a_cancelled_run_takes_what_was_scheduled_along(timed: Store, clock: TestClock) -> None:
    held = await begin(timed)
    await timed.apply(KeepGuard(held.item, held.token), [Plan("run", "p"), Plan("run", "q")])
    assert (await function(timed, clock)).steps_scheduled == 2
    await do(timed, cancel())
    left = await function(timed, clock)
    assert (left.steps_running, left.steps_scheduled, left.running) == (1, 0, 0)
    assert (await commit(timed, held)).status == "ended"

    counts = await today(timed, clock)
    assert (counts["X"], counts["q"], counts["r"], counts["2"]) == (1, 3, 1, 1)
    left = await function(timed, clock)
    assert (left.steps_running, left.steps_scheduled) == (0, 0)


async def test_a_sleep_is_no_request_and_no_step_that_is_scheduled(timed: Store, clock: TestClock) -> None:
    held = await begin(timed)
    await commit(timed, held, wait("z", kind="sleep", deadline_ms=clock.now_ms + 60_000))
    asleep = await function(timed, clock)
    assert (asleep.running, asleep.steps_running, asleep.steps_scheduled) == (1, 0, 0)
    clock.now_ms += 60_000
    await timed.due()
    assert (await function(timed, clock)).steps_scheduled == 1
    await commit(timed, await lease(timed, "awake"), finish())

    counts = await today(timed, clock)
    assert (counts["q"], counts["r"], counts["0"], counts["C"]) == (2, 2, 2, 1)


async def test_a_lease_that_runs_out_has_errored(timed: Store, clock: TestClock) -> None:
    await timed.hello("X", [])
    await begin(timed)
    assert (await shard(timed, clock)).leases == 1
    clock.now_ms += timed.settings.lease_ms
    await timed.due()
    numbers = await shard(timed, clock)
    assert (numbers.leases, numbers.leases_expired) == (0, 1)
    assert (await function(timed, clock)).steps_scheduled == 1
    await commit(timed, await lease(timed, "again"), finish())

    counts = await today(timed, clock)
    assert (counts["q"], counts["r"], counts["1"], counts["0"]) == (2, 2, 1, 1)


async def test_what_goes_back_with_a_hello_has_errored(timed: Store, clock: TestClock) -> None:
    await begin(timed)
    assert await timed.hello("X", []) == 1

    counts = await today(timed, clock)
    assert (counts["q"], counts["r"], counts["1"]) == (2, 1, 1)
    assert (await shard(timed, clock)).leases == 0


async def test_what_is_leased_to_be_keyed_again_is_no_request(timed: Store, clock: TestClock) -> None:
    await do(timed, start())
    await timed.configure(ENV, functions=[(FN, "", ["sig", "new"])])
    held = await lease(timed, "to key")
    assert held.rekey
    starts, steps = f"{FN}\x01snew", f"{FN}\x01tnew"
    await commit(timed, held, Rekey(held.item, "run", starts, steps, 1, 0))
    counts = await today(timed, clock)
    assert (counts["q"], "r" in counts, "1" in counts) == (1, False, False)
    await commit(timed, await lease(timed, "real"), finish())

    counts = await today(timed, clock)
    assert (counts["q"], counts["r"], counts["0"]) == (1, 1, 1)


async def test_days_are_counted_apart_and_those_before_yesterday_are_not_shown(
    timed: Store, clock: TestClock
) -> None:
    for day in range(3):
        await commit(timed, await begin(timed, f"run{day}", event=day), finish(f"run{day}"))
        clock.now_ms += DAY_MS
    clock.now_ms -= DAY_MS

    counts = (await function(timed, clock)).counts
    assert counts.keys() == {date_of(START_MS + DAY_MS), date_of(START_MS + 2 * DAY_MS)}
    assert all(of_day["C"] == 1 for of_day in counts.values())
    for key in await timed.command("KEYS", timed.key("m:*")):
        assert 0 < await timed.command("TTL", key) <= 3 * 86_400


async def test_the_oldest_run_that_has_not_begun_is_known(timed: Store, clock: TestClock) -> None:
    at = clock.now_ms
    await do(timed, start("first", event=1, order=at))
    clock.now_ms += 2_000
    await do(timed, start("second", event=2, order=at + 2_000))
    assert (await function(timed, clock)).oldest_ms == pytest.approx(at, abs=1)
    first = await lease(timed, "t1")
    assert (await function(timed, clock)).oldest_ms == pytest.approx(at + 2_000, abs=1)
    await do(timed, cancel("second"))

    left = await function(timed, clock)
    assert (left.oldest_ms, left.queued, left.running) == (None, 0, 1)
    await commit(timed, first, finish("first"))


@pytest.mark.parametrize("capped", [True, False])
async def test_lanes_are_counted_by_what_keeps_them(timed: Store, clock: TestClock, capped: bool) -> None:
    await timed.configure(ENV, functions=[(FN, "", ["c", 1] if capped else [])])
    held = await begin(timed, "one", event=1)
    await do(timed, start("two", event=2))
    await timed.due(executor="Y", tokens=["t"])
    numbers = await shard(timed, clock)
    assert (numbers.lanes_ready, numbers.lanes_parked) == ((0, 1) if capped else (0, 0))
    if not capped:
        return
    await commit(timed, held, finish("one"))
    numbers = await shard(timed, clock)
    assert (numbers.lanes_ready, numbers.lanes_parked) == (1, 0)
    await timed.configure(ENV, functions=[(FN, "st", [])])
    await timed.due(executor="Y", tokens=["t2"])

    numbers = await shard(timed, clock)
    assert (numbers.lanes_ready, numbers.lanes_parked) == (0, 0)
    assert sum(f.held_lanes for env in numbers.environments for f in env.functions.values()) == 1


async def test_events_timers_and_memory_are_told(timed: Store, clock: TestClock) -> None:
    await timed.append("other", [(event_id(1), "x", b"{}"), (event_id(2), "y", b"{}")])
    held = await begin(timed)
    await commit(timed, held, wait("z", kind="sleep"))

    numbers = await shard(timed, clock)
    assert {env.name: env.events_waiting for env in numbers.environments} == {ENV: 0, "other": 2}
    assert numbers.timers == 1
    assert numbers.memory_bytes > 0


async def test_the_oldest_event_that_is_not_routed_is_known(timed: Store, clock: TestClock) -> None:
    at = clock.now_ms
    await timed.append(ENV, [(event_id(1), "x", b"{}")])
    clock.now_ms += 2_000
    await timed.append(ENV, [(event_id(2), "x", b"{}")])
    assert (await read_environment_numbers(timed, ENV, clock.now_ms)).oldest_event_ms == at
    await timed.apply(CursorGuard(ENV, 0, "", 2), [])

    assert (await read_environment_numbers(timed, ENV, clock.now_ms)).oldest_event_ms is None


async def test_history_that_waits_and_history_that_is_lost_are_told(timed: Store, clock: TestClock) -> None:
    assert (await shard(timed, clock)).notes_waiting == 0
    await do(timed, *(Note("run", b'{"n":%d}' % n) for n in range(5)))
    assert (await shard(timed, clock)).notes_waiting == 5
    lines = await timed.command("XRANGE", timed.key("hist"), "-", "+")
    third = lines[2][0].decode()
    await timed.apply(HistoryGuard("0-0", third), [Fold("run", (b"{}", b"{}", b"{}"))])
    numbers = await shard(timed, clock)
    assert (numbers.notes_waiting, numbers.notes_lost) == (2, 0)
    await timed.command("XTRIM", timed.key("hist"), "MAXLEN", 1)

    numbers = await shard(timed, clock)
    assert (numbers.notes_waiting, numbers.notes_lost) == (1, 1)


async def test_a_function_that_nothing_is_left_of_is_forgotten(timed: Store, clock: TestClock) -> None:
    await commit(timed, await begin(timed), finish())
    await do(timed, start("asleep", event=2, fn=f"{ENV}/app-other", due_ms=clock.now_ms + 9 * DAY_MS))
    clock.now_ms += 2 * DAY_MS

    assert (await shard(timed, clock)).environments[0].functions.keys() == {SLUG, "app-other"}
    assert (await shard(timed, clock)).environments[0].functions.keys() == {"app-other"}
    await do(timed, cancel("asleep"))
    clock.now_ms += 2 * DAY_MS
    await shard(timed, clock)
    assert [env.functions for env in (await shard(timed, clock)).environments] == [{}]


async def test_more_functions_than_may_be_counted_are_counted_together(
    timed: Store, clock: TestClock
) -> None:
    day = clock.now_ms // DAY_MS
    fields = [text for n in range(20_001) for text in (f"sf{n}", "1")]
    await timed.command("HSET", timed.key(f"m:{ENV}:{day}"), *fields)
    await commit(timed, await begin(timed), finish())

    numbers = await read_environment_numbers(timed, ENV, clock.now_ms)
    assert numbers.functions["_other"].counts[date_of(clock.now_ms)]["C"] == 1
    assert SLUG not in numbers.functions


async def test_many_environments_are_read_together_and_those_that_have_nothing_are_not(
    timed: Store, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of branches come from outside: who asks for the numbers must not wait for all that there ever were."""
    await timed.command("SADD", timed.key("envs"), *(f"env~idle{n}" for n in range(3_000)))
    await begin(timed)
    for n in range(300):
        env = f"env~b{n:03}"
        await do(timed, start(f"r{n}", event=n, fn=f"{env}/app-fn")._replace(env=env))
    many = [start(f"m{n}", event=n, fn=f"env~many/f{n}")._replace(env="env~many") for n in range(60)]
    await do(timed, *many)
    before = await scripts_run(timed)
    numbers = await shard(timed, clock)

    assert await scripts_run(timed) - before < 10
    assert [env.name for env in numbers.environments] == [
        ENV,
        *(f"env~b{n:03}" for n in range(300)),
        "env~many",
    ]
    for env in (numbers.environments[0], numbers.environments[7], numbers.environments[-1]):
        assert env == await read_environment_numbers(timed, env.name, clock.now_ms)
    assert {f.queued for env in numbers.environments[1:] for f in env.functions.values()} == {1}
    assert numbers.environments_left_out == 0
    monkeypatch.setattr(store_numbers, "MOST_ENVIRONMENTS", 10)
    numbers = await shard(timed, clock)
    assert len(numbers.environments) == 10
    assert numbers.environments_left_out == 292


async def scripts_run(store: Store) -> int:
    """How many scripts the server has run so far."""
    stats = (await store.command("INFO", "commandstats")).decode()
    return sum(int(n) for n in re.findall(r"cmdstat_evalsha:calls=(\d+)", stats))


async def test_a_run_that_is_put_off_is_not_late(timed: Store, clock: TestClock) -> None:
    """It is due when its event says so; what stands behind it is seen all the same."""
    later = clock.now_ms + 3 * DAY_MS
    for n in range(40):
        await do(timed, start(f"later{n}", event=n, due_ms=later, order=later))
    clock.now_ms += 3_600_000
    assert (await function(timed, clock)).oldest_ms is None
    made_ms = clock.now_ms
    await do(timed, *(start(f"now{n}", event=n) for n in range(40)))
    clock.now_ms += 60_000
    oldest = (await function(timed, clock)).oldest_ms
    assert oldest is not None
    assert made_ms <= oldest < made_ms + 1_000
    assert (await Lists(timed).backlog(ENV, [SLUG]))[SLUG].oldest_ms == oldest
    await do(timed, *(cancel(f"now{n}") for n in range(40)))
    clock.now_ms = later + 5_000
    assert (await function(timed, clock)).oldest_ms == later


async def ended_by_another_version(store: Store, run: str) -> None:
    """One that knows no lists by status and does not count."""
    await store.command("HSET", store.key(f"run:{run}"), "s", "Completed", "z", "1")
    await store.command("DEL", *(store.key(name) for name in (f"st:{run}", f"ri:{run}", f"i:{run}.0")))
    for index in ("rq", "rb"):
        await store.command("SREM", store.key(f"{index}:{FN}"), run)


async def test_what_another_version_has_ended_is_not_the_oldest(timed: Store, clock: TestClock) -> None:
    """It goes to the list where it belongs, however many there are."""
    gone = [f"gone{n}" for n in range(100)]
    await do(timed, *(start(run, event=n) for n, run in enumerate(gone)))
    clock.now_ms += 60_000
    await do(timed, start("here", event=200))
    for run in gone:
        await ended_by_another_version(timed, run)

    for _ in range(2):
        oldest = (await Lists(timed).backlog(ENV, [SLUG]))[SLUG].oldest_ms
    assert oldest == clock.now_ms
    assert await timed.command("ZRANGE", timed.key(f"rs:s:{FN}"), 0, -1) == [b"here"]
    assert await timed.command("ZRANGE", timed.key(f"rs:c:{FN}"), 0, -1) == [run.encode() for run in gone]
    assert await timed.command("TTL", timed.key(f"rs:c:{FN}")) > 0


async def test_leases_are_those_that_there_are(timed: Store, clock: TestClock) -> None:
    """Whoever has leased them, and ended them: they are not counted, but looked at."""
    await timed.hello("X", [])
    held = await begin(timed)
    assert (await shard(timed, clock)).leases == 1
    clock.now_ms += 10_000
    await timed.command("DEL", timed.key("xs"))
    assert (await shard(timed, clock)).leases == 0
    await timed.beat([(held.item, held.token)])
    clock.now_ms += 3 * DAY_MS
    assert (await shard(timed, clock)).leases == 1
    await commit(timed, held, finish())
    assert (await shard(timed, clock)).leases == 0
    assert await timed.command("EXISTS", timed.key("xs")) == 0


async def test_items_that_another_version_did_not_count_are_counted_again(
    timed: Store, clock: TestClock
) -> None:
    """What has not begun has one at least; the look-out counts all."""
    held = await begin(timed)
    await do(timed, *(start(f"r{n}", event=n) for n in range(2, 6)), Plan("run", "p"))
    await timed.command("HSET", timed.key(f"mi:{ENV}"), SLUG, -5)
    assert (await function(timed, clock)).steps_scheduled == 4
    await timed.watch()
    assert await timed.command("HGET", timed.key(f"mi:{ENV}"), SLUG) == b"6"
    found = await function(timed, clock)
    assert (found.steps_running, found.steps_scheduled) == (1, 5)
    await do(timed, cancel())
    await timed.watch()
    # The one that is worked on still is there until its executor has stopped.
    assert await timed.command("HGET", timed.key(f"mi:{ENV}"), SLUG) == b"5"
    await commit(timed, held)
    assert (await function(timed, clock)).steps_scheduled == 4
