"""Pages and cursors of lists. A page is short, or empty, where a request has looked at as much as it may: it goes on."""

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from fastapi import Query
from pydantic import BeforeValidator

from innkeeper_engine.durations import DurationError, parse_instant_ms
from innkeeper_engine.model.times import rfc3339
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.views import envelope

T = TypeVar("T")

_SPACE_FOR_PLUS: Final = re.compile(r"\d \d\d:?\d\d$", re.ASCII)
_EPOCH_MS: Final = re.compile(r"\d{12,14}", re.ASCII)
_EPOCH_S: Final = re.compile(r"\d{9,11}", re.ASCII)

MOST: Final = 200
"""Entries of a page."""
DEFAULT: Final = 20
_DIGITS: Final = re.compile(r"-?\d{1,9}", re.ASCII)


def _digits(given: Any) -> Any:
    if isinstance(given, str) and _DIGITS.fullmatch(given) is None:
        raise ValueError("write a whole number, in digits only")
    return given


def _word(given: Any) -> Any:
    if isinstance(given, str) and given not in ("true", "false"):
        raise ValueError("write true or false")
    return given


LimitOf: TypeAlias = Annotated[
    int,
    BeforeValidator(_digits),
    Query(ge=1, le=MOST, description="How many entries a page has at most; it may have fewer."),
]
FlagOf: TypeAlias = Annotated[bool, BeforeValidator(_word)]
"""For a parameter that is true or false."""
CursorOf: TypeAlias = Annotated[
    str,
    Query(
        max_length=400,
        description="Where to go on: `page.cursor` of the page before. The other parameters must be as they were.",
    ),
]
InstantOf: TypeAlias = Annotated[
    str, Query(max_length=64, description="An RFC 3339 date, for example 2024-01-31T16:30:00Z.")
]
FilterOf: TypeAlias = Annotated[
    str,
    Query(
        max_length=8_192,
        description="An expression (CEL) that is true for what is wanted; several lines are all to be true. It reads "
        "payloads: who may not see those may not use it.",
    ),
]


class Seen(NamedTuple, Generic[T]):
    """What was looked at."""

    item: T | None
    """None: it is not wanted."""
    position: str
    """Where to go on after it; empty: nothing is left."""


class Page(NamedTuple, Generic[T]):
    """Some of a list."""

    items: list[T]
    position: str
    """Where to go on; empty where nothing is left."""


async def page_of(seen: AsyncIterator[Seen[T]], limit: int) -> Page[T]:
    """The first `limit` of what is seen. One more is looked for, so that a full page knows whether it is the last.

    `seen` ends with the list, or with a position where a request has looked at enough.
    """
    items: list[T] = []
    position = full_at = ""
    async for item, after in seen:
        if item is not None:
            if len(items) == limit:
                return Page(items, full_at)
            items.append(item)
        if len(items) == limit and not full_at:
            full_at = after
        position = after
    return Page(items, full_at if position and full_at else position)


def paged(data: Any, position: str, limit: int, digest: str, now_ms: int) -> dict[str, Any]:
    """The answer for a page."""
    cursor = write_cursor(position, digest) if position else None
    return envelope(data, now_ms) | {"page": {"cursor": cursor, "has_more": bool(position), "limit": limit}}


def digest_of(*filters: object) -> str:
    """What stands in a cursor for the list that it is of."""
    return hashlib.sha256(repr(filters).encode("utf-8", "backslashreplace")).hexdigest()[:8]


def write_cursor(position: str, digest: str) -> str:
    """A position as clients see it."""
    return base64.urlsafe_b64encode(f"{digest}{position}".encode()).decode().rstrip("=")


def read_cursor(cursor: str, digest: str) -> str:
    """The position of a cursor; empty without one.

    Raises:
        ApiError: 400, it is none, or of another list.
    """
    if not cursor:
        return ""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise bad_cursor() from None
    if not text.startswith(digest) or len(text) == len(digest):
        raise ApiError(
            400,
            "query.cursor: it is of another list; send it with the parameters of the page that it came with",
        )
    return text[len(digest) :]


def bad_cursor() -> ApiError:
    """What whoever sends something else for a cursor learns."""
    return ApiError(400, "query.cursor: it is no cursor; take `page.cursor` of the page before as it is")


def instant_ms(text: str, name: str) -> int | None:
    """A time of the query in ms since the epoch; None where it says none.

    Raises:
        ApiError: 400, it is no date, or before 1970.
    """
    if not text:
        return None
    try:
        at_ms = parse_instant_ms(text)
    except DurationError as error:
        raise ApiError(400, f"query.{name}: {error}{_hint(text)}") from None
    if at_ms < 0:
        raise ApiError(400, f"query.{name}: {text[:100]!r} is before 1970")
    return at_ms


def check_window(first: str, first_ms: int, end: str, end_ms: int | None) -> None:
    """Refuse a window in which nothing can be.

    Raises:
        ApiError: 400, its `end` is not after its `first` moment.
    """
    if end_ms is not None and end_ms <= first_ms:
        raise ApiError(400, f"query.{end}: it is not after query.{first}: nothing lies in between")


def _hint(text: str) -> str:
    """What whoever writes a time so may have meant."""
    if _SPACE_FOR_PLUS.search(text):
        return "; a + of a query is written %2B"
    if _EPOCH_MS.fullmatch(text):
        return f"; as ms since 1970 it would be {rfc3339(int(text))}"
    if _EPOCH_S.fullmatch(text):
        return f"; as seconds since 1970 it would be {rfc3339(int(text) * 1000)}"
    return ""
