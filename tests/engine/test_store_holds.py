"""Paused functions: their starts, their further steps or both wait; time goes on for what waits."""

import pytest

from innkeeper_engine.model.effects import Plan, Retry
from innkeeper_engine.store.store import Held, Store
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import (
    ENV,
    FN,
    begin,
    commit,
    do,
    finish,
    lease,
    nothing_to_lease,
    results,
    saved,
    start,
    wait,
)
from tests.engine.model_server import read_shard


async def hold(store: Store, held: Held, fn: str = FN, *caps: str | int) -> None:
    """Pause these lanes of a function, and no others."""
    await store.configure(ENV, functions=[(fn, held, caps)])


async def in_both_lanes(store: Store) -> None:
    """`old` has begun and has a further step to do, `new` has not begun."""
    held = await begin(store, "old")
    await commit(store, held, saved("a", run="old"))
    await do(store, start("new", event=2))


@pytest.mark.parametrize(
    ("held", "go_on"), [("", {"old", "new"}), ("s", {"old"}), ("t", {"new"}), ("st", set())]
)
async def test_a_pause_holds_the_lanes_that_it_names(store: Store, held: Held, go_on: set[str]) -> None:
    """And lets all of them out at its end."""
    await in_both_lanes(store)
    await hold(store, held)
    leased = {(await lease(store, f"t{n}")).run for n in range(len(go_on))}
    assert leased == go_on
    assert await nothing_to_lease(store)
    await hold(store, "")
    rest = {(await lease(store, f"u{n}")).run for n in range(2 - len(go_on))}
    assert leased | rest == {"old", "new"}
    assert not [name for name in await read_shard(store) if name.startswith("hl:")]


async def test_a_pause_may_become_another(store: Store) -> None:
    """What it no longer names goes on; what it has come to name is held from then on."""
    await in_both_lanes(store)
    await hold(store, "st")
    assert await nothing_to_lease(store)
    await hold(store, "t")
    assert (await lease(store, "a")).run == "new"
    await hold(store, "s")
    assert (await lease(store, "b")).run == "old"
    await do(store, start("newer", event=3))
    assert await nothing_to_lease(store)


async def test_a_pause_of_the_version_before_holds_both_lanes(store: Store) -> None:
    """It wrote a 1, and lanes that are held are in the same set."""
    await in_both_lanes(store)
    await store.command("HSET", store.key(f"f:{FN}"), "held", 1)
    assert await nothing_to_lease(store)
    await hold(store, "s")
    assert (await lease(store, "a")).run == "old"


async def test_what_is_tried_again_waits_among_the_steps(store: Store) -> None:
    """A run whose first request failed has begun: a pause of the starts alone does not hold it."""
    held = await begin(store)
    await hold(store, "s")
    await commit(store, held, Retry(held.item, 1, 0))
    assert (await lease(store, "a")).attempt == 1


async def test_requests_under_way_may_end_in_a_pause(store: Store) -> None:
    """What they ask for waits."""
    held = await begin(store)
    await hold(store, "st")
    assert (await commit(store, held, saved("a", go=False), Plan("run", "b"))).status == "ok"
    assert list(await results(store)) == ["a"]
    assert await nothing_to_lease(store)
    await hold(store, "")
    assert (await lease(store, "b")).step == "b"


async def test_time_goes_on_in_a_pause(timed: Store, clock: TestClock) -> None:
    """A wait whose deadline passes is over; its run goes on after the pause."""
    held = await begin(timed)
    await commit(timed, held, wait("w", deadline_ms=clock.now_ms + 10, on_timeout=b"null"))
    await hold(timed, "st")
    clock.now_ms += 10
    await timed.due()
    assert await results(timed) == {"w": b"null"}
    assert await nothing_to_lease(timed)
    await hold(timed, "")
    assert (await lease(timed, "a")).stack == ("w",)


async def test_a_run_that_is_due_later_waits_for_the_end_of_the_pause(timed: Store, clock: TestClock) -> None:
    """Its time comes in the pause; it begins after it."""
    await do(timed, start(due_ms=clock.now_ms + 10))
    await hold(timed, "s")
    clock.now_ms += 10
    assert await nothing_to_lease(timed)
    await hold(timed, "")
    assert (await lease(timed, "a")).run == "run"


async def test_the_end_of_a_pause_takes_nothing_from_others(store: Store) -> None:
    """A function with a hundred waiting runs takes turns with one that has two."""
    other = f"{ENV}/other"
    await hold(store, "st")
    for n in range(100):
        await do(store, start(f"many{n:02}", event=n))
    assert await nothing_to_lease(store)
    await do(store, start("few0", event=200, fn=other), start("few1", event=201, fn=other))
    await hold(store, "")
    order = [(await lease(store, f"t{n}")).run[:3] for n in range(5)]
    assert order == ["few", "man", "few", "man", "man"]


async def test_a_function_keeps_its_limits_in_a_pause(store: Store) -> None:
    """After it no more go on than may."""
    await hold(store, "st", FN, "c", 1)
    await do(store, start("one", event=1), start("two", event=2))
    assert await nothing_to_lease(store)
    await hold(store, "", FN, "c", 1)
    held = await lease(store, "a")
    assert await nothing_to_lease(store)
    await commit(store, held, finish(held.run))
    assert (await lease(store, "b")).run == "two"
