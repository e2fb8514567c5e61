"""Blocking waits on Redis, each on a connection of its own, and the leases that make one process prefer a job."""

from innkeeper_engine.store.connection import Address, Connection
from innkeeper_engine.store.store import Store

MAX_WAIT_S = 5.0
"""A wake-up that got lost costs no more than this."""


class Bell:
    """Waits for tokens in lists of a shard."""

    def __init__(self, store: Store, address: Address, *lists: str, name: str) -> None:
        self._keys = [store.key(each) for each in lists]
        self._connection = Connection(address, name=name)

    async def open(self) -> None:
        """Connect."""
        await self._connection.open()

    async def close(self) -> None:
        """Disconnect; a wait that is under way fails with StoreUnavailableError."""
        await self._connection.close()

    async def wait(self, seconds: float) -> tuple[str, str] | None:
        """The next token as (list, token), or None after `seconds` (5 at most)."""
        if seconds <= 0:
            return None
        reply = await self._connection.call("BLPOP", *self._keys, f"{min(seconds, MAX_WAIT_S):.3f}")
        if reply is None:
            return None
        key, token = reply
        return key.decode().rpartition("}:")[2], token.decode()


class Leadership:
    """A lease on a job that one process a shard should do. It only saves work: guards make the job right."""

    LEASE_MS = 5_000
    RENEW_S = 2.0

    def __init__(self, store: Store, job: str, owner: str) -> None:
        self._store = store
        self._key = store.key(f"lead:{job}")
        self._owner = owner

    async def hold(self) -> float:
        """Take or renew the lease. Returns 0 when it is held, else the seconds until it may be free."""
        if await self._store.command("SET", self._key, self._owner, "NX", "PX", self.LEASE_MS):
            return 0.0
        if await self._store.command("GET", self._key) == self._owner.encode():
            await self._store.command("PEXPIRE", self._key, self.LEASE_MS)
            return 0.0
        left_ms = await self._store.command("PTTL", self._key)
        return max(float(left_ms), 10.0) / 1000

    async def release(self) -> None:
        """Give the lease up, if it is held."""
        if await self._store.command("GET", self._key) == self._owner.encode():
            await self._store.command("DEL", self._key)
