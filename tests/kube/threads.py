"""An event loop in a thread, for what must not share the tests' own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

T = TypeVar("T")

_TIMEOUT_S = 30


class LoopThread:
    """Runs coroutines in a loop of its own. Its methods may be called from any thread but that one."""

    def __init__(self, name: str) -> None:
        self.failures: list[Exception] = []
        """What callbacks and tasks raised that nobody awaited."""
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._failed)
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in the loop's thread, and return what it returns."""

        async def run() -> T:
            return function()

        return self.run(run)

    def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await in the loop what a function returns."""

        async def run() -> T:
            return await function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(_TIMEOUT_S)

    def close(self) -> None:
        """Cancel what still runs, and end the thread."""

        async def settle() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(settle)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_TIMEOUT_S)
        self.loop.close()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception):
            self.failures.append(error)
        else:
            loop.default_exception_handler(dict(context))
