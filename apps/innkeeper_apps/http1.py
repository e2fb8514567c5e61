"""One HTTP/1.1 connection of a client: asyncio moves the bytes, httptools (llhttp) parses them.

Written for what calls to apps need and common clients lack together: cancelling closes the socket at once, the
dialled address is the caller's (see `egress`), a request is never sent twice, a response is cut off at a limit
while it is read.
"""

import asyncio
import select
import zlib
from typing import Any, Protocol, cast

import httptools
import msgspec

_MAX_HEAD_BYTES = 256 * 1024
_NO_BODY = frozenset({204, 304})
_TRANSPARENT = frozenset({"", "identity"})


class ConnectionFailedError(Exception):
    """The exchange failed: `code` is `ConnectionReset`, `BadResponse` or `ResponseTooLarge`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Reply(msgspec.Struct, frozen=True):
    """A complete response; names of headers in lower case, the body decompressed."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class _Parser(Protocol):
    def feed_data(self, data: bytes) -> None: ...
    def get_status_code(self) -> int: ...
    def should_keep_alive(self) -> bool: ...


class _Failed(msgspec.Struct, frozen=True):
    """Why no complete response came, as `ConnectionFailedError` has it.

    No exception yet: one that a future keeps holds, through its traceback, the frame that awaits the future.
    """

    code: str
    message: str


class _Exchange:
    """The response that is being read; its methods `on_...` are httptools' callbacks.

    It and its parser hold each other, and what was read with them, until `end`.
    """

    def __init__(self, done: asyncio.Future[Reply | _Failed], limit: int, *, head_only: bool) -> None:
        self.done = done
        self.parser: _Parser = httptools.HttpResponseParser(self)
        self.keep_alive = False
        self.started = False
        self.until_eof = False
        self._limit = limit
        self._head_only = head_only
        self._head_bytes = 0
        self._headers: list[tuple[str, str]] = []
        self._chunks: list[bytes] = []
        self._size = 0
        self._in_body = False

    def feed(self, data: bytes) -> None:
        self.started = True
        if not self._in_body:
            self._head_bytes += len(data)
            if self._head_bytes - len(data) > _MAX_HEAD_BYTES:
                self.fail("BadResponse", f"the response's headers exceed {_MAX_HEAD_BYTES} bytes")
                return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail("BadResponse", "the response switches protocols")
        except httptools.HttpParserError as e:
            self.fail("BadResponse", f"the response is not HTTP: {e}")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if 100 <= status < 200:
            return
        names = {name for name, _ in self._headers}
        self._in_body = True
        if self._head_only:
            self._finish(keep_alive=False)
        elif status not in _NO_BODY and "content-length" not in names and "transfer-encoding" not in names:
            self.until_eof = True

    def on_body(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._limit:
            self._chunks.clear()
            self.fail("ResponseTooLarge", f"the response has more than {self._limit} bytes")
        elif not self.done.done():
            self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        if not self._in_body:
            self._headers.clear()  # 100 Continue and its like: the response is yet to come
        else:
            self._finish(keep_alive=self.parser.should_keep_alive())

    def on_message_begin(self) -> None:
        if self._in_body:
            self.keep_alive = False  # bytes after the response: nothing more is believed on this connection

    def at_eof(self) -> None:
        if self.until_eof:
            self._finish(keep_alive=False)
        when = "before the response was complete" if self.started else "before it answered"
        self.fail("ConnectionReset", f"the connection was closed {when}")

    def fail(self, code: str, message: str) -> None:
        self.keep_alive = False
        if not self.done.done():
            self.done.set_result(_Failed(code, message))

    def end(self) -> None:
        """Let go of the parser, once nothing more is fed: what was read must not wait for Python's collector."""
        del self.parser

    def _finish(self, *, keep_alive: bool) -> None:
        if self.done.done():
            return
        body = b"".join(self._chunks)
        try:
            headers, body = _decompressed(self._headers, body, self._limit)
        except ConnectionFailedError as e:
            self.fail(e.code, str(e))
            return
        self.keep_alive = keep_alive
        self.done.set_result(Reply(self.parser.get_status_code(), tuple(headers), body))


def _decompressed(
    headers: list[tuple[str, str]], body: bytes, limit: int
) -> tuple[list[tuple[str, str]], bytes]:
    encoding = ",".join(value for name, value in headers if name == "content-encoding").strip().lower()
    if encoding in _TRANSPARENT or not body:
        return headers, body
    if encoding not in ("gzip", "x-gzip"):
        raise ConnectionFailedError(
            "BadResponse", f"the response's content-encoding {encoding!r} is not gzip"
        )
    inflate = zlib.decompressobj(31)
    try:
        plain = inflate.decompress(body, limit + 1)
    except zlib.error:
        raise ConnectionFailedError(
            "BadResponse", "the response is not the gzip that it says it is"
        ) from None
    if len(plain) > limit:
        raise ConnectionFailedError("ResponseTooLarge", f"the unpacked response has more than {limit} bytes")
    if not inflate.eof:
        raise ConnectionFailedError("BadResponse", "the gzip of the response is cut off")
    return [pair for pair in headers if pair[0] not in ("content-encoding", "content-length")], plain


def _readable(fileno: int) -> bool:
    """Whether a socket has bytes or an end to read: on an idle connection both mean that it is no good any more."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fileno, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([fileno], [], [], 0)[0])


class Connection(asyncio.Protocol):
    """A connection that carries one exchange at a time. Made by `loop.create_connection`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._exchange: _Exchange | None = None
        self._lost = False
        self.idle_until_s = 0.0
        """For the pool: when (event loop time) it is too old to be used again."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.abort()  # nothing was asked
        else:
            self._exchange.feed(data)

    def eof_received(self) -> None:
        self._lost = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._exchange is None:
            return
        if exc is None:
            self._exchange.at_eof()
        else:
            self._exchange.fail("ConnectionReset", "the connection was reset")

    async def exchange(self, head: bytes, body: bytes, limit: int, *, head_only: bool = False) -> Reply:
        """Send a request and read its response, `limit` bytes of body at most (packed and unpacked).

        Cancelling closes the connection at once. Afterwards `reusable` says whether another exchange may follow.

        Raises:
            ConnectionFailedError: no complete response came; the request may have had its effect.
        """
        if self._transport is None or self._lost:
            raise ConnectionFailedError(
                "ConnectionReset", "the connection was closed before the request was sent"
            )
        exchange = _Exchange(asyncio.get_running_loop().create_future(), limit, head_only=head_only)
        self._exchange = exchange
        try:
            self._transport.writelines((head, body) if body else (head,))
            outcome = await exchange.done
        finally:
            self._exchange = None
            exchange.end()
            if not exchange.keep_alive or self._transport.get_write_buffer_size():
                self.abort()
        if isinstance(outcome, _Failed):
            raise ConnectionFailedError(outcome.code, outcome.message)
        return outcome

    @property
    def reusable(self) -> bool:
        """Whether the other side still holds the connection open, as far as the system knows at this moment."""
        if self._lost or self._transport is None or self._transport.is_closing():
            return False
        sock: Any = self._transport.get_extra_info("socket")
        return not _readable(sock.fileno())

    def abort(self) -> None:
        """Close at once, dropping what is unsent."""
        self._lost = True
        if self._transport is not None:
            self._transport.abort()
