"""What status shows of functions: what they have to do, what they have done; and who ends all of it."""

import pytest

from innkeeper_engine.decide.notes import is_cancelled
from innkeeper_engine.model.clock import RandomIds
from innkeeper_engine.model.effects import Retry
from innkeeper_engine.model.functions import App, FunctionConfig
from innkeeper_engine.model.state import FunctionCounts
from innkeeper_engine.registering import CANCELLED_AT_ONCE, cancel_app_runs, register_app, remove_app
from innkeeper_engine.store.store import COUNT_CHUNK, Store
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import ENV, FN, begin, cancel, commit, do, fail, finish, lease, start, wait
from tests.engine.model_server import read_shard

SLUG = "app-fn"
HOUR_MS = 3_600_000
NOTHING = FunctionCounts(0, 0, 0, 0, None)


async def counts(store: Store, slug: str = SLUG) -> FunctionCounts:
    """The counters of one function."""
    return (await store.function_counts(ENV, [slug]))[slug]


async def run_to(store: Store, run: str, *, failing: bool = False) -> None:
    """A whole run."""
    held = await begin(store, run)
    await commit(store, held, fail(run) if failing else finish(run))


async def test_a_run_is_queued_then_runs_then_counts_as_done(timed: Store, clock: TestClock) -> None:
    """A retry, a step and a sleep leave it where it is."""
    assert await counts(timed) == NOTHING
    made_ms = clock.now_ms
    await do(timed, start())
    clock.now_ms += 10
    assert await counts(timed) == FunctionCounts(1, 0, 0, 0, made_ms)
    held = await lease(timed, "a")
    assert await counts(timed) == FunctionCounts(0, 1, 0, 0, made_ms)
    await commit(timed, held, Retry(held.item, 1, 0))
    await commit(timed, await lease(timed, "b"), wait("z", kind="sleep", deadline_ms=clock.now_ms + 1))
    assert await counts(timed) == FunctionCounts(0, 1, 0, 0, made_ms)
    clock.now_ms += 1
    await commit(timed, await lease(timed, "c"), finish())
    assert await counts(timed) == FunctionCounts(0, 0, 1, 0, made_ms)
    await run_to(timed, "two", failing=True)
    assert await counts(timed) == FunctionCounts(0, 0, 1, 1, clock.now_ms)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_cancelled_run_is_neither_live_nor_done(store: Store, begun: bool) -> None:
    """Whether it had begun or not."""
    if begun:
        await begin(store)
    else:
        await do(store, start())
    await do(store, cancel())
    assert (await counts(store))._replace(last_run_ms=None) == NOTHING


async def test_an_effect_that_is_repeated_counts_once(store: Store) -> None:
    """A start and an end that are decided twice."""
    await do(store, start(), start())
    assert (await counts(store)).queued == 1
    held = await lease(store, "a")
    await commit(store, held, finish(), finish())
    await do(store, start(), finish())
    found = await counts(store)
    assert (found.queued, found.running, found.completed24h) == (0, 0, 1)


async def test_done_is_counted_for_a_day(timed: Store, clock: TestClock) -> None:
    """By whole hours: this one and the 23 before it. What is older is dropped with the next that ends."""
    clock.now_ms -= clock.now_ms % HOUR_MS
    await run_to(timed, "first")
    await run_to(timed, "failing", failing=True)
    clock.now_ms += 23 * HOUR_MS
    await run_to(timed, "late")
    assert (await counts(timed))[2:4] == (2, 1)
    clock.now_ms += HOUR_MS
    assert (await counts(timed))[2:4] == (1, 0)
    await run_to(timed, "next")
    assert (await counts(timed))[2:4] == (2, 0)
    kept = (await read_shard(timed))[f"rc:{FN}"]
    assert len(kept.value) == 3
    assert kept.ttl_ms > 80 * 24 * HOUR_MS


async def test_a_daily_run_is_always_counted_once(timed: Store, clock: TestClock) -> None:
    """Whatever the hour at which one looks."""
    clock.now_ms -= clock.now_ms % HOUR_MS
    clock.now_ms += 59_000
    for day in range(2):
        await run_to(timed, f"day{day}")
        for _ in range(24):
            assert (await counts(timed)).completed24h == 1
            clock.now_ms += HOUR_MS


async def test_many_functions_are_counted_together(store: Store) -> None:
    """More than one script does; one that is asked for twice is there once, one that never ran counts nothing."""
    slugs = [f"f{n}" for n in range(COUNT_CHUNK + 20)]
    await do(store, *(start(slug, event=n, fn=f"{ENV}/{slug}") for n, slug in enumerate(slugs)))
    found = await store.function_counts(ENV, [*slugs, "f0", "none"])
    assert list(found) == [*slugs, "none"]
    assert {slug for slug, count in found.items() if count.queued == 1} == set(slugs)
    assert found["none"] == NOTHING
    assert await store.function_counts("other", ["f0"]) == {"f0": NOTHING}
    assert await store.function_counts(ENV, []) == {}


async def test_live_runs_are_those_that_have_not_ended(store: Store) -> None:
    """Queued and running together."""
    await begin(store)
    await do(store, start("two", event=2), start("three", event=3))
    await do(store, cancel("two"))
    assert await store.live_runs(ENV, [SLUG, "other"]) == {SLUG: 2, "other": 0}


async def test_a_run_that_another_version_began_or_ended_does_not_count_for_ever(store: Store) -> None:
    """Executors of the version before keep no index: a rolling update has both at work."""
    await do(store, start(), start("two", event=2))
    await store.command("DEL", store.key(f"rq:{FN}"))
    held = await lease(store, "a")
    assert (await counts(store)).running == 1
    await store.command("SMOVE", store.key(f"rb:{FN}"), store.key(f"rq:{FN}"), held.run)
    await commit(store, held, finish(held.run))
    assert await store.live_runs(ENV, [SLUG]) == {SLUG: 0}
    await store.command("SADD", store.key(f"rb:{FN}"), "gone", "also-gone")
    assert await store.live_runs(ENV, [SLUG]) == {SLUG: 0}


async def test_all_runs_of_an_app_are_cancelled_in_portions(store: Store) -> None:
    """Waiting, running and queued ones, of all its functions and of no others; each is told of once."""
    functions = tuple(FunctionConfig(slug=f"app-{n}", name=n, url="http://app/") for n in "ab")
    await register_app(
        store, ENV, App(id="app", url="http://app/", functions=functions, checksum="1"), now_ms=1
    )
    held = await begin(store, "sleeping", fn=f"{ENV}/app-a")
    await commit(store, held, wait("z", run="sleeping", kind="sleep"))
    await begin(store, "running", event=2, fn=f"{ENV}/app-a")
    for n in range(CANCELLED_AT_ONCE + 10):
        await do(store, start(f"queued{n}", event=3 + n, fn=f"{ENV}/app-b"))
    await do(store, start("other", event=500))
    ids = RandomIds()
    left = await cancel_app_runs(store, ENV, "app", ids, now_ms=5, most=10)
    assert left == CANCELLED_AT_ONCE + 2
    assert await store.live_runs(ENV, ["app-a", "app-b"]) == {"app-a": 0, "app-b": left}
    assert await cancel_app_runs(store, ENV, "app", ids, now_ms=5) == 0
    assert await store.live_runs(ENV, ["app-a", "app-b", SLUG]) == {"app-a": 0, "app-b": 0, SLUG: 1}
    for run in ("sleeping", "running", "queued0"):
        summary = await store.run(run)
        assert summary is not None
        assert summary.status == "Cancelled"
    peeked = await store.peek(500)
    assert peeked is not None
    assert [event.name for event in peeked.events] == ["inngest/function.cancelled"] * (
        CANCELLED_AT_ONCE + 12
    )
    notes = await store.command("XRANGE", store.key("hist"), "-", "+")
    assert sum(is_cancelled(fields[3]) for _, fields in notes) == CANCELLED_AT_ONCE + 12
    assert await cancel_app_runs(store, ENV, "app", ids, now_ms=5) == 0


async def test_runs_of_functions_that_have_gone_are_cancelled_by_name(store: Store) -> None:
    """Of an app that has been removed, or of a function that its last version no longer had."""
    app = App(
        id="app", url="http://app/", functions=(FunctionConfig(slug=SLUG, name="f", url="http://app/"),)
    )
    await register_app(store, ENV, app, now_ms=1)
    await do(store, start())
    await remove_app(store, ENV, "app", now_ms=1)
    assert await cancel_app_runs(store, ENV, "app", RandomIds(), now_ms=1) == 0
    assert await store.live_runs(ENV, [SLUG]) == {SLUG: 1}
    assert await cancel_app_runs(store, ENV, "app", RandomIds(), now_ms=1, slugs=[SLUG]) == 0
    assert await store.live_runs(ENV, [SLUG]) == {SLUG: 0}


async def test_what_another_version_ended_does_not_keep_an_app_from_going(store: Store) -> None:
    """However many there are: each is gone after one call."""
    app = App(
        id="app", url="http://app/", functions=(FunctionConfig(slug=SLUG, name="f", url="http://app/"),)
    )
    await register_app(store, ENV, app, now_ms=1)
    await store.command("SADD", store.key(f"rq:{FN}"), *(f"gone{n}" for n in range(200)))
    assert await cancel_app_runs(store, ENV, "app", RandomIds(), now_ms=1) == 0
