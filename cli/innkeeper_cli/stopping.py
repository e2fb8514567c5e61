"""How a role ends: the first SIGINT or SIGTERM asks for an end in good order, the second one ends it at once."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppedEarlyError(Exception):
    """The role was told to end before it was ready."""


class Stop:
    """Whether the role was told to end."""

    def __init__(
        self,
        on_first: Callable[[], None] = lambda: None,
        *,
        at_once: Callable[[int], object] = os._exit,
    ) -> None:
        """`on_first` says that the end has begun; `at_once` ends the process with an exit code."""
        self._asked = asyncio.Event()
        self._on_first = on_first
        self._at_once = at_once

    def listen(self) -> None:
        """Take the signals of this process from now on."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.ask, number)

    def ask(self, number: int) -> None:
        """What a signal does."""
        if self._asked.is_set():
            # 128 + n, as shells say it. The embedded server's watcher notices, and nothing acknowledged is lost.
            self._at_once(128 + number)
            return
        self._asked.set()
        self._on_first()

    async def wait(self) -> None:
        """Return once the role was told to end."""
        await self._asked.wait()

    async def unless(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, but stop in the middle when told to end.

        Raises:
            StoppedEarlyError: told to end; the work was cancelled and has cleaned up.
        """
        task = asyncio.create_task(work)
        asked = asyncio.create_task(self.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return
        finally:
            for each in (task, asked):
                each.cancel()
            await asyncio.gather(task, asked, return_exceptions=True)
        raise StoppedEarlyError("told to end before it was ready")

    async def wait_or_fail(self, *parts: Coroutine[Any, Any, None]) -> None:
        """Return when told to end; until then run `parts`, any of which may come to its end.

        Raises:
            Exception: the first that a part raised.
        """
        asked = asyncio.create_task(self.wait())
        running = {asyncio.create_task(part) for part in parts}
        try:
            while not asked.done():
                done, _ = await asyncio.wait({asked, *running}, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {asked}:
                    running.discard(task)
                    task.result()
        finally:
            for task in (asked, *running):
                task.cancel()
            await asyncio.gather(asked, *running, return_exceptions=True)
