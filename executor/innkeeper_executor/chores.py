"""What an executor does beside its requests: what it drops, or does not get done, comes up again by itself."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from innkeeper_engine.store.connection import StoreError, StoreUnavailableError

AT_ONCE = 4
"""Chores that are worked on; a batch alone may hold 10 MiB of events."""

log = structlog.get_logger("innkeeper.executor")


class Chores:
    """Works on chores, each once at a time, a few at once."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)

    @property
    def under_way(self) -> int:
        """How many are worked on or wait for that."""
        return len(self._tasks)

    def begin(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Work on a chore, unless one of that name is under way or waits already."""
        if name not in self._tasks:
            task = asyncio.create_task(self._work(name, work), name=name)
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._tasks.pop(name))

    async def close(self) -> None:
        """End what is under way."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            async with self._room:
                await work()
        except (StoreUnavailableError, StoreError) as error:
            log.warning("the store does not answer; it comes up again", chore=name, reason=str(error))
        except Exception:
            log.exception("a chore failed; it comes up again", chore=name)
