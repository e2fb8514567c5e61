"""Reading a request's body within bounds, compressed or not."""

import zlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Header: TypeAlias = tuple[bytes, bytes]

_AUTO_HEADER = 47
"""zlib's window bits for: 15 bits, find out whether it is gzip or zlib."""
_RAW = -15
REQUEST_SETTING = "INNKEEPER_MAX_REQUEST_BYTES"
_MOST_MEMBERS = 64
"""Of a gzip body. What follows a member is copied, so a body of a million empty ones would take minutes."""


class BodyError(Exception):
    """A body that is not read to its end."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message = message
        """What is wrong and what would be right."""
        self.status = status
        """400 (does not unpack), 413 (too large) or 415 (packed in a way that is not known)."""


class ClientGoneError(Exception):
    """The client closed the connection before its body was complete: there is nobody to answer."""


async def read_body(headers: Iterable[Header], receive: Receive, limit: int, setting: str = "") -> bytes:
    """The whole body, unpacked; at most `limit` bytes on the wire and as many unpacked.

    `Content-Encoding` may be gzip or deflate. Nothing more than `limit` is ever held, whatever the sender says. The error
    names the `setting` that the limit comes from.

    Raises:
        BodyError: it is too large, or cannot be unpacked.
        ClientGoneError: the client went away.
    """
    try:
        return await _read(headers, receive, limit)
    except BodyError as error:
        if error.status != 413 or not setting:
            raise
        raise BodyError(f"{error.message} ({setting} of the gateway)", 413) from None


async def _read(headers: Iterable[Header], receive: Receive, limit: int) -> bytes:
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
        return unpack(raw, limit)
    known = "gzip and deflate are"
    raise BodyError(f"Content-Encoding {encoding.decode('latin-1')!r} is not known here: {known}", 415)


def unpack(raw: bytes, limit: int) -> bytes:
    """What gzip (one member or several), zlib or raw deflate data hold, at most `limit` bytes.

    Raises:
        BodyError: they hold more, end too early, or are none of these.
    """
    try:
        return _unpack(raw, limit, _AUTO_HEADER)
    except zlib.error as error:
        # "deflate" means zlib data, but some clients send it bare.
        if raw[:2] == b"\x1f\x8b":
            raise BodyError(f"the body cannot be unpacked: {error}", 400) from None
    try:
        return _unpack(raw, limit, _RAW)
    except zlib.error as error:
        raise BodyError(f"the body cannot be unpacked: {error}", 400) from None


def _unpack(raw: bytes, limit: int, window_bits: int) -> bytes:
    out = bytearray()
    for _ in range(_MOST_MEMBERS):
        if not raw:
            break
        member = zlib.decompressobj(window_bits)
        out += member.decompress(raw, limit + 1 - len(out))
        if len(out) > limit:
            raise _too_large(limit)
        if not member.eof:
            raise BodyError("the body cannot be unpacked: it ends too early", 400)
        raw = member.unused_data
    if raw:
        raise BodyError(f"the body cannot be unpacked: it has more than {_MOST_MEMBERS} gzip members", 400)
    return bytes(out)


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
    return BodyError(f"the request's body is too large: at most {limit} bytes are allowed, unpacked", 413)
