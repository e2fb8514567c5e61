"""Priorities: a run is taken to be so much older, or younger, than it is, among the runs of its function."""

import pytest

from innkeeper_engine.model.effects import Cancel, Plan, Retry, Start
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_names import signed
from tests.engine.model_runs import (
    ENV,
    FN,
    IDS,
    STARTS,
    STEPS,
    commit,
    do,
    finish,
    lease,
    nothing_to_lease,
    saved,
    start,
)

SECOND_MS = 1000
PRIOR_STARTS, PRIOR_STEPS = signed(STARTS, "p1"), signed(STEPS, "p1")


@pytest.fixture(autouse=True)
async def priorities(timed: Store) -> None:
    """The function has a priority, and nothing else that depends on an event."""
    await configure(timed)


async def configure(store: Store, *caps: str | int, fn: str = FN) -> None:
    """The caps of a function whose runs have priorities."""
    await store.configure(ENV, functions=[(fn, "", [*caps, "sig", "p1"])])


def prior(run: str, boost_s: int, clock: TestClock, key: str = "", *, fn: str = FN, event: int = 1) -> Start:
    """A run that is due now; `key`: the value of its limit's key."""
    boost_ms = boost_s * SECOND_MS
    limits = f"\x02c:1|{key}" if key else ""
    lane = signed(f"{fn}\x01s", "p1")
    return start(run, event=event, fn=fn)._replace(
        start_partition=lane + limits,
        step_partition=signed(f"{fn}\x01t", "p1") + limits,
        order=clock.now_ms - boost_ms,
        boost_ms=boost_ms,
    )


async def leased(store: Store, count: int) -> list[str]:
    """The runs of the next items, in their order."""
    return [(await lease(store, f"t{n}")).run for n in range(count)]


async def test_within_a_partition_the_boosted_run_goes_first(timed: Store, clock: TestClock) -> None:
    """By its time less its priority."""
    for run, boost_s in [("plain", 0), ("late", -5), ("early", 5), ("plain2", 0)]:
        await do(timed, prior(run, boost_s, clock))
        clock.now_ms += 1
    assert await leased(timed, 4) == ["early", "plain", "plain2", "late"]


async def test_a_priority_passes_those_of_other_keys_who_joined_in_its_time(
    timed: Store, clock: TestClock
) -> None:
    """And nobody who joined before."""
    for run, boost_s in [("first", 0), ("second", 0), ("boosted", 10)]:
        await do(timed, prior(run, boost_s, clock, key=run))
        clock.now_ms += 6 * SECOND_MS
    assert await leased(timed, 3) == ["first", "boosted", "second"]


async def test_a_negative_priority_lets_others_pass_for_its_time(timed: Store, clock: TestClock) -> None:
    """And nobody who comes later than that."""
    for run, boost_s in [("patient", -10), ("second", 0), ("third", 0)]:
        await do(timed, prior(run, boost_s, clock, key=run))
        clock.now_ms += 6 * SECOND_MS
    assert await leased(timed, 3) == ["second", "patient", "third"]


async def test_a_boosted_run_takes_its_partition_with_it(timed: Store, clock: TestClock) -> None:
    """One that waits for its turn already."""
    for run, boost_s, key in [("a", 0, "one"), ("b", 0, "two"), ("c", 0, "three"), ("d", 60, "three")]:
        await do(timed, prior(run, boost_s, clock, key=key))
        clock.now_ms += SECOND_MS
    assert await leased(timed, 4) == ["d", "a", "b", "c"]


async def test_a_run_behind_another_one_does_not_hurry_it(timed: Store, clock: TestClock) -> None:
    """The turn is that of the first in the queue."""
    for run, boost_s, key, wait_s in [("a", 0, "one", 1), ("b", 0, "two", 30), ("c", 10, "two", 1)]:
        await do(timed, prior(run, boost_s, clock, key=key))
        clock.now_ms += wait_s * SECOND_MS
    assert await leased(timed, 3) == ["a", "b", "c"]


async def test_no_item_puts_its_partitions_turn_off(timed: Store, clock: TestClock) -> None:
    """It is behind the one whose turn it is."""
    for run, boost_s, key in [("a", 0, "one"), ("b", 0, "two"), ("c", -600, "one")]:
        await do(timed, prior(run, boost_s, clock, key=key))
    assert await leased(timed, 3) == ["a", "b", "c"]


async def test_the_next_turn_is_by_the_next_one_in_the_queue(timed: Store, clock: TestClock) -> None:
    """One boosted run does not speak for those behind it."""
    for run, boost_s, key in [("a", 60, "one"), ("c", 0, "two"), ("d", 0, "three"), ("b", 0, "one")]:
        await do(timed, prior(run, boost_s, clock, key=key))
        clock.now_ms += 1
    assert await leased(timed, 4) == ["a", "c", "d", "b"]


async def test_turns_among_keys_go_by_the_age_of_their_runs(timed: Store, clock: TestClock) -> None:
    """Not by when a key last had its turn: one with many old runs has them before younger ones of another."""
    for run, key in [("a", "one"), ("b", "one"), ("c", "two"), ("d", "one"), ("e", "two")]:
        await do(timed, prior(run, 0, clock, key=key))
        clock.now_ms += 1
    assert await leased(timed, 5) == ["a", "b", "c", "d", "e"]


async def test_a_steady_supply_of_boosted_runs_starves_nobody(timed: Store, clock: TestClock) -> None:
    """Runs of another key have their turns as soon as they are older than the boost, each of them."""
    for n in range(5):
        await do(timed, prior(f"plain{n}", 0, clock, key="plain", event=n))
        clock.now_ms += SECOND_MS
    begin_ms, waited_s = clock.now_ms, list[int]()
    await do(timed, prior("boosted", 600, clock, key="boosted", event=100))
    for n in range(180):
        held = await lease(timed, f"t{n}")
        if held.run.startswith("plain"):
            waited_s.append((clock.now_ms - begin_ms) // SECOND_MS)
        else:
            await do(timed, prior(f"boosted{n}", 600, clock, key="boosted", event=101 + n))
        clock.now_ms += 4 * SECOND_MS
        await commit(timed, held, finish(held.run))
    assert len(waited_s) == 5
    assert 590 <= waited_s[0] <= waited_s[-1] <= 640


async def test_who_shares_a_limit_does_not_wait_for_the_older_runs_of_another_function(
    timed: Store, clock: TestClock
) -> None:
    """Room that comes to the limit is not kept for a run whose turn is behind all of its function's older ones."""
    other, shared = f"{ENV}/other", "\x02e:1|env/x"
    await configure(timed, "e:1", 1)
    await timed.configure(ENV, functions=[(other, "", ["e:1", 1])])
    running = prior("running", 600, clock)
    await do(timed, running._replace(start_partition=running.step_partition + shared))
    held = await lease(timed, "held")
    for n in range(20):
        await do(timed, prior(f"old{n}", 500, clock, key="many", event=n))
    boosted = prior("waiting", 600, clock, event=50)
    await do(timed, boosted._replace(start_partition=boosted.start_partition + shared))
    clock.now_ms += 1
    assert await leased(timed, 1) == ["old0"]
    young = prior("young", 0, clock, event=51)
    await do(timed, young._replace(start_partition=boosted.start_partition + shared))
    await do(timed, start("theirs", event=52, fn=other)._replace(start_partition=f"{other}\x01s{shared}"))
    assert [run[:3] for run in await leased(timed, 2)] == ["old", "old"]
    await do(timed, Cancel("waiting", IDS))
    await commit(timed, held, finish("running"))
    assert "theirs" in await leased(timed, 3)


async def test_an_old_run_goes_before_a_new_one_with_a_priority(timed: Store, clock: TestClock) -> None:
    """Where it is older by more than the priority; its key's next one has a turn of its own age."""
    for run, boost_s, key, wait_s in [
        *[("old", 0, "one", 3600), ("young", 0, "one", 300)],
        *[("boosted", 600, "two", 1), ("second", 600, "two", 1)],
    ]:
        await do(timed, prior(run, boost_s, clock, key=key))
        clock.now_ms += wait_s * SECOND_MS
    assert await leased(timed, 4) == ["old", "boosted", "second", "young"]


async def test_who_was_parked_joins_by_priority(timed: Store, clock: TestClock) -> None:
    """The limit's queue goes by age alone; its function's ring by priority."""
    await configure(timed, "c:1", 1)
    await do(timed, prior("running", 0, clock, key="full"))
    running = await lease(timed, "r")
    await do(timed, prior("boosted", 30, clock, key="full"))
    assert await nothing_to_lease(timed)
    for n in range(3):
        await do(timed, prior(f"other{n}", 0, clock, key=f"k{n}", event=n))
    await commit(timed, running, finish("running"))
    assert await leased(timed, 4) == ["boosted", "other0", "other1", "other2"]


async def test_functions_take_turns_whatever_their_priorities(timed: Store, clock: TestClock) -> None:
    """A priority orders the runs of its own function."""
    other = f"{ENV}/other"
    await configure(timed, fn=other)
    for n in range(2):
        await do(timed, prior(f"plain{n}", 0, clock, key=f"k{n}", event=n))
    for n in range(3):
        await do(timed, prior(f"boosted{n}", 600, clock, key=f"k{n}", fn=other, event=n + 2))
    assert [run[:-1] for run in await leased(timed, 5)] == ["plain", "boosted", "plain", "boosted", "boosted"]


async def test_further_requests_have_the_priority_of_their_run(timed: Store, clock: TestClock) -> None:
    """Discoveries, planned steps and what is tried again."""
    await do(timed, prior("run", 30, clock, key="one"))
    held = await lease(timed, "a")
    await commit(timed, held, Plan("run", "step"), saved("done"))
    assert await boost_of(timed, "run:step") == await boost_of(timed, "run.1") == b"30000"
    discovery = await lease(timed, "b")
    await commit(timed, discovery, Retry(discovery.item, 1, clock.now_ms + 5))
    clock.now_ms += 5
    await timed.due()
    assert await boost_of(timed, "run.1") == b"30000"
    other = prior("plain", 0, clock, key="two")
    await do(timed, other._replace(start_partition=other.step_partition))
    clock.now_ms += SECOND_MS
    assert await leased(timed, 3) == ["run", "run", "plain"]


async def test_a_run_without_priority_has_no_field_for_it(timed: Store, clock: TestClock) -> None:
    """Nor have its items: most functions have none."""
    await do(timed, prior("run", 0, clock))
    held = await lease(timed, "a")
    await commit(timed, held, Plan("run", "step"))
    assert await boost_of(timed, "run:step") is None
    assert await timed.command("HEXISTS", timed.key("st:run"), "b") == 0


async def test_a_boost_counts_for_nothing_where_the_lane_has_no_priority(
    timed: Store, clock: TestClock
) -> None:
    """Its function has it no more, or not yet; turns go by time alone there."""
    await timed.configure(ENV, functions=[(FN, "", ())])
    for run, boost_s in [("first", 0), ("second", 600)]:
        boosted = prior(run, boost_s, clock, key=run)
        await do(timed, boosted._replace(start_partition=f"{STARTS}\x02c:1|{run}"))
    assert await leased(timed, 2) == ["first", "second"]


async def boost_of(store: Store, item: str) -> bytes | None:
    """The priority that is kept with an item."""
    value: bytes | None = await store.command("HGET", store.key(f"i:{item}"), "b")
    return value


async def test_only_functions_with_priorities_pay_for_them(timed: Store) -> None:
    """For the others not one command more is done when their items join, are leased and go back."""
    # The shard has looked at its memory then, and does not again while this clock stands.
    await timed.due()
    costs = [await cost(timed, signature, first=10 * n) for n, signature in enumerate(("", "k", "p"))]
    assert costs[0] == costs[1]
    assert sum(costs[2].values()) > sum(costs[0].values())


async def cost(store: Store, signature: str, first: int) -> dict[str, int]:
    """What is done for some items of a function with such keys."""
    fn = f"{ENV}/f{signature}"
    await store.configure(ENV, functions=[(fn, "", ["sig", signature] if signature else [])])
    await store.command("CONFIG", "RESETSTAT")
    for n in range(first, first + 4):
        place = signed(f"{fn}\x01t", signature) + f"\x02c:1|{n % 2}"
        run = start(f"r{n}", event=n, fn=fn)
        await do(store, run._replace(start_partition=place, step_partition=place))
    held = await lease(store, "a")
    await commit(store, held, Retry(held.item, 1, 0))
    spent = await commands(store)
    await leased(store, 4)
    return spent


async def commands(store: Store) -> dict[str, int]:
    """How many commands of each kind the server has done."""
    info = (await store.command("INFO", "commandstats")).decode()
    found = {}
    for line in info.splitlines():
        name, _, values = line.partition(":calls=")
        if values and not name.endswith(("|resetstat", "info", "evalsha")):
            found[name.removeprefix("cmdstat_")] = int(values.partition(",")[0])
    return found
