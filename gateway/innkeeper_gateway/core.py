"""What every route works with."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from innkeeper_engine.compiled import Registry
from innkeeper_engine.model.clock import Clock, Ids
from innkeeper_engine.model.effects import Ids2
from innkeeper_engine.store.notices import Notices
from innkeeper_engine.store.store import Store
from innkeeper_gateway.ingest import Seed
from innkeeper_gateway.settings import GatewaySettings


class RegistrySource(Protocol):
    """Where the current registry comes from."""

    async def current(self, env: str) -> Registry:
        """The registry as it is now."""
        ...


class Core:
    """Settings, store, registry, clock and ids, and whether the server is about to stop."""

    def __init__(
        self, settings: GatewaySettings, store: Store, registries: RegistrySource, clock: Clock, ids: Ids
    ) -> None:
        self.settings = settings
        self.store = store
        self.registries = registries
        self.clock = clock
        self.ids = ids
        self.notices = Notices(store)
        self.draining = False

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Bounds what is asked of the store; `TimeoutError` where it does not answer."""
        async with asyncio.timeout(self.settings.store_timeout_s):
            yield

    async def registry(self) -> Registry:
        """The current registry of the environment."""
        async with self.in_time():
            return await self.registries.current(self.settings.env)

    def end_ids(self) -> Ids2:
        """Ids for the events that the end of a run may emit."""
        now_ms = self.clock.now_ms()
        return self.ids.ulid(now_ms), self.ids.ulid(now_ms)

    def draw_seed(self, now_ms: int) -> Seed:
        """A seed for events that came without one.

        Ids of one process may follow each other without a gap, and a seed is counted up: hashing keeps the ranges
        of two requests apart.
        """
        return Seed(now_ms, hashlib.sha256(self.ids.ulid(now_ms).encode()).digest()[:10])
