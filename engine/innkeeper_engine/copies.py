"""A copy of something in the store, so that looking something up needs no round trip."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any

import structlog

from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_engine.store.notices import Notices

READ_EVERY_S = 0.1
"""Between the beginnings of two reads, however many ask for what is not known."""
MOST_WAITING = 1_000
"""Those who ask for what is not known and wait for a read; more are refused on what is known."""

_RETRY_S = (0.05, 2.0)

_log = structlog.get_logger(__name__)


class Copy:
    """Keeps a copy that its owner reads: anew after each notice of a change, and whenever one may have been missed.

    What is not in the copy is refused only on one that was read after somebody asked for it: what was written before it
    was first used is never refused, even where the notice is late.
    """

    def __init__(
        self,
        what: str,
        read: Callable[[], Awaitable[None]],
        notices: Notices,
        channel: str,
        *,
        timeout_s: float,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read` brings the copy up to date. `what` is copied, for the log; a notice on `channel` says that it changed.

        `timeout_s`: how long somebody who asks waits for the store.
        """
        self._what = what
        self._read_it = read
        self._notices = notices
        self._timeout_s = timeout_s
        self._monotonic_s = monotonic_s
        self._next: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._began_s = -READ_EVERY_S
        self._waiting = 0
        self._stale = False
        self._following = False
        self._tasks: set[asyncio.Task[None]] = set()
        notices.tell(channel, self._changed)

    async def refresh(self) -> None:
        """Return when the copy is one that was read after this call.

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: it could not be read.
        """
        async with asyncio.timeout(self._timeout_s):
            await asyncio.shield(self._next_read())

    async def looked_again(self) -> bool:
        """`refresh`, unless too many wait for that already; whether it was done.

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: as `refresh`.
        """
        if self._waiting >= MOST_WAITING:
            return False
        self._waiting += 1
        try:
            await self.refresh()
        finally:
            self._waiting -= 1
        return True

    def was_used(self) -> None:
        """Something was found in the copy: where no notices arrive, it is read again soon."""
        if not self._notices.subscribed:
            self._changed()

    async def close(self) -> None:
        """End reads that are under way. The notices are their owner's to close."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _next_read(self) -> asyncio.Task[None]:
        """The next read that has not begun; all who ask for one share it."""
        self._notices.listen()
        if self._next is None:
            self._next = self._begin(self._read())
        return self._next

    async def _read(self) -> None:
        async with self._reading:
            await asyncio.sleep(max(0.0, self._began_s + READ_EVERY_S - self._monotonic_s()))
            # Whoever asks from here on wants one that begins later.
            self._next = None
            self._began_s = self._monotonic_s()
            await self._read_it()

    def _changed(self) -> None:
        """Read again soon, until that has worked."""
        self._stale = True
        if not self._following:
            self._following = True
            self._begin(self._follow())

    async def _follow(self) -> None:
        delay_s, longest_s = _RETRY_S
        while self._stale:
            self._stale = False
            try:
                await self.refresh()
                continue
            except (StoreError, StoreUnavailableError, TimeoutError) as error:
                why = str(error) or "no answer in time"
                _log.warning(f"{self._what} could not be read", error=why, retry_s=delay_s)
            except Exception:
                _log.exception(f"{self._what} could not be read", retry_s=delay_s)
            self._stale = True
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, longest_s)
        self._following = False

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # Whoever needs it first is no part of it: what is bound for its log lines stays out.
        task = asyncio.create_task(work, name=self._what, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever waits for a read has its error; where all of them have gone, nobody need know.
            task.exception()
