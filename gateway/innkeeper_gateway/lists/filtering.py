"""Filters of lists at work: expressions over people's data cost what their writer makes them cost.

So a request has one budget, an environment has one turn, and all of them a few threads. A page ends where the budget
does, with a cursor; what one environment asks for does not keep the others from theirs.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from innkeeper_engine.model.environments import parent_name
from innkeeper_gateway.bodies import Turns
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.lists.filters import MOST_STEPS_EACH

T = TypeVar("T")

MOST_STEPS: Final = 1_000_000
"""Steps after which a page ends: about half a second of one CPU."""
MOST_STEPS_IN_ALL: Final = 3 * MOST_STEPS + MOST_STEPS_EACH
"""Steps that no request goes beyond, whatever it has not looked at yet."""
SLICE_STEPS: Final = 100_000
"""Steps after which a thread is free for another environment."""
THREADS: Final = 2
MOST_AT_ONCE: Final = 4
"""Filtered lists that are read at the same time: each holds some MiB of payloads."""
MOST_WAITING: Final = 20
"""Filtered lists of one environment that wait for their turn."""


class Budget:
    """What one request may still spend."""

    def __init__(self, steps: int = MOST_STEPS, in_all: int = MOST_STEPS_IN_ALL) -> None:
        self._left = steps
        self._left_in_all = in_all
        self.one_at_a_time = asyncio.Lock()
        """Lists that a request goes through together take one thread together."""

    @property
    def left(self) -> int:
        """Steps; where there are none, nothing is looked at but what has to be."""
        return self._left

    @property
    def is_spent(self) -> bool:
        """Whether the page ends here."""
        return self._left <= 0

    def spend(self, steps: int) -> None:
        """Take steps off; without any, say whether some are left.

        Raises:
            ApiError: 400, even what has to be looked at is too much.
        """
        self._left -= steps
        self._left_in_all -= steps
        if self._left_in_all < 0:
            raise ApiError(
                400,
                f"query.cel: it takes more than {MOST_STEPS_IN_ALL} steps over so many branches: name one of them "
                "with x-inngest-env, or write an expression that goes over fewer elements",
            )


class Filters:
    """The threads in which filters are evaluated, and whose turn it is."""

    def __init__(self, steps: int = MOST_STEPS) -> None:
        """`steps`: after which a page ends."""
        self._steps = steps
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="filters")
        self._turns = Turns()
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)
        self._waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, env: str, *, filtered: bool = True) -> AsyncIterator[Budget | None]:
        """The turn of an environment, its branches included, with what a request of it may spend.

        A list that is not `filtered` waits for nobody, and has no budget.

        Raises:
            ApiError: 429, too many wait for it.
        """
        if not filtered:
            yield None
            return
        whose = parent_name(env)
        if self._waiting[whose] >= MOST_WAITING:
            raise ApiError(
                429,
                f"{MOST_WAITING} lists of this environment wait for their filters (`cel`) already: ask for one after "
                "the other",
                headers={"Retry-After": "1"},
            )
        self._waiting[whose] += 1
        try:
            async with self._turns.of(whose), self._at_once:
                yield Budget(self._steps)
        finally:
            self._waiting[whose] -= 1
            if not self._waiting[whose]:
                del self._waiting[whose]

    async def picked(
        self, cost: Callable[[T], tuple[bool, int]], rows: Sequence[T], budget: Budget
    ) -> list[bool]:
        """Which of the rows are wanted, from the first on: of as many as the budget allows, and of one at least.

        `cost`: whether a row is wanted, and the steps that it took to know.

        Raises:
            ApiError: see `Budget.spend`.
        """
        found: list[bool] = []
        loop = asyncio.get_running_loop()
        async with budget.one_at_a_time:
            while len(found) < len(rows) and not (found and budget.is_spent):
                budget.spend(0)
                rest = rows[len(found) :]
                some, steps = await loop.run_in_executor(self._threads, _slice, cost, rest, budget.left)
                found += some
                budget.spend(steps)
        return found

    def close(self) -> None:
        """End the threads; what they have begun is bounded."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _slice(cost: Callable[[T], tuple[bool, int]], rows: Sequence[T], left: int) -> tuple[list[bool], int]:
    found: list[bool] = []
    spent = 0
    for row in rows:
        is_wanted, steps = cost(row)
        found.append(is_wanted)
        spent += steps
        if spent >= min(SLICE_STEPS, left):
            break
    return found, spent
