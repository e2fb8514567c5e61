"""What is to be looked at, and when: one heap of due times for all keys, and no ticks.

A key is worked on by one task at a time. What changes while it is worked on makes it due again afterwards. A work
that fails is tried again, later and later; it holds up no other key.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from innkeeper_engine.model.clock import Clock

K = TypeVar("K", bound=Hashable)


def backoff_ms(failures: int, *, first_ms: int = 500, longest_ms: int = 300_000) -> int:
    """How long to wait after the n-th failure in a row: twice as long each time, without jitter."""
    return int(min(longest_ms, first_ms * 2 ** min(max(failures, 1) - 1, 30)))


class WorkQueue(Generic[K]):
    """Keys with due times, worked on by at most `workers` tasks."""

    def __init__(
        self,
        work: Callable[[K], Awaitable[int | None]],
        clock: Clock,
        *,
        workers: int = 16,
        debounce_ms: int = 10,
        backoff: Callable[[int], int] = backoff_ms,
        on_failure: Callable[[K, Exception], None] = lambda _key, _error: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`work` returns when to look at the key again although nothing changes (ms since the epoch), or None.

        `debounce_ms`: a burst of changes within it is one look. `jitter` gives 0 to 1; a back-off is shortened by up
        to half of it.
        """
        self._work = work
        self._clock = clock
        self._workers = workers
        self._debounce_ms = debounce_ms
        self._backoff = backoff
        self._on_failure = on_failure
        self._jitter = jitter
        self._due: dict[K, int] = {}
        self._heap: list[tuple[int, int, K]] = []
        self._order = itertools.count()
        self._failures: dict[K, int] = {}
        self._running: dict[K, asyncio.Task[None]] = {}
        self._turn = asyncio.Event()

    def add(self, key: K) -> None:
        """Something about `key` has changed."""
        self.add_at(key, self._clock.now_ms() + self._debounce_ms)

    def add_at(self, key: K, at_ms: int) -> None:
        """Look at `key` at `at_ms` at the latest."""
        known = self._due.get(key)
        if known is not None and known <= at_ms:
            return
        self._due[key] = at_ms
        heapq.heappush(self._heap, (at_ms, next(self._order), key))
        self._turn.set()

    @property
    def depth(self) -> int:
        """How many keys are due, or being worked on."""
        now_ms = self._clock.now_ms()
        return sum(1 for at_ms in self._due.values() if at_ms <= now_ms) + len(self._running)

    @property
    def failing(self) -> int:
        """How many keys failed when they were last worked on."""
        return len(self._failures)

    async def run(self) -> None:
        """Work until cancelled; what is being worked on then is cancelled too."""
        try:
            while True:
                self._turn.clear()
                wait_ms = self._start_due()
                try:
                    async with asyncio.timeout(None if wait_ms is None else max(wait_ms, 1) / 1000):
                        await self._turn.wait()
                except TimeoutError:
                    continue
        finally:
            tasks = list(self._running.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start_due(self) -> int | None:
        """Start what is due and has a worker; returns in how many ms the next is due, None: not by time."""
        now_ms = self._clock.now_ms()
        held: list[tuple[int, int, K]] = []
        wait_ms: int | None = None
        while self._heap and len(self._running) < self._workers:
            at_ms, order, key = self._heap[0]
            if self._due.get(key) != at_ms:
                heapq.heappop(self._heap)
            elif at_ms > now_ms:
                wait_ms = at_ms - now_ms
                break
            else:
                heapq.heappop(self._heap)
                if key in self._running:
                    held.append((at_ms, order, key))
                    continue
                del self._due[key]
                self._running[key] = asyncio.create_task(self._once(key), name=f"work {key}")
        # Whoever ends sets the turn, and then they go first.
        for entry in held:
            heapq.heappush(self._heap, entry)
        return wait_ms

    async def _once(self, key: K) -> None:
        try:
            again_ms = await self._work(key)
        except Exception as error:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            wait_ms = self._backoff(failures)
            wait_ms -= int(wait_ms * self._jitter() / 2)
            self._on_failure(key, error)
            self.add_at(key, self._clock.now_ms() + wait_ms)
        else:
            self._failures.pop(key, None)
            if again_ms is not None:
                self.add_at(key, again_ms)
        finally:
            self._running.pop(key, None)
            self._turn.set()
