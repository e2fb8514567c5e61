"""The work queue: one look per burst, one task per key, later and later after failures."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from innkeeper_engine.model.clock import SystemClock
from innkeeper_operator.queue import WorkQueue, backoff_ms

CLOCK = SystemClock()


@asynccontextmanager
async def running(
    work: Callable[[str], Awaitable[int | None]], **options: object
) -> AsyncIterator[WorkQueue[str]]:
    queue: WorkQueue[str] = WorkQueue(work, CLOCK, **options)  # type: ignore[arg-type]
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_burst_of_changes_is_one_look() -> None:
    looked: list[str] = []
    done = asyncio.Event()

    async def work(key: str) -> None:
        looked.append(key)
        if key == "last":
            done.set()

    async with running(work, debounce_ms=50) as queue:
        for _ in range(100):
            queue.add("app")
        queue.add_at("last", CLOCK.now_ms() + 300)
        await asyncio.wait_for(done.wait(), 30)
    assert looked == ["app", "last"]


async def test_a_change_during_the_work_makes_one_more_look_and_never_two_at_once() -> None:
    at_work = 0
    most = 0
    looks = 0
    begun, go_on, second = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(key: str) -> None:
        nonlocal at_work, most, looks
        at_work += 1
        looks += 1
        most = max(most, at_work)
        if looks == 1:
            begun.set()
            await go_on.wait()
        else:
            second.set()
        at_work -= 1

    async with running(work, debounce_ms=0) as queue:
        queue.add("app")
        await asyncio.wait_for(begun.wait(), 30)
        queue.add("app")
        queue.add("app")
        go_on.set()
        await asyncio.wait_for(second.wait(), 30)
    assert most == 1
    assert looks == 2


async def test_a_slow_key_holds_up_no_other() -> None:
    fast = asyncio.Event()

    async def work(key: str) -> None:
        if key == "slow":
            await asyncio.Event().wait()
        fast.set()

    async with running(work, debounce_ms=0) as queue:
        queue.add("slow")
        queue.add("fast")
        await asyncio.wait_for(fast.wait(), 30)


async def test_no_more_keys_than_workers_are_worked_on_at_once_and_all_get_their_turn() -> None:
    at_work = 0
    most = 0
    seen: set[str] = set()
    done = asyncio.Event()

    async def work(key: str) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1
        seen.add(key)
        if len(seen) == 50:
            done.set()

    async with running(work, debounce_ms=0, workers=3) as queue:
        for n in range(50):
            queue.add(f"app-{n}")
        await asyncio.wait_for(done.wait(), 30)
    assert most == 3


async def test_a_look_is_repeated_at_the_time_that_the_last_one_named() -> None:
    looks: list[int] = []
    done = asyncio.Event()

    async def work(key: str) -> int | None:
        looks.append(CLOCK.now_ms())
        if len(looks) == 3:
            done.set()
            return None
        return looks[-1] + 40

    async with running(work, debounce_ms=0) as queue:
        queue.add("app")
        await asyncio.wait_for(done.wait(), 30)
    assert all(later - earlier >= 39 for earlier, later in itertools.pairwise(looks))


async def test_what_fails_is_tried_again_and_the_others_go_on() -> None:
    tried: list[str] = []
    errors: list[str] = []
    done = asyncio.Event()

    async def work(key: str) -> None:
        tried.append(key)
        if key == "bad" and tried.count("bad") < 4:
            raise RuntimeError("no")
        if key == "bad":
            done.set()

    async with running(
        work,
        debounce_ms=0,
        backoff=lambda n: n,
        on_failure=lambda key, error: errors.append(f"{key}: {error}"),
    ) as queue:
        queue.add("bad")
        queue.add("good")
        await asyncio.wait_for(done.wait(), 30)
        await asyncio.sleep(0)
        assert queue.failing == 0
    assert tried.count("bad") == 4
    assert tried.count("good") == 1
    assert errors == ["bad: no"] * 3


async def test_ending_the_queue_ends_what_is_worked_on() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def work(key: str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with running(work, debounce_ms=0) as queue:
        queue.add("app")
        await asyncio.wait_for(begun.wait(), 30)
        assert queue.depth == 1
    assert cancelled.is_set()


def test_waits_grow_from_half_a_second_to_five_minutes() -> None:
    waits = [backoff_ms(n) for n in range(1, 40)]
    assert waits[:4] == [500, 1000, 2000, 4000]
    assert waits == sorted(waits)
    assert waits[-1] == 300_000
