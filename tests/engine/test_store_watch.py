"""Runs that have nothing to go on by: they are found, page by page, and nothing else is."""

import re

import pytest

from innkeeper_engine.model.effects import Plan
from innkeeper_engine.model.replays import SetReplay
from innkeeper_engine.store.numbers import read_environment_numbers
from innkeeper_engine.store.store import Greeter, Store
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import (
    ENV,
    begin,
    cancel,
    cancel_on,
    commit,
    do,
    finish,
    lease,
    notes,
    saved,
    start,
    wait,
)


async def watch_a_round(store: Store, clock: TestClock) -> list[str]:
    """All pages of one round; the runs that are found."""
    found = []
    for _ in range(100):
        found += [stuck.run for stuck in await store.watch()]
        due_at = float(await store.command("ZSCORE", store.key("timers2"), "K"))
        if due_at - clock.now_ms > 1_000:
            return found
        clock.now_ms = int(due_at)
    raise AssertionError("the round has no end")


async def stuck(store: Store, clock: TestClock) -> int:
    """How many are shown."""
    return (await read_environment_numbers(store, ENV, clock.now_ms)).stuck


async def break_run(store: Store, run: str) -> None:
    """Its only item gets lost, as no script would do it."""
    item = f"{run}.0"
    partition = (await store.command("HGET", store.key(f"i:{item}"), "p")).decode()
    await store.command("ZREM", store.key(f"q:{partition}"), item)


async def test_what_waits_is_worked_on_or_sleeps_is_not_stuck(timed: Store, clock: TestClock) -> None:
    await do(timed, start("queued", event=1, cancels=[cancel_on("stop", run="queued")]))
    await do(timed, start("later", event=2, due_ms=clock.now_ms + 10_000_000))
    held = await lease(timed, "t1")
    assert held.run == "queued"
    sleeper = await begin(timed, "sleeper", event=3)
    await commit(timed, sleeper, wait("z", run="sleeper", kind="sleep"))
    planner = await begin(timed, "planner", event=4)
    await commit(timed, planner, Plan("planner", "p"))

    assert await watch_a_round(timed, clock) == []
    assert await stuck(timed, clock) == 0


async def test_a_run_without_anything_to_go_on_by_is_told_once(timed: Store, clock: TestClock) -> None:
    held = await begin(timed, cancels=[cancel_on("stop")])
    # An answer that nobody would give: nothing is asked for any more.
    await commit(timed, held, saved("a", go=False))

    assert await watch_a_round(timed, clock) == ["run"]
    assert await stuck(timed, clock) == 1
    assert [run for run, text in await notes(timed) if b'"stuck"' in text] == ["run"]
    assert await watch_a_round(timed, clock) == []
    assert await stuck(timed, clock) == 1


async def test_a_run_whose_item_is_in_no_queue_is_stuck(timed: Store, clock: TestClock) -> None:
    await do(timed, start("lost"), start("fine", event=2))
    await break_run(timed, "lost")

    assert await watch_a_round(timed, clock) == ["lost"]


async def test_a_run_that_goes_on_again_or_has_ended_is_stuck_no_more(timed: Store, clock: TestClock) -> None:
    for run in ("one", "two"):
        await commit(timed, await begin(timed, run, event=len(run)), saved("a", run=run, go=False))
    assert sorted(await watch_a_round(timed, clock)) == ["one", "two"]
    await do(timed, Plan("one", "healed"), cancel("two"))

    assert await stuck(timed, clock) == 1, "what has ended is not shown"
    await watch_a_round(timed, clock)
    assert await stuck(timed, clock) == 0


async def test_many_runs_are_looked_at_in_pages(timed: Store, clock: TestClock) -> None:
    runs = [f"run{n:04}" for n in range(900)]
    for first in range(0, 900, 100):
        await do(timed, *(start(run, event=n) for n, run in enumerate(runs[first : first + 100], first)))
    await break_run(timed, "run0444")

    pages = 0
    found: list[str] = []
    while True:
        found += [one.run for one in await timed.watch()]
        pages += 1
        if await timed.command("EXISTS", timed.key("watching")) == 0:
            break
    assert found == ["run0444"]
    assert pages >= 3


async def test_the_watch_is_armed_once_and_told_when_it_is_due(timed: Store, clock: TestClock) -> None:
    greeter = Greeter(timed._verbs, timed._connection)
    await greeter.arm_watch()
    armed = await timed.command("ZSCORE", timed.key("timers2"), "K")
    clock.now_ms += 5_000
    await greeter.arm_watch()
    assert await timed.command("ZSCORE", timed.key("timers2"), "K") == armed
    assert not (await timed.due()).watch
    clock.now_ms = int(float(armed))
    assert (await timed.due()).watch

    # Whoever was told has gone: it comes up again.
    clock.now_ms += 5_000
    assert (await timed.due()).watch
    assert await timed.watch() == []
    assert not (await timed.due()).watch


async def test_many_environments_are_looked_at_in_pages(timed: Store, clock: TestClock) -> None:
    """A script looks at a few: an environment may have thousands of functions, and a shard thousands of both."""
    envs = [f"env~b{n:03}" for n in range(150)]
    for n, env in enumerate(envs):
        await do(timed, start(f"r{n}", event=n, fn=f"{env}/app-fn")._replace(env=env))
    await do(timed, *(start(f"f{n}", event=n, fn=f"{ENV}/f{n}") for n in range(200)))
    await break_run(timed, "r77")
    await break_run(timed, "f177")
    pages, found = 0, []
    while pages == 0 or await timed.command("EXISTS", timed.key("watching")):
        before = await commands_of_scripts(timed)
        found += [stuck.run for stuck in await timed.watch()]
        assert await commands_of_scripts(timed) - before < 2_500
        pages += 1
    assert sorted(found) == ["f177", "r77"]
    assert pages > 5


async def commands_of_scripts(store: Store) -> int:
    """How many commands the server has done so far, those of scripts included."""
    stats = (await store.command("INFO", "commandstats")).decode()
    return sum(int(n) for n in re.findall(r":calls=(\d+)", stats))


async def test_environments_that_nothing_is_left_of_are_no_longer_listed(
    timed: Store, clock: TestClock
) -> None:
    """Nor their functions; one that has an app, runs or events stays."""
    await timed.configure(ENV, app="app", blob=b"{}")
    await timed.configure("env~gone", app="app", blob=b"{}")
    await timed.configure("env~gone", app="app", blob=b"")
    await timed.configure("env~ran", app="app", blob=b"{}")
    await do(timed, start("r", fn="env~ran/app-fn")._replace(env="env~ran"), finish("r"))
    await timed.configure("env~ran", app="app", blob=b"")
    await watch_a_round(timed, clock)
    assert await timed.environments() == [ENV, "env~ran"]
    assert await timed.command("SMEMBERS", timed.key("me")) == [b"env~ran"]
    clock.now_ms += 2 * 86_400_000
    await watch_a_round(timed, clock)
    assert await timed.command("EXISTS", timed.key("me"), timed.key("mf:env~ran")) == 0


@pytest.mark.parametrize("heals", ["hello", "watch"])
async def test_replays_whose_timers_another_version_has_dropped_go_on(timed: Store, heals: str) -> None:
    """It knows no such timers, and takes away what it does not know."""
    await do(timed, SetReplay(ENV, "one", b"{}", 0), SetReplay(ENV, "two", b"{}", 0))
    await do(timed, SetReplay(ENV, "two", b"", 0))
    await timed.command("ZREM", timed.key("timers2"), f"R{ENV}/one")
    if heals == "hello":
        await timed.hello("X", [])
    else:
        await timed.watch()
    assert (await timed.due()).replays == [(ENV, "one")]
    await do(timed, SetReplay(ENV, "one", b"", 0))
    assert await timed.command("EXISTS", timed.key("rpls")) == 0
