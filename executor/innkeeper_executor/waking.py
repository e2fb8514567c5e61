"""What executors wait on, and the leases that make one process prefer a job."""

import asyncio
import contextlib

from innkeeper_engine.store.bell import MAX_WAIT_S, Bell
from innkeeper_engine.store.store import Store

__all__ = ["FREE_JOBS", "MAX_WAIT_S", "Bell", "Leadership"]

FREE_JOBS = "lead:free"
"""The list in which jobs lie that were given up, for whoever waits on it."""


class Leadership:
    """A lease on a job that one process a shard should do. It only saves work: guards make the job right."""

    LEASE_MS = 5_000
    RENEW_S = 2.0

    def __init__(self, store: Store, job: str, owner: str) -> None:
        self._store = store
        self._key = store.key(f"lead:{job}")
        self._free = store.key(FREE_JOBS)
        self._offered = asyncio.Event()
        self.job = job
        self._owner = owner

    async def hold(self) -> float:
        """Take or renew the lease. Returns 0 when it is held, else the seconds until it may be free."""
        self._offered.clear()
        if await self._store.command("SET", self._key, self._owner, "NX", "PX", self.LEASE_MS):
            return 0.0
        if await self._store.command("GET", self._key) == self._owner.encode():
            await self._store.command("PEXPIRE", self._key, self.LEASE_MS)
            return 0.0
        left_ms = await self._store.command("PTTL", self._key)
        return max(float(left_ms), 10.0) / 1000

    def offer(self) -> None:
        """The job was given up by its owner: whoever waits for it may try again at once."""
        self._offered.set()

    async def wait(self, seconds: float) -> None:
        """After `hold` did not get it: until the job is offered, or so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._offered.wait()

    async def release(self) -> None:
        """Give the lease up, if it is held, and offer the job to one of those who wait in `FREE_JOBS`."""
        if await self._store.command("GET", self._key) == self._owner.encode():
            await self._store.command("DEL", self._key)
            await self._store.command("RPUSH", self._free, self.job)
            await self._store.command("PEXPIRE", self._free, self.LEASE_MS)
