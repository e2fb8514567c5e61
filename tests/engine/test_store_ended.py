"""Runs that have ended and are kept, listed by when they ended: for whoever writes away what is about to go."""

import pytest

from innkeeper_engine.store.reading import EndedRun
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import ENV, do, finish, start
from tests.engine.test_store_skips import skip


async def end_some(store: Store, clock: TestClock, count: int, *, at_once: int = 1) -> list[EndedRun]:
    """Runs that end, `at_once` of them in each ms; as they must be listed."""
    ended = []
    for n in range(count):
        clock.now_ms += n % at_once == 0
        run = f"r{n:03}"
        await do(store, start(run, event=n), finish(run))
        ended.append(EndedRun(clock.now_ms, run))
    return ended


async def pages(store: Store, limit: int, from_ms: int = 0, until_ms: int = 10**15) -> list[EndedRun]:
    """All pages."""
    found: list[EndedRun] = []
    while True:
        last = found[-1] if found else None
        page = await store.ended_runs(ENV, from_ms=from_ms, until_ms=until_ms, after=last, limit=limit)
        if not page:
            return found
        assert len(page) <= limit
        found += page


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_all_are_listed_once_by_their_ends(timed: Store, clock: TestClock, limit: int) -> None:
    """Also where several end in the same ms; what goes on is not among them."""
    ended = await end_some(timed, clock, 12, at_once=4)
    await do(timed, start("live", event=99))
    assert await pages(timed, limit) == ended


async def test_a_range_has_its_first_and_not_its_last_ms(timed: Store, clock: TestClock) -> None:
    ended = await end_some(timed, clock, 8, at_once=2)
    assert await pages(timed, 3, ended[2].ended_ms, ended[6].ended_ms) == ended[2:6]


async def test_skipped_runs_have_ended(timed: Store) -> None:
    await do(timed, skip("skipped"))
    assert [each.id for each in await pages(timed, 9)] == ["skipped"]


@pytest.mark.parametrize("at", [1, 4, 5])
async def test_it_goes_on_where_the_last_one_was(timed: Store, clock: TestClock, at: int) -> None:
    """Although that one, and all before it, are kept no more."""
    ended = await end_some(timed, clock, 9, at_once=4)
    await timed.command("ZREM", timed.key(f"ended:{ENV}"), *(each.id for each in ended[: at + 1]))
    found = await timed.ended_runs(ENV, from_ms=0, until_ms=10**15, after=ended[at], limit=2)
    assert found == ended[at + 1 : at + 3]


async def test_who_ends_meanwhile_comes_later(timed: Store, clock: TestClock) -> None:
    ended = await end_some(timed, clock, 3)
    first = await timed.ended_runs(ENV, from_ms=0, until_ms=10**15, limit=3)
    assert first == ended
    clock.now_ms += 1
    await do(timed, start("late", event=50), finish("late"))
    (last,) = await timed.ended_runs(ENV, from_ms=0, until_ms=10**15, after=first[-1])
    assert last == EndedRun(clock.now_ms, "late")


async def test_an_environment_without_any_has_an_empty_page(store: Store) -> None:
    assert await store.ended_runs("other", from_ms=0, until_ms=10**15) == []
