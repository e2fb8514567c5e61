"""Throttles whose cap changes: the new one holds at once, for whoever waits and for whoever comes."""

import pytest

from innkeeper_engine.limits import throttle_cap
from innkeeper_engine.model.functions import Throttle
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_names import signed
from tests.engine.model_runs import ENV, FN, STARTS, do, lease, nothing_to_lease, start

SECOND_MS, MINUTE_MS, WEEK_MS = 1_000, 60_000, 7 * 86_400_000
WEEKLY = Throttle(limit=1, period_ms=WEEK_MS)
OFTEN = Throttle(limit=100, period_ms=MINUTE_MS)
"""Every 600 ms."""
SIGNATURE = "k"


async def configure(store: Store, throttle: Throttle, *, keyed: bool = False) -> None:
    """The function has this throttle; `keyed`: one for each value of a key."""
    keys = ["t:1", throttle_cap(throttle), "sig", SIGNATURE] if keyed else ["t", throttle_cap(throttle)]
    await store.configure(ENV, functions=[(FN, "", keys)])


async def arrive(store: Store, *numbers: int, key: str = "") -> None:
    """A run for each of these numbers; `key`: the value of the throttle's key."""
    place = f"{signed(STARTS, SIGNATURE)}\x02t:1|{FN}/{key}" if key else STARTS
    for number in numbers:
        await do(store, start(f"r{number}", event=number)._replace(start_partition=place, order=number))


async def starts(store: Store, clock: TestClock, window_ms: int, step_ms: int = 50) -> list[int]:
    """Lease whatever comes in this time; when each start was, in ms from now on."""
    begin_ms, found = clock.now_ms, list[int]()
    while clock.now_ms - begin_ms <= window_ms:
        leases = (await store.due(executor="X", tokens=[f"{clock.now_ms}-{n}" for n in range(20)])).leases
        found += [clock.now_ms - begin_ms] * len(leases)
        clock.now_ms += step_ms
    return found


async def timer(store: Store, limit: str) -> float | None:
    """When a throttle is looked at again."""
    score = await store.command("ZSCORE", store.key("timers"), f"T{limit}")
    return None if score is None else float(score)


def keeps(found: list[int], throttle: Throttle) -> bool:
    """Whether there are `window * limit / period + burst` starts at most in every window."""
    pace = throttle.period_ms / throttle.limit
    return all(
        last - first + 1 <= (found[last] - found[first]) / pace + max(1, throttle.burst)
        for first in range(len(found))
        for last in range(first, len(found))
    )


async def test_who_waits_for_a_throttle_that_is_raised_goes_by_its_new_pace(
    timed: Store, clock: TestClock
) -> None:
    """One a week was meant to be a hundred a minute: nobody waits for a week; the timer says so."""
    await configure(timed, WEEKLY)
    await arrive(timed, *range(10))
    await lease(timed, "first")
    assert await nothing_to_lease(timed)
    assert await timer(timed, f"t|{FN}") == clock.now_ms + WEEK_MS
    clock.now_ms += 50
    await configure(timed, OFTEN)
    assert await timer(timed, f"t|{FN}") == clock.now_ms + 600
    assert await starts(timed, clock, 5_400) == [600 * n for n in range(1, 10)]


async def test_every_value_of_a_key_goes_by_the_new_pace(timed: Store, clock: TestClock) -> None:
    """Those where somebody waits, and those where somebody comes only later."""
    await configure(timed, WEEKLY, keyed=True)
    for number, key in enumerate("abcd"):
        await arrive(timed, number, key=key)
    assert await starts(timed, clock, 0) == [0, 0, 0, 0]
    for number, key in enumerate("ab"):
        await arrive(timed, 10 + number, key=key)
    assert await nothing_to_lease(timed)
    clock.now_ms += SECOND_MS
    await configure(timed, OFTEN, keyed=True)
    for key in "ab":
        assert await timer(timed, f"t:1|{FN}/{key}") == clock.now_ms + 600
    assert await starts(timed, clock, 1_000) == [600, 600]
    clock.now_ms += 5 * SECOND_MS
    await arrive(timed, 20, key="c")
    await arrive(timed, 21, key="new")
    assert await starts(timed, clock, 1_000) == [0, 600]


async def test_looking_again_does_not_put_the_new_pace_off(timed: Store, clock: TestClock) -> None:
    """However often somebody comes to look, the time that has passed counts."""
    await configure(timed, WEEKLY)
    await arrive(timed, 0, 1)
    await lease(timed, "first")
    assert await nothing_to_lease(timed)
    await configure(timed, OFTEN)
    for number in range(2, 7):
        clock.now_ms += 100
        await arrive(timed, number)
        assert await nothing_to_lease(timed)
    clock.now_ms += 100
    await lease(timed, "second")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Throttle(limit=10, period_ms=10_000), Throttle(limit=2, period_ms=10_000)),
        (Throttle(limit=10, period_ms=10_000, burst=5), Throttle(limit=10, period_ms=10_000, burst=2)),
        (Throttle(limit=10, period_ms=10_000, burst=5), Throttle(limit=2, period_ms=10_000, burst=1)),
    ],
    ids=["slower", "less at once", "both"],
)
async def test_a_throttle_that_is_lowered_never_gives_more_than_before(
    timed: Store, clock: TestClock, old: Throttle, new: Throttle
) -> None:
    """The old promise holds across the change, the new one from then on. A new burst may begin with the new cap."""
    await configure(timed, old)
    await arrive(timed, *range(30))
    before = await starts(timed, clock, 2_950)
    assert len(before) == 2 + max(1, old.burst)
    await configure(timed, new)
    after = await starts(timed, clock, 15_000)
    assert 3 <= len(after) <= 17
    assert keeps(after, new)
    assert keeps(before + [3_000 + at for at in after], old)


@pytest.mark.parametrize(
    "new",
    [
        Throttle(limit=20, period_ms=10_000, burst=2),
        Throttle(limit=10, period_ms=10_000, burst=6),
        Throttle(limit=40, period_ms=10_000, burst=1),
        Throttle(limit=40, period_ms=10_000, burst=8),
    ],
)
async def test_a_raised_throttle_keeps_its_promise_from_the_change_on(
    timed: Store, clock: TestClock, new: Throttle
) -> None:
    """And all that it promises is had."""
    await configure(timed, Throttle(limit=10, period_ms=10_000, burst=2))
    await arrive(timed, *range(60))
    assert len(await starts(timed, clock, 2_950)) == 4
    await configure(timed, new)
    after = await starts(timed, clock, 10_000)
    assert keeps(after, new)
    assert len(after) >= new.limit


async def test_who_waits_keeps_the_time_that_a_raised_throttle_gave_it(
    timed: Store, clock: TestClock
) -> None:
    """Also if that is lowered again before: the pace then counts from the next start on."""
    slow, fast = Throttle(limit=1, period_ms=4_000), Throttle(limit=2, period_ms=4_000)
    await configure(timed, slow)
    await arrive(timed, *range(4))
    await lease(timed, "first")
    assert await nothing_to_lease(timed)
    clock.now_ms += 100
    await configure(timed, fast)
    clock.now_ms += 400
    await configure(timed, slow)
    assert await timer(timed, f"t|{FN}") == clock.now_ms + 1_600
    assert await starts(timed, clock, 9_600) == [1_600, 5_600, 9_600]


async def test_a_greater_burst_is_had_at_once(timed: Store, clock: TestClock) -> None:
    """By who waits already."""
    await configure(timed, Throttle(limit=1, period_ms=MINUTE_MS, burst=1))
    await arrive(timed, *range(6))
    assert await starts(timed, clock, 0) == [0]
    await configure(timed, Throttle(limit=1, period_ms=MINUTE_MS, burst=3))
    assert await starts(timed, clock, 1_000) == [0, 0]
