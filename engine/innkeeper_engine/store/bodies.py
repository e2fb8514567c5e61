"""Large JSON is kept compressed: event bodies, results of steps, outputs and errors of runs.

A stored body is the JSON itself or `z<length>\\n<frames>`: how many bytes the JSON has, in decimal, then one or more
Zstandard frames (RFC 8878). No JSON begins with z. Frames one after another are a stream of their own, and text as it
is fits into a frame of raw blocks, so bodies are joined without a look inside: here, and in
`store/scripts/lib/12_bodies.lua`, which writes the same bytes. All limits are those of the JSON, whatever it takes where
it is kept.
"""

import re
import threading
from collections.abc import Iterable, Sequence
from typing import Final

import zstandard

from innkeeper_engine.store.connection import StoreError

MOST_BYTES: Final = 256 << 20
"""A body that claims to be larger is not read: what tells of a run's end, all of its events twice, has a tenth of it."""

LEVEL: Final = 1
"""docs/adr/0012-compressed-bodies.md has the figures of others."""

_WORTH: Final = 0.9
"""A body that does not get smaller than this stays as it is."""
_MOST_WINDOW_BYTES: Final = 8 << 20
_PIECE_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 128 << 10
_RAW_FRAME: Final = b"\x28\xb5\x2f\xfd\x00\x38"
"""The magic number; neither content size nor checksum; a window of 128 KiB."""
_HEAD: Final = re.compile(rb"z(0|[1-9]\d{0,11})\n")

_mine: Final = threading.local()


class UnreadableBodyError(StoreError):
    """A stored body is not what was written. The message says why, and never what it holds."""


def raw_length(body: bytes) -> int:
    """How many bytes the JSON of a stored body has, by its head."""
    head = _HEAD.match(body)
    return int(head[1]) if head else len(body)


def encode_body(raw: bytes, over_bytes: int) -> bytes:
    """A body as it is stored: compressed where it is larger than `over_bytes` and gets smaller by a tenth at least.

    `over_bytes` 0: never.
    """
    if 0 < over_bytes < len(raw):
        compressor: zstandard.ZstdCompressor | None = getattr(_mine, "compressor", None)
        if compressor is None:
            compressor = _mine.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        packed = compressor.compress(raw)
        if len(packed) < len(raw) * _WORTH:
            return b"z%d\n%b" % (len(raw), packed)
    # What is no JSON comes back as it was too.
    return b"z%d\n%b" % (len(raw), _raw_frame(raw)) if raw[:1] == b"z" else raw


def decode_body(body: bytes) -> bytes:
    """The JSON of a stored body. Takes no more memory than the JSON has, whatever the frames say.

    Raises:
        UnreadableBodyError: it is not what was written.
    """
    if body[:1] != b"z":
        return body
    head = _HEAD.match(body)
    if head is None:
        raise UnreadableBodyError("a stored body begins with z, and not with z<length> and a line break")
    length = int(head[1])
    if length > MOST_BYTES:
        raise UnreadableBodyError(f"a stored body claims {length} bytes; at most {MOST_BYTES} are read")
    try:
        return _decompress(memoryview(body)[head.end() :], length)
    except zstandard.ZstdError as error:
        raise UnreadableBodyError(f"a stored body of {len(body)} bytes cannot be read: {error}") from None


def decode_bodies(bodies: Iterable[bytes | None]) -> list[bytes | None]:
    """Of each stored body its JSON; None where there is none.

    Raises:
        UnreadableBodyError: one is not what was written.
    """
    return [None if body is None else decode_body(body) for body in bodies]


def join_bodies(pieces: Sequence[bytes]) -> bytes:
    """The stored body of all of these, stored bodies or pieces of JSON, one after another."""
    if not any(piece[:1] == b"z" for piece in pieces):
        return b"".join(pieces)
    length, frames, plain = 0, [], b""
    for piece in pieces:
        head = _HEAD.match(piece)
        if head is None:
            length += len(piece)
            plain += piece
            continue
        length += int(head[1])
        frames += [_raw_frame(plain), piece[head.end() :]]
        plain = b""
    return b"z%d\n%b" % (length, b"".join([*frames, _raw_frame(plain)]))


def _raw_frame(raw: bytes) -> bytes:
    """A frame that holds this text as it is; nothing for no text."""
    if not raw:
        return b""
    out = [_RAW_FRAME]
    for at in range(0, len(raw), _BLOCK_BYTES):
        block = raw[at : at + _BLOCK_BYTES]
        is_last = at + _BLOCK_BYTES >= len(raw)
        out += [(len(block) << 3 | is_last).to_bytes(3, "little"), block]
    return b"".join(out)


def _decompress(frames: memoryview, length: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW_BYTES)
    found: list[bytes] = []
    left = length
    with decompressor.stream_reader(frames, read_across_frames=True, closefd=False) as reader:
        # Piece by piece: of a head that lies, no more is believed than has come.
        while left and (piece := reader.read(min(left, _PIECE_BYTES))):
            found.append(piece)
            left -= len(piece)
        if left or reader.read(1):
            raise UnreadableBodyError(
                f"a stored body claims {length} bytes and has {'fewer' if left else 'more'} than that"
            )
    return found[0] if len(found) == 1 else b"".join(found)
