"""One multiplexed Redis connection: commands of one turn of the event loop leave in one write.

redis-py knows URLs, TLS and authentication; on the hot path it costs some thirty times the CPU of this
(benchmarks/README.md). Replies come back in order, so a queue of futures is all the bookkeeping there is.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast
from urllib.parse import unquote, urlsplit

import hiredis
import msgspec

Argument: TypeAlias = bytes | str | int | float
Reply: TypeAlias = Any

_HIGH_WATER_BYTES = 8 << 20
_CONNECT_S = 10.0
"""How long connecting may take, and how long the greeting."""


def pack(command: tuple[Argument, ...]) -> bytes:
    """A command as Redis reads it."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed


_CLOSED = "the connection was closed"


class StoreError(Exception):
    """Redis refused a command; the message is its own."""


class StoreUnavailableError(Exception):
    """No answer came. Whether the command took effect is not known."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a Redis or Valkey server is and how to log in."""

    host: str = "127.0.0.1"
    port: int = 6379
    path: str = ""
    """A Unix socket instead of host and port."""
    username: str = ""
    password: str = ""
    database: int = 0
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read `redis://`, `rediss://` (TLS) or `unix://` with optional `user:password@` and `/database`.

        Raises:
            ValueError: the URL is none of these. The message never holds the password, nor what may be a piece of it.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(
                "this Redis URL cannot be read: after the host comes :port, a number up to 65535; "
                "in a user name and a password, / ? # @ : and % are written percent-encoded"
            ) from None
        if parts.query or parts.fragment:
            raise ValueError(
                "a Redis URL ends with the number of the database: parameters after ? or # are not supported "
                "(in a password they are written %3F and %23)"
            )
        username, password = unquote(parts.username or ""), unquote(parts.password or "")
        if parts.scheme == "unix":
            if not parts.path.strip("/"):
                raise ValueError(
                    "a unix:// URL holds the path of a socket, for example unix:///run/valkey.sock"
                )
            return cls(path=parts.path, username=username, password=password)
        if parts.scheme not in ("redis", "rediss"):
            raise ValueError(
                f"a Redis URL begins with redis://, rediss:// or unix://, this one with {parts.scheme!r}"
            )
        database = parts.path.strip("/") or "0"
        if not database.isdigit():
            raise ValueError(
                "the path of a Redis URL is the number of a database, for example redis://host:6379/0"
            )
        return cls(
            host=parts.hostname or "127.0.0.1",
            port=port or 6379,
            database=int(database),
            tls=parts.scheme == "rediss",
            username=username,
            password=password,
        )

    def __str__(self) -> str:
        """The address without the login."""
        return self.path or f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        """The address, and never the password."""
        return f"Address({self}, database={self.database}, tls={self.tls})"

    def __rich_repr__(self) -> Any:
        yield repr(self)


class Connection:
    """A connection that comes back by itself.

    Commands sent while it is away wait for it; commands that were under way when it broke fail with
    `StoreUnavailableError`, because nobody can know whether they took effect.
    """

    def __init__(
        self,
        address: Address,
        *,
        greeting: Callable[["Connection"], Awaitable[None]] | None = None,
        name: str = "innkeeper",
    ) -> None:
        """`greeting` runs on every fresh connection, before any waiting command."""
        self._address = address
        self._greeting = greeting
        self._name = name
        self._protocol: _Protocol | None = None
        self._ready = asyncio.Event()
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None
        self.last_error = ""

    @property
    def connected(self) -> bool:
        """Whether commands go out now."""
        return self._ready.is_set() and not self._closed

    async def open(self, timeout_s: float = 10.0) -> None:
        """Connect, and stay connected until `close`.

        Raises:
            StoreUnavailableError: no connection within `timeout_s`.
        """
        self._keeper = asyncio.create_task(self._keep_connected(), name="redis-keeper")
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            await self.close()
            raise StoreUnavailableError(
                f"no Redis or Valkey at {self._address} within {timeout_s:g} s: {self.last_error}"
            ) from None

    async def close(self) -> None:
        """Disconnect, for good. Commands under way fail, those that wait for a connection too."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._ready.set()

    async def call(self, *command: Argument) -> Reply:
        """Send one command and await its reply.

        Raises:
            StoreError: the server refused it.
            StoreUnavailableError: the connection broke before the reply, or was closed.
        """
        packed = pack(command)
        while True:
            if not self._ready.is_set():
                await self._ready.wait()
            if self._closed:
                raise StoreUnavailableError(_CLOSED)
            protocol = self._protocol
            assert protocol is not None
            if protocol.writable.is_set():
                return await protocol.send(packed)
            # Nothing was sent yet: if the connection breaks meanwhile, the next one will do.
            await protocol.writable.wait()

    async def _keep_connected(self) -> None:
        delay_s = 0.02
        while not self._closed:
            protocol = _Protocol(asyncio.get_running_loop(), self._ready.clear)
            try:
                async with asyncio.timeout(_CONNECT_S):
                    await self._connect(protocol)
                async with asyncio.timeout(_CONNECT_S):
                    await self._greet(protocol)
                if not protocol.reason:
                    delay_s = 0.02
                    self._protocol = protocol
                    self._ready.set()
                await protocol.gone.wait()
                self.last_error = protocol.reason
                continue
            except Exception as error:  # a greeting fails in ways of its own; the connection must come back
                self.last_error = str(error) or type(error).__name__
            finally:
                protocol.abort(_CLOSED)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 1.0)

    async def _connect(self, protocol: "_Protocol") -> None:
        loop = asyncio.get_running_loop()
        a = self._address
        if a.path:
            await loop.create_unix_connection(lambda: protocol, a.path)
        else:
            context = ssl.create_default_context() if a.tls else None
            await loop.create_connection(lambda: protocol, a.host, a.port, ssl=context)

    async def _greet(self, protocol: "_Protocol") -> None:
        a = self._address
        if a.password:
            login = (a.username, a.password) if a.username else (a.password,)
            await protocol.send(pack(("AUTH", *login)))
        if a.database:
            await protocol.send(pack(("SELECT", a.database)))
        await protocol.send(pack(("CLIENT", "SETNAME", self._name)))
        if self._greeting is not None:
            await self._greeting(_Fresh(protocol))


class _Fresh(Connection):
    """A connection that is not open to everybody yet: what a greeting talks to."""

    def __init__(self, protocol: "_Protocol") -> None:
        self._protocol = protocol

    async def call(self, *command: Argument) -> Reply:
        assert self._protocol is not None
        return await self._protocol.send(pack(command))


class _Protocol(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop, on_gone: Callable[[], None]) -> None:
        self._loop = loop
        self._on_gone = on_gone
        self._reader = hiredis.Reader(replyError=StoreError)
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._out: list[bytes] = []
        self._flush_planned = False
        self._transport: asyncio.Transport | None = None
        self.reason = ""
        """Why it is over; empty while it is not."""
        self.gone = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def send(self, packed: bytes) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self.reason:
            future.set_exception(StoreUnavailableError(self.reason))
            return future
        self._waiting.append(future)
        self._out.append(packed)
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)
        return future

    def _flush(self) -> None:
        self._flush_planned = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                if not waiting:
                    self.abort(f"the server said without being asked: {reply!r}")
                    return
                future = waiting.popleft()
                if future.done():  # the caller was cancelled; its reply must still be taken off the wire
                    continue
                if isinstance(reply, StoreError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except hiredis.ProtocolError as error:
            self.abort(f"the server did not speak the Redis protocol: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection to Redis broke: {exc or 'closed by the server'}")

    def abort(self, reason: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        if not self.reason:
            self.reason = reason
            self._on_gone()
            self.gone.set()
        self.writable.set()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(StoreUnavailableError(reason))


async def gather_commands(connection: Connection, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
    """Send several commands in one write and await all replies."""
    return await asyncio.gather(*(connection.call(*command) for command in commands))
