"""When webhooks took a request last, on its way into the store: seldom, and for all of them at once."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Final, Protocol

import structlog

from innkeeper_engine.model.clock import Clock
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError

WRITE_EVERY_S: Final = 30.0
"""Between the end of one write and the next: what is noted meanwhile goes together."""

LAST_WRITE_S: Final = 1.0
"""What the last write of a server that stops waits for the store: no times are worth more of its grace."""

_log = structlog.get_logger(__name__)


class TakenStore(Protocol):
    """Where the times go."""

    async def note_taken(self, ages_ms: dict[tuple[str, str], int]) -> None:
        """See `WebhookStore`."""
        ...


class TakenTimes:
    """Keeps the newest time of each webhook until it is written.

    The first request after a while is written at once, the others together every 30 s. A process that is killed loses
    what it has not written.
    """

    def __init__(
        self,
        store: TakenStore,
        clock: Clock,
        *,
        timeout_s: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`timeout_s`: how long a write waits for the store. `sleep` waits so many seconds."""
        self._store = store
        self._clock = clock
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._noted_ms: dict[tuple[str, str], int] = {}
        self._writing: asyncio.Task[None] | None = None
        self._ended = False

    def note(self, webhook: Webhook, at_ms: int) -> None:
        """A webhook has taken a request that came at `at_ms`. Costs no round trip."""
        self._keep((webhook.env, webhook.name), at_ms)
        if self._writing is None and not self._ended:
            # Whose request it is first is no part of it: what is bound for its log lines stays out.
            self._writing = asyncio.create_task(self._write_on(), name="webhook times", context=Context())

    async def end(self) -> None:
        """Write no more by itself; what was noted, and is from here on, waits for `write_rest`."""
        self._ended = True
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def write_rest(self) -> None:
        """Write what is left, once no more requests are answered."""
        await self._write(min(LAST_WRITE_S, self._timeout_s))

    async def _write(self, timeout_s: float) -> None:
        """Write what was noted. What the store does not take is kept for the next time, and logged."""
        noted, self._noted_ms = self._noted_ms, {}
        if not noted:
            return
        now_ms = self._clock.now_ms()
        done = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._store.note_taken(
                    {which: max(0, now_ms - at_ms) for which, at_ms in noted.items()}
                )
            done = True
        except (StoreError, StoreUnavailableError, TimeoutError) as error:
            why = str(error) or "no answer in time"
            _log.warning("when webhooks took requests was not written", count=len(noted), why=why)
        except Exception:
            _log.exception("when webhooks took requests was not written", count=len(noted))
        finally:
            if not done:
                for which, at_ms in noted.items():
                    self._keep(which, at_ms)

    def _keep(self, which: tuple[str, str], at_ms: int) -> None:
        self._noted_ms[which] = max(at_ms, self._noted_ms.get(which, at_ms))

    async def _write_on(self) -> None:
        """Write as long as there is something to be written."""
        try:
            while self._noted_ms:
                await self._write(self._timeout_s)
                await self._sleep(WRITE_EVERY_S)
        finally:
            self._writing = None
