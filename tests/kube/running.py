"""kopf operators for tests, each in a thread and an event loop of its own.

Of its own, because kopf cancels every task of its loop that began after it when it stops: in a test's loop, that would be
the test.
"""

import asyncio
import threading
from types import TracebackType
from typing import Any, Self

import kopf

_START_S = 30
_STOP_S = 30


class OperatorThread:
    """Runs `kopf.operator(registry=..., **options)`, standalone unless said otherwise.

    >>> with OperatorThread(registry, clusterwide=True):
    ...     ...

    An operator that fails makes `stop` (and leaving the block) raise what it failed with.
    """

    def __init__(self, registry: kopf.OperatorRegistry, **options: Any) -> None:
        self._options: dict[str, Any] = {"standalone": True, "registry": registry} | options
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="kopf-operator", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until its startup handlers and its login are done."""
        self._thread.start()
        if not self._ready.wait(_START_S):
            raise TimeoutError(f"the operator was not ready within {_START_S} s")
        if self._failure is not None:
            self.stop()

    def stop(self) -> None:
        """Stop it as a signal would; raises what it failed with."""
        if self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            raise TimeoutError(f"the operator did not stop within {_STOP_S} s")
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._operate())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _operate(self) -> None:
        self._stop = asyncio.Event()
        ready = asyncio.Event()
        telling = asyncio.create_task(self._tell(ready))
        try:
            await kopf.operator(stop_flag=self._stop, ready_flag=ready, **self._options)
        finally:
            telling.cancel()

    async def _tell(self, ready: asyncio.Event) -> None:
        await ready.wait()
        self._ready.set()
