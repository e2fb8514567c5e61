"""Waiting for what others announce, without asking again and again.

The router and the recorder publish on a channel when they have come further, but only while somebody has said that
he waits: a key that lives for seconds. A wait is therefore: subscribe, set the key, look, and sleep until a notice
comes; then look again. A subscription takes a connection of its own, which is made at the first wait and kept.

Who writes environments publishes every change; whoever keeps a copy is told by a function that it gave to `tell`.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from typing import Any

import redis.asyncio as redis
import structlog
from redis.asyncio.client import PubSub

from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store

ROUTED = "routed"
"""The router's cursor has moved; the notice names the environment. Key: `rw:<env>`."""
FOLDED = "folded"
"""The recorder's cursor has moved. Key: `hw`."""

_RECONNECT_S = (0.05, 2.0)
_SILENCE_S = 5.0
"""After so long without a notice the server is asked whether the connection still stands; as long for its answer."""

_log = structlog.get_logger(__name__)


class Notices:
    """Notices of one store's shard."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listener: asyncio.Task[None] | None = None
        self._subscribed = asyncio.Event()
        self._turn = asyncio.Event()
        self._closed = False
        self._told: dict[str, list[Callable[[], None]]] = {}

    @property
    def subscribed(self) -> bool:
        """Whether notices arrive."""
        return self._subscribed.is_set() and not self._closed

    def tell(self, channel: str, what: Callable[[], None] | None = None) -> None:
        """Call `what` after every notice on `channel`, and whenever notices may have been missed; before `listen`.

        Without it, notices on the channel only wake those who wait.
        """
        told = self._told.setdefault(self._store.key(channel), [])
        if what is not None:
            told.append(what)

    def listen(self) -> None:
        """Subscribe, if that is not under way."""
        if self._listener is None and not self._closed:
            self._listener = asyncio.create_task(self._listen(), name="notices", context=Context())

    async def wait(self, key: str, met: Callable[[], Awaitable[bool]], timeout_s: float) -> bool:
        """Wait until `met` answers yes, at most `timeout_s` in all; whether it did.

        `met` is asked once at the start, and once after each notice. `key` is what tells the publisher; empty where he
        publishes on a channel of `tell` in any case.

        Raises:
            StoreUnavailableError, StoreError: from `met` or from setting the key.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if await met():
                    return True
                self.listen()
                await self._subscribed.wait()
                if key:
                    # Somebody waits, for as long as this may take and a little more.
                    await self._store.command(
                        "SET", self._store.key(key), "1", "EX", math.ceil(timeout_s) + 1
                    )
                while not self._closed:
                    turn = self._turn
                    if await met():
                        return True
                    await turn.wait()
                return await met()
        except TimeoutError:
            return False

    async def close(self) -> None:
        """End the subscription; whoever waits looks once more and goes on."""
        self._closed = True
        self._subscribed.set()
        self._notify()
        while self._listener is not None and not self._listener.done():
            # More than once: up to Python 3.11 `asyncio.wait_for`, with which redis-py connects, may lose a cancellation
            # that comes just when what it waits for is done.
            self._listener.cancel()
            await asyncio.wait({self._listener}, timeout=0.1)

    def _notify(self) -> None:
        self._turn.set()
        self._turn = asyncio.Event()

    async def _listen(self) -> None:
        delay_s, longest_s = _RECONNECT_S
        while True:
            client = _client(self._store.address)
            try:
                async with client.pubsub() as channels:
                    own = (self._store.key(ROUTED), self._store.key(FOLDED))
                    await channels.subscribe(*own, *self._told)
                    async for message in _messages(channels):
                        if message["type"] == "subscribe":
                            delay_s = _RECONNECT_S[0]
                            self._subscribed.set()
                        # Also after a subscription: what was published while there was none is not repeated.
                        for what in self._told.get(message["channel"].decode(), ()):
                            what()
                        self._notify()
            except (redis.RedisError, OSError) as error:
                _log.warning("lost the subscription to notices", error=str(error), retry_s=delay_s)
            finally:
                with contextlib.suppress(redis.RedisError, OSError):
                    await client.aclose()
            self._subscribed.clear()
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, longest_s)


async def _messages(channels: PubSub) -> AsyncIterator[dict[str, Any]]:
    """What comes in; a connection that is only half there is noticed.

    Raises:
        redis.ConnectionError: it broke, or the other side does not answer.
    """
    asked = False
    while True:
        message = await channels.get_message(timeout=_SILENCE_S)
        if message is not None:
            asked = False
            if message["type"] != "pong":
                yield message
        elif asked:
            raise redis.ConnectionError(f"the server has not answered for {_SILENCE_S:g} s")
        else:
            asked = True
            await channels.ping()


def _client(address: Address) -> redis.Redis:
    login: dict[str, Any] = {
        "username": address.username or None,
        "password": address.password or None,
        "db": address.database,
    }
    if address.path:
        return redis.Redis(unix_socket_path=address.path, **login)
    return redis.Redis(host=address.host, port=address.port, ssl=address.tls, **login)
