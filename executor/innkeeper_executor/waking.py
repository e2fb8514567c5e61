"""Blocking waits on Redis, each on a connection of its own, and the leases that make one process prefer a job."""

import asyncio
import contextlib

from innkeeper_engine.store.connection import Address, Connection, Reply
from innkeeper_engine.store.store import Store

MAX_WAIT_S = 5.0
"""A wake-up that got lost costs no more than this."""

FREE_JOBS = "lead:free"
"""The list in which jobs lie that were given up, for whoever waits on it."""


class Bell:
    """Waits for tokens in one or several lists of a shard.

    Redis ends a blocking wait up to 100 ms late, so the end of a wait is timed here: the blocking command stays under
    way, and what it brings is there at the next wait.
    """

    def __init__(self, store: Store, address: Address, *keys: str, name: str) -> None:
        self._keys = [store.key(key) for key in keys]
        self._connection = Connection(address, name=name)
        self._listening: asyncio.Task[Reply] | None = None

    async def open(self) -> None:
        """Connect."""
        await self._connection.open()

    async def close(self) -> None:
        """Disconnect."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._connection.close()

    @property
    def listening(self) -> bool:
        """Whether a token may be on its way to this bell, and so to nobody else."""
        return self._listening is not None

    async def wait(self, seconds: float, also: "asyncio.Task[None] | None" = None) -> str | None:
        """The next token, or None after `seconds` or when `also` is done.

        Raises:
            StoreUnavailableError: the connection broke; a token that was on its way is lost.
        """
        if self._listening is None:
            self._listening = asyncio.create_task(
                self._connection.call("BLPOP", *self._keys, f"{MAX_WAIT_S:.0f}")
            )
        either = {self._listening} if also is None else {self._listening, also}
        await asyncio.wait(either, timeout=max(seconds, 0), return_when=asyncio.FIRST_COMPLETED)
        if not self._listening.done():
            return None
        listened, self._listening = self._listening, None
        reply = listened.result()
        return None if reply is None else reply[1].decode()


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
