"""uvicorn's HTTP protocol, with bounds on what a client may make a server hold, and for how long.

uvicorn keeps headers of any number and length, and waits for ever for the rest of a request. Here, as Apache's
`RequestReadTimeout` does (https://httpd.apache.org/docs/2.4/mod/mod_reqtimeout.html), a request's head must come within
a time, and its body within another one that grows with what has come.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Final

import msgspec
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

_INVALID: Final = HTTPStatus.BAD_REQUEST, "this is no HTTP request"
_TOO_LARGE: Final = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
_TOO_SLOW: Final = HTTPStatus.REQUEST_TIMEOUT


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one connection may do."""

    head_bytes: int = 64 * 1024
    """Of the request line and all headers together."""
    headers: int = 200
    head_s: float = 15.0
    """From the first byte of a request, or the connection, to the end of its headers."""
    body_s: float = 30.0
    """What a body may take in any case."""
    body_bytes_per_s: int = 1_000
    """So many bytes of it give it another second."""
    refusal_s: float = 1.0
    """What is no request, or too large a one, is answered so much later: whoever sends such things takes his time."""


class _TooMuchError(Exception):
    """A request's head is larger than it may be."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection of a client."""

    def __init__(self, *args: Any, limits: ConnectionLimits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._in_head = True
        self._head_received = 0
        """While the head is not complete: httptools tells nobody of a header before it ends."""
        self._head_parsed = 0
        self._body_bytes = 0
        self._began_s = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: tuple[HTTPStatus, str] = _INVALID
        self._refused: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; it has `head_s` to ask for something."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever has ended it."""
        self._unwatch()
        if self._refused is not None:
            self._refused.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, unless it is too much for a head that has not ended."""
        if self._refused is not None:
            return
        if self._in_head:
            self._head_received += len(data)
            if self._timer is None:
                # The connection was idle. Line breaks before a request begin none for the parser.
                self._began_s = self.loop.time()
                self._watch()
        super().data_received(data)
        if self._in_head and self._head_received > self._limits.head_bytes:
            self._refuse_later(_TOO_LARGE, self._too_large())

    # ---- what the parser says

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._head_received, self._head_parsed, self._body_bytes = True, 0, 0, 0
        self._began_s = self.loop.time()
        self._watch()

    def on_url(self, url: bytes) -> None:
        """A part of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, complete."""
        self._count(len(name) + len(value))
        super().on_header(name, value)
        if len(self.headers) > self._limits.headers:
            self._count(self._limits.head_bytes + 1)

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._in_head = False
        self._began_s = self.loop.time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has ended; what comes now is another one."""
        self._unwatch()
        self._in_head, self._head_received = True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it says no more than the status
        """Refuse what the parser has stopped at."""
        self._refuse_later(*self._refusal)

    def timeout_keep_alive_handler(self) -> None:
        """Nobody asks for anything any more; who has not even read the last answer will not."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    # ---- bounds

    def _count(self, more: int) -> None:
        self._head_parsed += more
        if self._head_parsed > self._limits.head_bytes:
            self._refusal = _TOO_LARGE, self._too_large()
            # Out of the parser's callback there is no other way to end it.
            raise _TooMuchError

    def _too_large(self) -> str:
        limits = self._limits
        return f"the request's head is too large: {limits.headers} headers, {limits.head_bytes} bytes are allowed"

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline_s(), self._look)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _deadline_s(self) -> float:
        limits = self._limits
        if self._in_head:
            return self._began_s + limits.head_s
        return self._began_s + limits.body_s + self._body_bytes / limits.body_bytes_per_s

    def _look(self) -> None:
        """See whether the time is over; it moves with what comes, the timer does not."""
        self._timer = None
        if self.transport.is_closing():
            return
        now_s = self.loop.time()
        if self.flow.read_paused or (self._in_head and self._is_answering()):
            # It is this server that takes its time.
            self._began_s = now_s
        if now_s < self._deadline_s():
            self._watch()
            return
        what = "the request's head" if self._in_head else "the request's body"
        self._refuse(_TOO_SLOW, f"{what} came too slowly")

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _refuse_later(self, status: HTTPStatus, why: str) -> None:
        """Take nothing more, and answer when it is time."""
        if self._refused is None and not self.transport.is_closing():
            self._unwatch()
            self.flow.pause_reading()
            self._refused = self.loop.call_later(self._limits.refusal_s, self._refuse, status, why)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        """Answer and close; an answer that has begun is cut off."""
        if self.transport.is_closing():
            return
        if not (self._is_answering() and self.cycle.response_started):
            body = orjson.dumps({"error": why, "data": None, "status": status.value})
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(
                body
            )
            self.transport.write(STATUS_LINE[status.value] + head + body)
        self.transport.close()
