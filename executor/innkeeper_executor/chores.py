"""What an executor does beside its requests: what it drops, or does not get done, comes up again by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog

from innkeeper_engine.store.connection import StoreError, StoreUnavailableError

AT_ONCE = 8
"""Chores that are worked on; a batch alone may hold 10 MiB of events."""
MOST_WAITING = 512
"""With so many under way or waiting, no more are looked for: a hundred thousand debounces may be due at once."""

log = structlog.get_logger("innkeeper.executor")


Work: TypeAlias = Callable[[], Awaitable[None]]


class Chores:
    """Works on chores, each once at a time, a few at once."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._working: set[str] = set()
        self._again: dict[str, Work] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._over = asyncio.Event()

    @property
    def under_way(self) -> int:
        """How many are worked on or wait for that."""
        return len(self._tasks)

    def begin(self, name: str, work: Work) -> None:
        """Work on a chore: after the one of that name that is worked on, and not where one waits already."""
        if name not in self._tasks:
            task = asyncio.create_task(self._work(name, work), name=name)
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._forget(name))
        elif name in self._working:
            # It may have come up by the very commit whose answer that one still waits for.
            self._again[name] = work

    async def wait_for_room(self) -> None:
        """Until there is less to do than `MOST_WAITING`."""
        while len(self._tasks) >= MOST_WAITING:
            self._over.clear()
            await self._over.wait()

    async def close(self) -> None:
        """End what is under way."""
        self._again.clear()
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, name: str) -> None:
        del self._tasks[name]
        self._working.discard(name)
        self._over.set()
        again = self._again.pop(name, None)
        if again is not None:
            self.begin(name, again)

    async def _work(self, name: str, work: Work) -> None:
        try:
            async with self._turn:
                self._working.add(name)
                await work()
        except (StoreUnavailableError, StoreError) as error:
            log.warning("the store does not answer; it comes up again", chore=name, reason=str(error))
        except Exception:
            log.exception("a chore failed; it comes up again", chore=name)
