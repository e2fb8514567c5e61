"""Blocking waits on lists of a shard, each on a connection of its own."""

import asyncio

from innkeeper_engine.store.connection import Address, Connection, Reply
from innkeeper_engine.store.store import Store

MAX_WAIT_S = 5.0
"""A wake-up that got lost costs no more than this."""


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
