"""What a process shows to Prometheus: its own counters, and the numbers of the shard."""

import asyncio
import time
from collections.abc import Callable

import structlog

from innkeeper_engine.exposition import shard_text
from innkeeper_engine.metrics import Metrics
from innkeeper_engine.model.clock import Clock
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_engine.store.numbers import read_shard_numbers
from innkeeper_engine.store.store import Store

READ_AGAIN_S = 5.0
"""How old the numbers of the shard may be."""

READ_TIMEOUT_S = 5.0
"""How long Redis may take for them."""

_UP = "# HELP innkeeper_redis_up Whether the numbers of the shard could be read\n# TYPE innkeeper_redis_up gauge\n"

log = structlog.get_logger("innkeeper.metrics")


class Exporter:
    """Reads the shard's numbers once for all who ask within a few seconds."""

    def __init__(
        self, store: Store, clock: Clock, metrics: Metrics, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._monotonic_s = monotonic_s
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")
        self._shard = b""

    async def text(self) -> bytes:
        """All of it. Without Redis only what the process counts of itself: what is wrong shows there."""
        async with self._reading:
            if self._monotonic_s() - self._read_at >= READ_AGAIN_S:
                self._shard = await self._read()
                self._read_at = self._monotonic_s()
        return self._metrics.text() + self._shard

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                shard = await read_shard_numbers(self._store, self._clock.now_ms())
        except (StoreError, StoreUnavailableError, TimeoutError) as error:
            log.warning("the shard's numbers cannot be shown", reason=str(error) or "no answer in time")
            return f"{_UP}innkeeper_redis_up 0\n".encode()
        return shard_text(shard) + f"{_UP}innkeeper_redis_up 1\n".encode()
