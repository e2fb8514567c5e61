"""Reading a request's body within bounds, compressed or not."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Header: TypeAlias = tuple[bytes, bytes]

_AUTO_HEADER = 47
"""zlib's window bits for: 15 bits, find out whether it is gzip or zlib."""
_RAW = -15
REQUEST_SETTING = "INNKEEPER_MAX_REQUEST_BYTES"
_MOST_MEMBERS = 64
"""Of a gzip body. What follows a member is copied, so a body of a million empty ones would take minutes."""


_STEP_BYTES = 256 * 1024
"""So much is unpacked at a time, in less than a millisecond; then others have their turn."""


class BodyError(Exception):
    """A body that is not read to its end."""

    def __init__(self, message: str, status: int, *, unpacked: int = 0) -> None:
        super().__init__(message)
        self.message = message
        """What is wrong and what would be right."""
        self.status = status
        """400 (does not unpack), 413 (too large) or 415 (packed in a way that is not known)."""
        self.unpacked = unpacked
        """How many bytes of it were unpacked until it was given up."""


class ClientGoneError(Exception):
    """The client closed the connection before its body was complete: there is nobody to answer."""


class Turns:
    """Lets each sender have one body unpacked at a time: so many senders, so many times the limit is held at most."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    def of(self, who: Hashable) -> AbstractAsyncContextManager[Any]:
        """His turn."""
        lock = self._locks.get(who)
        if lock is None:
            lock = self._locks[who] = asyncio.Lock()
        return lock


async def read_body(
    headers: Iterable[Header],
    receive: Receive,
    limit: int,
    setting: str = "",
    turn: AbstractAsyncContextManager[Any] | None = None,
) -> bytes:
    """The whole body, unpacked; at most `limit` bytes on the wire and as many unpacked.

    `Content-Encoding` may be gzip or deflate. Nothing more than `limit` is ever held, whatever the sender says. The error
    names the `setting` that the limit comes from. What is packed is unpacked within `turn`; whoever enters it may raise.

    Raises:
        BodyError: it is too large, or cannot be unpacked.
        ClientGoneError: the client went away.
    """
    try:
        return await _read(headers, receive, limit, turn or nullcontext())
    except BodyError as error:
        if error.status != 413 or not setting:
            raise
        named = f"{error.message} ({setting} of the gateway)"
        raise BodyError(named, 413, unpacked=error.unpacked) from None


async def _read(
    headers: Iterable[Header], receive: Receive, limit: int, turn: AbstractAsyncContextManager[Any]
) -> bytes:
    encoding, announced = b"", b""
    for name, value in headers:
        if name == b"content-length":
            announced = value
        elif name == b"content-encoding":
            encoding = value.strip().lower()
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    raw = await _receive(receive, limit)
    if encoding in (b"", b"identity") or not raw:
        return raw
    if encoding in (b"gzip", b"x-gzip", b"deflate"):
        async with turn:
            steps = _unpacking(raw, limit)
            while True:
                unpacked = next(steps)
                if isinstance(unpacked, bytes):
                    return unpacked
                await asyncio.sleep(0)
    known = "gzip and deflate are"
    raise BodyError(f"Content-Encoding {encoding.decode('latin-1')!r} is not known here: {known}", 415)


def unpack(raw: bytes, limit: int) -> bytes:
    """What gzip (one member or several), zlib or raw deflate data hold, at most `limit` bytes.

    Raises:
        BodyError: they hold more, end too early, or are none of these.
    """
    return next(unpacked for unpacked in _unpacking(raw, limit) if unpacked is not None)


def _unpacking(raw: bytes, limit: int) -> Iterator[bytes | None]:
    """`unpack` in steps: None after each but the last."""
    try:
        yield from _unpacking_as(raw, limit, _AUTO_HEADER)
        return
    except zlib.error as error:
        # "deflate" means zlib data, but some clients send it bare.
        if raw[:2] == b"\x1f\x8b":
            raise BodyError(f"the body cannot be unpacked: {error}", 400, unpacked=limit) from None
    try:
        yield from _unpacking_as(raw, limit, _RAW)
    except zlib.error as error:
        raise BodyError(f"the body cannot be unpacked: {error}", 400, unpacked=limit) from None


def _unpacking_as(raw: bytes, limit: int, window_bits: int) -> Iterator[bytes | None]:
    out, rest = bytearray(), memoryview(raw)
    for _ in range(_MOST_MEMBERS):
        if not rest:
            break
        member = zlib.decompressobj(window_bits)
        while not member.eof:
            # Pieces: what a step leaves of its piece is copied.
            piece = rest[:_STEP_BYTES]
            # A length of 0 would stand for no bound.
            more = member.decompress(piece, min(_STEP_BYTES, limit + 1 - len(out)))
            out += more
            if len(out) > limit:
                raise BodyError(_over(limit), 413, unpacked=len(out))
            if not more and not piece:
                raise BodyError("the body cannot be unpacked: it ends too early", 400, unpacked=len(out))
            rest = rest[len(piece) - len(member.unconsumed_tail) - len(member.unused_data) :]
            if len(more) == _STEP_BYTES:
                yield None
    if rest:
        raise BodyError(f"the body cannot be unpacked: it has more than {_MOST_MEMBERS} gzip members", 400)
    yield bytes(out)


async def _receive(receive: Receive, limit: int) -> bytes:
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        return body
    chunks: list[bytes] = []
    size = 0
    while True:
        if message["type"] != "http.request":
            raise ClientGoneError
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()


def _too_large(limit: int) -> BodyError:
    return BodyError(_over(limit), 413)


def _over(limit: int) -> str:
    return f"the request's body is too large: at most {limit} bytes are allowed, unpacked"
