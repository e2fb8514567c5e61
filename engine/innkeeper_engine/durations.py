"""Durations and instants as users and SDKs write them.

An SDK hands some durations on exactly as they were typed (`"1min"`, `"4 hours"`, `"2.5d"`, `"18h30m"`),
others as compounds that start at weeks (`"4w2d"`), and dates in whatever form its language prints. One
parser reads all.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
WEEK_MS: Final = 7 * DAY_MS

MIN_RETRY_AFTER_MS: Final = SECOND_MS
MAX_RETRY_AFTER_MS: Final = DAY_MS

_UNITS: Final[dict[str, Fraction]] = {
    spelling: Fraction(size)
    for spellings, size in (
        ("ns nanosecond nanoseconds", Fraction(1, 1_000_000)),
        ("us µs μs microsecond microseconds", Fraction(1, 1_000)),
        ("ms msec msecs millisecond milliseconds", Fraction(1)),
        ("s sec secs second seconds", Fraction(SECOND_MS)),
        ("m min mins minute minutes", Fraction(MINUTE_MS)),
        ("h hr hrs hour hours", Fraction(HOUR_MS)),
        ("d day days", Fraction(DAY_MS)),
        ("w week weeks", Fraction(WEEK_MS)),
    )
    for spelling in spellings.split()
}
_TERM = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?P<unit>[^\W\d_]+)\s*")
_HOW_TO_WRITE: Final = (
    "write a number and a unit (ms, s, m, h, d or w), for example 30s, 1h30m, 2.5d or 3 days"
)

_MAX_TEXT: Final = 100
# Larger integers would lose digits where a script of the store calculates with doubles.
_MAX_MS: Final = 2**53 - 1

# The shortest text that can be a date (`2024-01-01`); a shorter one is a duration.
_SHORTEST_DATE: Final = 10
_DATE = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]?(?P<time>[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,](?P<fraction>[0-9]{1,12}))?)?"
    r"\s*(?P<offset>[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?"
    r"(?P<brackets>(?:\[[^\[\]]*\])*)"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DurationError(ValueError):
    """A text that is no duration (or no date where one is allowed); the message says what would be right."""


def parse_duration_ms(text: str) -> int:
    """The length of a duration in whole milliseconds; what is left below one is cut off.

    Accepted are one or more of number and unit, with or without spaces, in any case: units ns, us, ms, s,
    m, h, d and w (7 d), or their long names (`1min`, `30 minutes`, `3 days`); numbers may have decimals
    (`2.5d`).

    Raises:
        DurationError: anything else, the empty text and negative durations included.
    """
    stripped = text.strip()
    if not stripped:
        raise DurationError(f"an empty text is no duration: {_HOW_TO_WRITE}")
    if len(stripped) > _MAX_TEXT:
        raise DurationError(f"a duration has {_MAX_TEXT} characters at most, this has {len(stripped)}")
    if stripped.startswith("-"):
        raise DurationError(f"{text!r} is negative: a duration is zero or more")
    total = Fraction(0)
    position = 0
    while position < len(stripped):
        term = _TERM.match(stripped, position)
        if term is None:
            raise DurationError(_why_no_term(text, stripped[position:]))
        unit = _UNITS.get(term["unit"].lower())
        if unit is None:
            raise DurationError(f"{text!r} is no duration: unknown unit {term['unit']!r}; {_HOW_TO_WRITE}")
        total += Fraction(term["number"].rstrip(".")) * unit
        position = term.end()
    if total > _MAX_MS:
        raise DurationError(f"{text!r} is too long: a duration is shorter than {_MAX_MS // DAY_MS} days")
    return int(total)


def _why_no_term(text: str, rest: str) -> str:
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?\s*", rest):
        return f"{text!r} is no duration: {rest.strip()} has no unit; {_HOW_TO_WRITE}"
    return f"{text!r} is no duration: {_HOW_TO_WRITE}"


def format_duration(ms: int) -> str:
    """The shortest exact text for a duration, days first (`2d12h`, `1h30m`, `500ms`, `0s`).

    Raises:
        ValueError: `ms` is negative.
    """
    if ms < 0:
        raise ValueError(f"a duration is zero or more, not {ms} ms")
    parts = []
    for unit, size in (("d", DAY_MS), ("h", HOUR_MS), ("m", MINUTE_MS), ("s", SECOND_MS), ("ms", 1)):
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_time_or_duration_ms(text: str, now_ms: int) -> int:
    """When something asked for by date or by duration is due, in ms since the epoch; never before `now_ms`.

    A date is RFC 3339, also without time (midnight), without offset (then UTC) or with the zone in
    brackets that Temporal prints (`2025-05-01T16:00:00+01:00[Europe/London]`: the offset counts, the zone
    only if there is none). A part of a millisecond counts as a whole one, so that nothing is due early. A
    date in the past is now.

    Raises:
        DurationError: the text is neither a date nor a duration.
    """
    stripped = text.strip()
    if len(stripped) >= _SHORTEST_DATE:
        match = _DATE.fullmatch(stripped)
        if match is not None:
            return max(now_ms, _instant_ms(match, text))
    try:
        return now_ms + parse_duration_ms(text)
    except DurationError as error:
        raise DurationError(f"{error}; or an RFC 3339 date, for example 2024-01-31T16:30:00Z") from None


def parse_instant_ms(text: str) -> int:
    """The instant of a date as `parse_time_or_duration_ms` reads one, in ms since the epoch; also one in the past.

    Raises:
        DurationError: the text is no date.
    """
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise DurationError(f"{text[:_MAX_TEXT]!r} is no date; write it as 2024-01-31T16:30:00Z")
    return _instant_ms(match, text)


def parse_retry_after_ms(text: str, now_ms: int) -> int | None:
    """The instant that a Retry-After header asks for, in ms since the epoch, between 1 s and 24 h from now.

    Seconds or an HTTP date (RFC 9110, the obsolete forms included) or, as some SDKs send it, an RFC 3339
    date. None where the text is none of these: an app's odd header must not keep its run from being
    retried.
    """
    stripped = text.strip()
    if re.fullmatch(r"[+-]?[0-9]{1,15}", stripped):
        wanted = now_ms + int(stripped) * SECOND_MS
    else:
        date = _retry_date_ms(stripped)
        if date is None:
            return None
        wanted = date
    return min(max(wanted, now_ms + MIN_RETRY_AFTER_MS), now_ms + MAX_RETRY_AFTER_MS)


def _retry_date_ms(text: str) -> int | None:
    match = _DATE.fullmatch(text)
    if match is not None:
        try:
            return _instant_ms(match, text)
        except DurationError:
            return None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # An HTTP date is always GMT; "-0000" or a missing zone comes back naive.
    return _epoch_ms(date if date.tzinfo is not None else date.replace(tzinfo=UTC))


def _instant_ms(match: re.Match[str], text: str) -> int:
    """The instant of a text that has the form of a date.

    Raises:
        DurationError: it names a day, a time or a zone that does not exist.
    """
    clock = match["time"] or "00:00"
    try:
        local = datetime.fromisoformat(f"{match['date']}T{clock}")
        whole_ms = _epoch_ms(local.replace(tzinfo=_zone(match)))
    except (ValueError, OverflowError) as error:
        raise DurationError(f"{text!r} is no date: {error}; write it as 2024-01-31T16:30:00Z") from None
    return whole_ms + _fraction_ms(match["fraction"])


def _zone(match: re.Match[str]) -> timezone | ZoneInfo:
    offset = match["offset"]
    if offset in ("Z", "z"):
        return UTC
    if offset:
        digits = offset[1:].replace(":", "")
        minutes = int(digits[:2]) * 60 + int(digits[2:] or "0")
        return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
    for annotation in re.findall(r"\[!?([^\[\]]*)\]", match["brackets"]):
        if "=" not in annotation:  # `[u-ca=gregory]` is a calendar
            return _named_zone(annotation)
    return UTC


def _named_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # a folder of the zone data, a path outside of it, no such zone
        raise ValueError(f"there is no time zone {name!r}") from None


def _fraction_ms(digits: str | None) -> int:
    if not digits:
        return 0
    unit: int = 10 ** len(digits)
    return -(-int(digits) * 1000 // unit)  # rounded up


def _epoch_ms(date: datetime) -> int:
    ms: int = (date - _EPOCH) // timedelta(milliseconds=1)
    return ms
