"""Cancellations of many runs: how they are kept, and how the runs that are there are looked through page by page."""

from collections.abc import Callable
from typing import Literal

import pytest

from innkeeper_engine.model.cancellations import Sweep
from innkeeper_engine.model.effects import Cancel, Effect, Swept
from innkeeper_engine.model.guards import SweepGuard
from innkeeper_engine.model.state import RunHead
from innkeeper_engine.store.store import Store
from tests.conftest import OpenStore, ValkeyProcess
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import ENV, EVENT_BODY, FN, IDS, begin, do, finish, lease, start
from tests.engine.model_server import read_shard

SLUG = FN.removeprefix(f"{ENV}/")
ID, OTHER = "0" * 26, "1" * 26
BODY = b'{"id":"x","slug":"app-fn"}'
HOUR_MS = 3_600_000


async def ask(store: Store, clock: TestClock, cancellation: str = ID, env: str = ENV) -> int:
    """A cancellation whose sweep begins at once."""
    return await store.configure(env, cancellations=[(cancellation, BODY, clock.now_ms)])


def page(
    phase: str = "begun", cursor: str = "7", *, looked: int = 5, cancelled: int = 2, due_ms: int = 0
) -> Swept:
    """A page that was looked through."""
    return Swept(ENV, ID, phase, cursor, looked, cancelled, due_ms)


def sweep_at(
    revision: int, phase: Literal["queued", "begun", "done"], cursor: str, looked: int, cancelled: int
) -> Sweep:
    """How far it is."""
    return Sweep(revision=revision, phase=phase, cursor=cursor, looked=looked, cancelled=cancelled)


async def sweep_on(store: Store, revision: int, *effects: Effect) -> str:
    """Commit a page on this revision."""
    return (await store.apply(SweepGuard(ENV, ID, revision), effects)).status


async def test_cancellations_come_back_as_they_were_written(timed: Store, clock: TestClock) -> None:
    """By environment and id; the registry has another version, so that whoever starts runs reads them."""
    before = await timed.registry_version()
    first = await ask(timed, clock)
    second = await ask(timed, clock, OTHER)
    await ask(timed, clock, env="other~branch")
    assert before < first < second
    assert await timed.cancellations(ENV) == {ID: BODY, OTHER: BODY}
    assert await timed.cancellations("other~branch") == {ID: BODY}
    assert await timed.cancellations("none") == {}
    assert await timed.command("LLEN", timed.key("rwake")) == 1


async def test_a_sweep_is_due_when_it_was_said(timed: Store, clock: TestClock) -> None:
    """And told again every five seconds until somebody has looked a page through."""
    await timed.configure(ENV, cancellations=[(ID, BODY, clock.now_ms + 1_000)])
    assert (await timed.due()).sweeps == []
    clock.now_ms += 1_000
    assert (await timed.due()).sweeps == [(ENV, ID)]
    clock.now_ms += 4_999
    assert (await timed.due()).sweeps == []
    clock.now_ms += 1
    assert (await timed.due()).sweeps == [(ENV, ID)]


async def test_an_environment_that_is_a_branch_has_sweeps(timed: Store, clock: TestClock) -> None:
    """Its name has a mark in it, and maybe an escaped slash."""
    await ask(timed, clock, env="e~feature%2Fx")
    assert (await timed.due()).sweeps == [("e~feature%2Fx", ID)]


async def test_a_page_that_is_done_is_kept(timed: Store, clock: TestClock) -> None:
    """With what was looked at and cancelled in all of them, and when the next is due."""
    await ask(timed, clock)
    await timed.due()
    assert await timed.sweep(ENV, ID) == Sweep()
    assert await sweep_on(timed, 0, page("queued", "3")) == "ok"
    assert await timed.sweep(ENV, ID) == sweep_at(1, "queued", "3", 5, 2)
    assert (await timed.due()).sweeps == [(ENV, ID)], "at once"
    assert await sweep_on(timed, 1, page("done", "0", due_ms=clock.now_ms + HOUR_MS)) == "ok"
    assert await timed.sweep(ENV, ID) == sweep_at(2, "done", "0", 10, 4)
    due = await timed.due()
    assert (due.sweeps, due.next_ms) == ([], clock.now_ms + HOUR_MS)
    clock.now_ms += HOUR_MS
    assert (await timed.due()).sweeps == [(ENV, ID)]


async def test_a_page_counts_once(timed: Store, clock: TestClock) -> None:
    """Two executors that look through the same one: the second is refused, and so is a commit that is sent again."""
    await ask(timed, clock)
    await do(timed, start())
    cancelled = Cancel("run", IDS)
    assert await sweep_on(timed, 0, cancelled, page()) == "ok"
    await do(timed, start("two", event=2))
    assert await sweep_on(timed, 0, Cancel("two", IDS), page()) == "moved"
    assert await timed.sweep(ENV, ID) == sweep_at(1, "begun", "7", 5, 2)
    assert await timed.is_live("two")
    assert not await timed.is_live("run")


@pytest.mark.parametrize("how", ["swept", "configured"])
async def test_a_cancellation_that_is_forgotten_is_gone(timed: Store, clock: TestClock, how: str) -> None:
    """With all that is known of it, and the registry has another version; who works on it is refused."""
    version = await ask(timed, clock)
    await sweep_on(timed, 0, page())
    if how == "swept":
        clock.now_ms += 1
        applied = await timed.apply(SweepGuard(ENV, ID, 1), [page("forgotten")])
        assert (applied.status, applied.registry) == ("ok", await timed.registry_version())
    else:
        await timed.configure(ENV, cancellations=[(ID, b"", 0)])
    assert await timed.registry_version() > version
    keys = await read_shard(timed)
    assert not [name for name in keys if name.startswith(("cx:", "swp:", "timers"))]
    assert await sweep_on(timed, 2, page()) == "moved"
    assert await sweep_on(timed, 0, page()) == "moved"
    await do(timed, page())
    assert await read_shard(timed) == keys, "nothing is left by who came too late"


async def test_what_is_written_again_goes_on(timed: Store, clock: TestClock) -> None:
    """A request whose reply got lost: the sweep is where it was."""
    await ask(timed, clock)
    await sweep_on(timed, 0, page())
    await ask(timed, clock)
    assert await timed.sweep(ENV, ID) == sweep_at(1, "begun", "7", 5, 2)


# ---- runs to look through


async def scanned(store: Store, phase: Literal["queued", "begun"], count: int) -> tuple[set[str], int]:
    """All of a function's runs of a phase, and in how many pages they came."""
    found: set[str] = set()
    cursor, pages = "0", 0
    while pages == 0 or cursor != "0":
        cursor, runs = await store.scan_live_runs(ENV, SLUG, phase, cursor, count)
        found.update(runs)
        pages += 1
    return found, pages


async def test_runs_are_met_in_pages(store: Store) -> None:
    """Those that have not begun, and those that have; none that has ended, none of another function."""
    runs = [f"r{n}" for n in range(300)]
    await do(store, *(start(run, event=n, announces=False) for n, run in enumerate(runs[:150])))
    await do(store, *(start(run, event=n, announces=False) for n, run in enumerate(runs[150:])))
    await do(store, start("else", fn=f"{ENV}/app-else"))
    begun = {(await lease(store, f"t{n}")).run for n in range(3)} - {"else"}
    queued, pages = await scanned(store, "queued", 50)
    assert (queued, await scanned(store, "begun", 50)) == (set(runs) - begun, (begun, 1))
    assert 2 < pages < 20
    await do(store, *(finish(run) for run in begun))
    assert await scanned(store, "begun", 50) == (set(), 1)


async def test_pages_begin_anew_after_a_restart_of_the_server(
    private_valkey: Callable[..., ValkeyProcess], open_store: OpenStore
) -> None:
    """It orders sets in another way then: where somebody was in the old order says nothing."""
    first = private_valkey("--appendonly", "yes")
    store = await open_store(address=first.address)
    runs = [f"r{n}" for n in range(600)]
    await store.command("SADD", store.key(f"rq:{FN}"), *runs)
    cursor, before = await store.scan_live_runs(ENV, SLUG, "queued", "0", 200)
    assert 0 < len(before) < len(runs)
    first.stop()
    await store.close()
    again = ValkeyProcess(first.path.parent, "--appendonly", "yes")
    try:
        store = await open_store(address=again.address, prefix=store.settings.prefix)
        met: list[str] = []
        pages = 0
        while cursor != "0":
            cursor, page_runs = await store.scan_live_runs(ENV, SLUG, "queued", cursor, 200)
            met += page_runs
            pages += 1
        assert set(met) == set(runs)
        assert pages > 1, "it goes on where it is while the server stays"
    finally:
        again.stop()


async def test_the_heads_of_runs_come_in_one_reply(timed: Store, clock: TestClock) -> None:
    """When they were made and by which event; nothing of those that have ended."""
    made_ms = clock.now_ms
    await begin(timed)
    clock.now_ms += 5
    await do(timed, start("two", event=2, body=b"2"), start("gone", event=3), finish("gone"))
    heads = [RunHead("run", made_ms, EVENT_BODY), None, RunHead("two", made_ms + 5, b"2"), None]
    names = ["run", "gone", "two", "unknown"]
    assert await timed.run_heads(names) == heads
    without = [head and head._replace(event=b"") for head in heads]
    assert await timed.run_heads(names, events=False) == without
    assert await timed.run_heads([]) == []


async def test_a_run_counts_from_when_its_event_was_received(timed: Store, clock: TestClock) -> None:
    """However late it was routed: as whoever starts it counts."""
    await do(timed, start("late")._replace(made_ms=clock.now_ms - 5_000))
    await do(timed, start("now", event=2)._replace(made_ms=clock.now_ms))
    heads = await timed.run_heads(["late", "now"], events=False)
    assert heads == [RunHead("late", clock.now_ms - 5_000, b""), RunHead("now", clock.now_ms, b"")]
    keys = await read_shard(timed)
    assert "m" in keys["st:late"].value
    assert "m" not in keys["st:now"].value


async def test_a_reply_of_large_events_is_bounded(store: Store) -> None:
    """As many come as some megabytes hold, and always one."""
    body = b'"%b"' % (b"x" * (1 << 20))
    names = [f"r{n}" for n in range(9)]
    for n, run in enumerate(names):
        await do(store, start(run, event=n, body=body * 5 if n == 0 else body))
    assert [head and head.run for head in await store.run_heads(names)] == names[:1]
    heads = await store.run_heads(names[1:])
    assert [head and head.run for head in heads] == names[1 : 1 + len(heads)]
    assert 3 <= len(heads) <= 5
    assert len(await store.run_heads(names, events=False)) == 9
