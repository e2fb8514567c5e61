"""Time and identity, injected: no rule reads the wall clock or draws randomness itself."""

import hashlib
import secrets
import threading
import time
from typing import Protocol

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MAX_ENTROPY = (1 << 80) - 1
_SHIFTS = range(120, -1, -10)
_PAIRS = tuple(first + second for first in _CROCKFORD for second in _CROCKFORD)

ULID_LENGTH = 26


class Clock(Protocol):
    """Where the time comes from."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000


class Ids(Protocol):
    """Where identities come from."""

    def ulid(self, at_ms: int) -> str:
        """A new ULID whose timestamp is `at_ms`."""
        ...


class RandomIds:
    """ULIDs from the system's entropy, increasing within a process even inside one millisecond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ms = -1
        self._entropy = 0

    def ulid(self, at_ms: int) -> str:
        """A new ULID whose timestamp is `at_ms`; larger than the last one of the same millisecond."""
        with self._lock:
            if at_ms == self._last_ms and self._entropy < _MAX_ENTROPY:
                self._entropy += 1
            else:
                self._last_ms = at_ms
                # The top bit stays clear, so that counting up never overflows.
                self._entropy = secrets.randbits(79)
            return encode_ulid(at_ms, self._entropy)


def encode_ulid(at_ms: int, entropy: int) -> str:
    """The 26 letters of a ULID (https://github.com/ulid/spec) from its 48-bit time and its 80-bit rest."""
    value = ((at_ms & ((1 << 48) - 1)) << 80) | (entropy & _MAX_ENTROPY)
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in _SHIFTS])


def ulid_ms(ulid: str) -> int:
    """The timestamp inside a ULID, in ms since the epoch.

    Raises:
        ValueError: `ulid` is not 26 Crockford letters.
    """
    if not is_ulid(ulid):
        raise ValueError(f"{ulid!r} is not a ULID (26 letters of 0-9 A-Z without I, L, O, U)")
    value = 0
    for letter in ulid[:10].upper():
        value = value * 32 + _CROCKFORD.index(letter)
    return value


def is_ulid(text: str) -> bool:
    """Whether `text` has the form of a ULID."""
    return len(text) == ULID_LENGTH and text[0] in "01234567" and all(c in _CROCKFORD for c in text.upper())


def derived_ulid(at_ms: int, *parts: str) -> str:
    """The ULID that these parts always give: the identity of what must exist once however often it is decided."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return encode_ulid(at_ms, int.from_bytes(digest[:10], "big"))
