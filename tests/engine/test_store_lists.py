"""Lists: what they have, in which order, how they go on, and what leaves them."""

import pytest

from innkeeper_engine.model.clock import encode_ulid
from innkeeper_engine.model.effects import Emit, Skip
from innkeeper_engine.model.guards import CursorGuard
from innkeeper_engine.store.lists import NEWEST, EventPosition, Lists
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import ENV, FN, begin, cancel, commit, do, event_id, fail, finish, lease, start

SLUG = "app-fn"
DAY_MS = 86_400_000
KEEP_S = 3 * 86_400


def an_id(n: int) -> str:
    """The id of event `n`, unlike those of runs' events."""
    return encode_ulid(1_000, n)


async def send(store: Store, first: int, *names: str, env: str = "e") -> None:
    """Events with these names, numbered from `first`."""
    await store.append(env, [(an_id(first + n), name, b'{"n":%d}' % n) for n, name in enumerate(names)])


async def ids(store: Store, limit: int = 50, **what: object) -> list[str]:
    """The ids of a list's events, page by page as one."""
    lists, found, at = Lists(store), list[str](), NEWEST
    for _ in range(1000):
        page = await lists.events("e", limit=limit, at=at, **what)  # type: ignore[arg-type]
        found += [row.id for row in page.rows]
        if page.after is None:
            return found
        at = page.after
    raise AssertionError("a list without an end")


def numbers(*wanted: int) -> list[str]:
    """Ids of events."""
    return [an_id(n) for n in wanted]


@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_events_are_listed_newest_first(store: Store, limit: int) -> None:
    """Those of one name, or all but the engine's own, which are there by their name."""
    await send(store, 0, "a", "b", "a", "inngest/function.failed", "a")
    await send(store, 5, "b", "a")
    assert await ids(store, limit) == numbers(6, 5, 4, 2, 1, 0)
    assert await ids(store, limit, name="a") == numbers(6, 4, 2, 0)
    assert await ids(store, limit, name="b") == numbers(5, 1)
    assert await ids(store, limit, name="inngest/function.failed") == numbers(3)
    assert await ids(store, limit, name="c") == []


async def test_a_list_of_events_stays_where_it_is_while_new_ones_come(store: Store) -> None:
    """Whatever has come meanwhile is before the cursor."""
    await send(store, 0, "a", "b", "a", "b", "a")
    for name, wanted in (("", numbers(2, 1, 0)), ("a", numbers(2, 0))):
        page = await Lists(store).events("e", name=name, limit=2)
        assert page.after is not None
        await send(store, 10 + len(name), "a")
        rest = await Lists(store).events("e", name=name, limit=9, at=page.rows[-1].after or page.after)
        assert [row.id for row in rest.rows] == wanted


async def test_events_are_listed_by_time(timed: Store, clock: TestClock) -> None:
    """`after_ms` is the first moment that counts, `before` the first that does not; whichever way a name is found."""
    began = clock.now_ms
    for n in range(6):
        await send(timed, n, "often" if n else "rare")
        clock.now_ms += 10
    before = f"{began + 40}-0"
    assert await ids(timed, after_ms=began + 20, before=before) == numbers(3, 2)
    assert await ids(timed, after_ms=began + 20, before=before, name="often") == numbers(3, 2)
    assert await ids(timed, before=before, name="rare") == numbers(0)
    assert await ids(timed, after_ms=began + 10, before=before, name="rare") == []
    await send(timed, 100, *["other"] * 600)
    assert await ids(timed, before=f"{clock.now_ms + 1}-0", name="rare", limit=3) == numbers(0)


async def test_a_page_looks_at_no_more_than_its_budget(store: Store) -> None:
    """It may be empty, and says where to go on."""
    await send(store, 0, "wanted", *["inngest/function.failed"] * 300)
    page = await Lists(store).events("e", limit=5, budget=100)
    assert (page.rows, page.after is not None) == ([], True)
    assert await ids(store, budget=100) == numbers(0)
    assert (await Lists(store).events("e", limit=5, budget=100, name="wanted")).rows[0].id == an_id(0)


async def test_a_name_is_found_by_its_own_events_alone(store: Store) -> None:
    """However many others there are: by its newest, and from each to the one before."""
    await send(store, 0, "rare", *["often"] * 100)
    await send(store, 101, "rare", *["often"] * 100)
    page = await Lists(store).events("e", name="rare", limit=5, budget=3)
    assert [row.id for row in page.rows] == numbers(101, 0)
    assert page.after is None


async def test_names_are_counted_by_the_day(timed: Store, clock: TestClock) -> None:
    """With the newest event of each and when it came."""
    clock.now_ms -= clock.now_ms % DAY_MS
    await send(timed, 0, "b", "a", "a")
    clock.now_ms += DAY_MS - 1
    await send(timed, 3, "a")
    found = await Lists(timed).event_types("e")
    assert [(t.name, t.today, t.last_id, t.last_ms) for t in found] == [
        ("a", 3, an_id(3), clock.now_ms),
        ("b", 1, an_id(0), clock.now_ms - DAY_MS + 1),
    ]
    clock.now_ms += 1
    await send(timed, 4, "a")
    assert (await Lists(timed).event_types("e"))[0].today == 1


async def test_names_are_bounded_and_what_was_left_out_is_still_found(timed: Store, clock: TestClock) -> None:
    """The longest unheard of some make room. The events of such a name are looked for one by one."""
    for n in range(1_100):
        if n % 100 == 0:
            clock.now_ms += 1
        await send(timed, n, f"n{n}")
    assert len(await Lists(timed).event_types("e")) == 1_000
    for n in (0, 55, 1_099):
        assert await ids(timed, name=f"n{n}", budget=400) == numbers(n)
    await send(timed, 2_000, "n0")
    assert await ids(timed, name="n0", budget=400) == numbers(2_000, 0)


async def test_events_leave_the_list_with_the_retention(timed: Store, clock: TestClock) -> None:
    """It is trimmed as it grows, without looking through it, and goes by itself where nothing comes any more."""
    await send(timed, 0, *["a"] * 1_000)
    clock.now_ms += KEEP_S * 1000 + 1
    await send(timed, 1_000, *["a"] * 200)
    assert await timed.command("XLEN", timed.key("ei:e")) <= 300
    for key in ("ei:e", "en:e"):
        assert 0 < await timed.command("TTL", timed.key(key)) <= KEEP_S + 2 * DAY_MS // 1000
    await timed.command("DEL", timed.key(f"ev:e:{an_id(1_100)}"))
    assert an_id(1_100) not in await ids(timed)


async def test_branches_that_events_came_for_are_known(timed: Store, clock: TestClock) -> None:
    """Until events of theirs are not kept any more; of others that look the same, nothing."""
    for n, env in enumerate(("e", "e~one", "e~two", "ee~one", "e~one")):
        clock.now_ms += 1
        await send(timed, n, "a", env=env)
    assert await Lists(timed).branches("e", 10) == ["e~one", "e~two"]
    assert await Lists(timed).branches("e", 1) == ["e~one"]
    clock.now_ms += KEEP_S * 1000 - 1
    await send(timed, 9, "a", env="e~two")
    assert await Lists(timed).branches("e", 10) == ["e~two", "e~one"]
    clock.now_ms += 1
    await send(timed, 10, "a", env="e~two")
    assert await Lists(timed).branches("e", 10) == ["e~two"]


# ---- runs


async def listed(store: Store, limit: int = 50, **what: object) -> list[str]:
    """The ids of a list's runs, page by page as one."""
    found, before = list[str](), ""
    for _ in range(1000):
        page = await Lists(store).runs(ENV, limit=limit, **{"before": before, **what})  # type: ignore[arg-type]
        found += [row.run.id for row in page.rows]
        if not page.after:
            return found
        before = page.after
    raise AssertionError("a list without an end")


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_runs_are_listed_by_function_and_status(timed: Store, clock: TestClock, limit: int) -> None:
    """Newest first, those made in one moment in the order in which they were made."""
    held = await begin(timed, "done")
    await commit(timed, held, finish("done"))
    held = await begin(timed, "failing", event=2)
    await commit(timed, held, fail("failing"))
    await do(
        timed,
        start("gone", event=3),
        cancel("gone"),
        Skip("skipped", ENV, FN, "app", (event_id(4),), "", "", b'{"type":"skipped"}', "", b""),
    )
    await begin(timed, "running", event=5)
    clock.now_ms += 5
    await do(timed, start("other", event=6, fn=f"{ENV}/other-fn"), start("waits", event=7))
    everything = ["waits", "other", "running", "skipped", "gone", "failing", "done"]
    mine = [run for run in everything if run != "other"]
    assert await listed(timed, limit) == everything
    assert await listed(timed, limit, slugs=[SLUG]) == mine
    assert await listed(timed, limit, slugs=[SLUG, "other-fn"]) == everything
    assert await listed(timed, limit, slugs=["other-fn", "none"]) == ["other"]
    assert await listed(timed, limit, slugs=[]) == []
    by_status = dict(
        zip(("Scheduled", "Running", "Skipped", "Cancelled", "Failed", "Completed"), mine, strict=True)
    )
    for status, run in by_status.items():
        assert await listed(timed, limit, slugs=[SLUG], statuses=[status]) == [run]
        expected = ["waits", "other"] if status == "Scheduled" else [run]
        assert await listed(timed, limit, statuses=[status]) == expected
        assert await listed(timed, limit, slugs=[SLUG, "other-fn"], statuses=[status]) == expected
    assert await listed(timed, limit, slugs=[SLUG], statuses=["Failed", "Completed"]) == ["failing", "done"]
    assert await listed(timed, limit, after_ms=clock.now_ms) == ["waits", "other"]
    assert await listed(timed, limit, before=str(clock.now_ms)) == mine[1:] if limit == 50 else True
    assert await Lists(timed).slugs(ENV) == {SLUG, "other-fn"}


async def test_a_list_of_runs_stays_where_it_is(store: Store) -> None:
    """New runs, and runs that end meanwhile, do not move what comes next."""
    await do(store, *(start(f"r{n}", event=n) for n in range(6)))
    page = await Lists(store).runs(ENV, slugs=[SLUG], limit=2)
    await do(store, start("new", event=9), cancel("r4"), cancel("r2"))
    rest = await Lists(store).runs(ENV, slugs=[SLUG], limit=9, before=page.after)
    assert [row.run.id for row in page.rows + rest.rows] == ["r5", "r4", "r3", "r2", "r1", "r0"]
    assert rest.after == ""


async def test_many_functions_are_listed_together(store: Store) -> None:
    """More of them than a page has runs; those of most are not looked at further than their newest."""
    await do(store, *(start(f"r{n}", event=n, fn=f"{ENV}/f{n % 20}") for n in range(60)))
    slugs = [f"f{n}" for n in range(20)]
    wanted = [f"r{n}" for n in reversed(range(60))]
    for limit in (1, 7, 50):
        assert await listed(store, limit, slugs=slugs) == wanted
        assert await listed(store, limit, slugs=slugs, statuses=["Scheduled"]) == wanted
        assert await listed(store, limit, slugs=slugs, statuses=["Scheduled"], budget=5) == wanted


async def test_too_many_functions_for_one_script_are_picked_out_of_all_runs(store: Store) -> None:
    """A page may be short then."""
    await do(store, start("mine"), start("other", event=2, fn=f"{ENV}/other-fn"))
    slugs = [SLUG, *(f"none{n}" for n in range(2_000))]
    assert await listed(store, slugs=slugs) == ["mine"]
    assert await listed(store, slugs=slugs, statuses=["Running"]) == []


async def test_runs_that_are_not_kept_leave_their_lists(timed: Store, clock: TestClock) -> None:
    """With the ends of later ones, a few each time; a list to which nothing comes goes by itself."""
    for n in range(6):
        await do(timed, start(f"old{n}", event=n), finish(f"old{n}"))
    key = timed.key(f"rs:c:{FN}")
    assert 0 < await timed.command("TTL", key) <= KEEP_S + 7_200
    clock.now_ms += KEEP_S * 1000 + 1
    await timed.command("DEL", *(timed.key(f"run:old{n}") for n in range(6)))
    for n in range(2):
        await do(timed, start(f"new{n}", event=n), finish(f"new{n}"))
    assert await timed.command("ZRANGE", key, 0, -1) == [b"new0", b"new1"]


async def test_short_runs_leave_their_lists_in_time_among_long_ones(timed: Store, clock: TestClock) -> None:
    """They are listed by when they were made, and go by when they ended; those of every status."""
    hour_ms = 3_600_000
    long = [f"long{n}" for n in range(6)]
    await do(timed, *(start(run, event=n) for n, run in enumerate(long)))
    clock.now_ms += hour_ms
    for n in range(20):
        end = (finish, fail, cancel)[n % 3]
        await do(timed, start(f"short{n}", event=n), end(f"short{n}"))
    await do(timed, Skip("skipped", ENV, FN, "app", (event_id(1),), "", "", b"{}", "", b""))
    clock.now_ms += KEEP_S * 1000 - hour_ms
    await do(timed, *(finish(run) for run in long))
    clock.now_ms += hour_ms
    await timed.due()
    lists = {kind: await timed.command("ZRANGE", timed.key(f"rs:{kind}:{FN}"), 0, -1) for kind in "cfxk"}
    assert lists == {"c": [run.encode() for run in long], "f": [], "x": [], "k": []}


async def test_a_long_run_keeps_its_place_while_it_is_kept(timed: Store, clock: TestClock) -> None:
    """Though it was made before the retention began."""
    await do(timed, start("long"))
    clock.now_ms += 2 * KEEP_S * 1000
    await do(timed, finish("long"), start("short", event=2), finish("short"))
    assert await listed(timed, slugs=[SLUG], statuses=["Completed"]) == ["short", "long"]


async def test_runs_that_another_version_began_or_ended_are_listed_as_they_are(store: Store) -> None:
    """It knows nothing of the lists of functions: what has ended is not shown as running, what is gone not at all."""
    await do(store, start("one"), start("two", event=2), start("three", event=3))
    await store.command("HSET", store.key("run:two"), "s", "Completed")
    await store.command("DEL", store.key("run:three"))
    assert await listed(store, slugs=[SLUG], statuses=["Scheduled"]) == ["one"]
    assert await store.command("ZCARD", store.key(f"rs:s:{FN}")) == 2
    held = await lease(store, "t")
    await store.command("ZADD", store.key(f"rs:s:{FN}"), 5, held.run)
    await commit(store, held, finish(held.run))
    assert await listed(store, slugs=[SLUG], statuses=["Completed"]) == [held.run]


async def test_the_backlog_says_since_when_the_oldest_waits(timed: Store, clock: TestClock) -> None:
    """Of functions with runs and without."""
    began = clock.now_ms
    await do(timed, start("one"), start("two", event=2))
    clock.now_ms += 1_000
    await do(timed, start("three", event=3))
    await lease(timed, "t")
    found = await Lists(timed).backlog(ENV, [SLUG, "none"])
    assert found == {SLUG: (2, 1, began), "none": (0, 0, None)}


async def test_events_of_the_engine_are_listed_by_their_name(store: Store) -> None:
    """As those that come from outside are."""
    await send(store, 0, "a")
    assert (
        await store.apply(CursorGuard("e", 0, "", 1), [Emit("e", an_id(1), "inngest/x", b"{}")])
    ).status == "ok"
    assert await ids(store) == numbers(0)
    assert await ids(store, name="inngest/x") == numbers(1)


def test_a_position_is_plain_data() -> None:
    """It goes into cursors."""
    assert EventPosition("s", "1-2") == ("s", "1-2")
