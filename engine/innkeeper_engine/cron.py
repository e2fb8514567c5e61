"""Cron lines: when they fire, in which time zone, and which slots lie between two instants.

A line has five fields (minute, hour, day of month, month, day of week) or six, with seconds first, and
may begin with `TZ=Area/City ` (or `CRON_TZ=`); without it the fields are read in UTC. Names (`MON`,
`JAN`), lists, ranges and steps are allowed, so are `L` (last day), `LW`, `5L` and `5#2`; `?` means `*`
for either day. Sunday is 0 and 7. Where neither day field begins with `*`, a day matches that satisfies
one of them, as in cron(8). Descriptors (`@daily`) are refused, as Inngest refuses them, with the line
that says the same.

Daylight saving follows cron(8) of Debian, for six fields too:

* A line with fixed minutes and hours (neither field begins with `*`) fires once for each wall-clock time
  it names. A time that the clocks skip in spring fires at the first instant after the gap (02:30 in Paris
  at 03:00), together with whatever else falls there; a time that comes twice in autumn fires the first
  time only.
* Every other line counts real time: it fires at every instant whose wall-clock time matches. So
  `*/30 * * * *` goes on every half hour through the repeated hour, and a skipped hour holds no slots.

cronsim parses the fields and walks wall-clock times (docs/adr/0002-cronsim.md); zones are put on here,
because what fires must not depend on the instant from which one starts to look.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MAX_CRON: Final = 255
"""Characters of a cron line, its time zone included."""

_ZONE = re.compile(r"(?:CRON_)?TZ=(?P<zone>\S*)(?:\s+(?P<fields>.*))?", re.DOTALL)
_FIELDS: Final = (
    ("second", "0 to 59"),
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of month", "1 to 31 or L"),
    ("month", "1 to 12 or JAN to DEC"),
    ("day of week", "0 to 7 or SUN to SAT"),
)
# A field of every line, to try one field of another in.
_ANY_FIELDS: Final = ("0", "*", "*", "*", "*", "*")
_DESCRIPTORS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_HOW_TO_WRITE: Final = "write minute, hour, day of month, month and day of week, for example 0 9 * * MON"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A line that does not fire from here never does: cronsim looks 50 years ahead, the calendar repeats after 28.
_TRIAL = datetime(2024, 1, 1)  # noqa: DTZ001 - wall-clock time
# No zone of our time sets its clocks back by more than this at once.
_LONGEST_REPEAT: Final = timedelta(hours=3)


class CronError(ValueError):
    """A text that is no cron line; the message says what is wrong and what would be right."""


class CronLine:
    """A parsed cron line; equal texts fire at equal instants."""

    __slots__ = ("_fields", "_once_per_wall_time", "_zone", "text")

    def __init__(self, text: str, fields: tuple[str, ...], zone: ZoneInfo | None) -> None:
        """Use `parse`. `fields` are six, checked; `zone` is None for UTC."""
        self.text = text
        """The line as it was written."""
        self._fields = " ".join(fields)
        self._zone = zone
        self._once_per_wall_time = not fields[1].startswith("*") and not fields[2].startswith("*")

    def __repr__(self) -> str:
        return f"CronLine({self.text!r})"

    @classmethod
    def parse(cls, text: str) -> "CronLine":
        """Read a line.

        Raises:
            CronError: it is none, names a zone that does not exist, or never fires (30 February).
        """
        if len(text) > MAX_CRON:
            raise CronError(f"a cron line has {MAX_CRON} characters at most, this has {len(text)}")
        zone, rest = _split_zone(text)
        fields = _checked_fields(text, rest.split())
        line = cls(text, fields, zone)
        try:
            next(CronSim(line._fields, _TRIAL))
        except (CronSimError, StopIteration):
            raise CronError(f"{text!r} never fires: no month that it allows has such a day") from None
        return line

    def next_after_ms(self, at_ms: int) -> int:
        """The first slot strictly after `at_ms`, both in ms since the epoch.

        Raises:
            CronError: `at_ms` is so far from our time that no slot can be calculated.
        """
        try:
            slot = self._next_after(_EPOCH + timedelta(milliseconds=at_ms))
        except (OverflowError, StopIteration):
            raise CronError(f"{self.text!r} has no slot that can be calculated after {at_ms} ms") from None
        return (slot - _EPOCH) // timedelta(milliseconds=1)

    def slots_between(self, after_ms: int, until_ms: int, limit: int) -> tuple[int, ...]:
        """The last `limit` slots after `after_ms` and not after `until_ms`, ascending: what was missed.

        The work is bounded by `limit`, however many slots lie between the two.
        """
        if limit <= 0 or until_ms <= after_ms:
            return ()
        # Look at a window that ends at `until_ms`: double it while it holds too few, and halve the step
        # when it holds far too many.
        enough = 4 * limit
        too_short, too_long = 0, None
        window = 1_000
        while True:
            start = max(after_ms, until_ms - window)
            slots = list(islice(self._slots(start, until_ms), enough + 1))
            if len(slots) > enough:
                too_long = window
            elif len(slots) >= limit or start == after_ms:
                return tuple(slots[-limit:])
            else:
                too_short = window
            window = window * 2 if too_long is None else (too_short + too_long) // 2

    def _slots(self, after_ms: int, until_ms: int) -> Iterator[int]:
        slot = self.next_after_ms(after_ms)
        while slot <= until_ms:
            yield slot
            slot = self.next_after_ms(slot)

    def _next_after(self, at: datetime) -> datetime:
        if self._zone is None:
            return next(CronSim(self._fields, at))
        if self._once_per_wall_time:
            return self._next_wall_time(at, self._zone)
        return self._next_elapsed(at, self._zone)

    def _next_wall_time(self, at: datetime, zone: ZoneInfo) -> datetime:
        """The first instant of the next wall-clock time that has not had its own yet."""
        for wall in self._walls(at.astimezone(zone)):
            instant = _first_instant(wall, zone)
            if instant > at:  # in the repeated hour the times before `wall` had their turn the first time
                return instant
        raise StopIteration

    def _next_elapsed(self, at: datetime, zone: ZoneInfo) -> datetime:
        """The first instant after `at` at which the wall clock matches."""
        local = at.astimezone(zone)
        found = self._first_match(local, zone, at)
        repeated = _offset(local) - _offset((at + _LONGEST_REPEAT).astimezone(zone))
        if repeated > timedelta(0):
            # The clocks go back soon: wall-clock times before `local` come again, perhaps before `found`.
            found = min(found, self._first_match(local - repeated, zone, at))
        return found

    def _first_match(self, local: datetime, zone: ZoneInfo, at: datetime) -> datetime:
        for wall in self._walls(local):
            instants = [instant for instant in _instants(wall, zone) if instant > at]
            if instants:
                return min(instants)
        raise StopIteration

    def _walls(self, local: datetime) -> Iterator[datetime]:
        """The matching wall-clock times after `local`, without a zone, ascending."""
        return CronSim(self._fields, local.replace(tzinfo=None, fold=0))


def _split_zone(text: str) -> tuple[ZoneInfo | None, str]:
    match = _ZONE.fullmatch(text.strip())
    if match is None:
        return None, text
    name = match["zone"]
    if name.upper() in ("UTC", "ETC/UTC", "GMT", "Z"):
        return None, match["fields"] or ""
    try:
        return ZoneInfo(name), match["fields"] or ""
    except (OSError, ValueError, KeyError):  # a folder of the zone data, a path outside of it, no such zone
        raise CronError(
            f"{text!r}: there is no time zone {name!r}; write an IANA name, "
            "for example TZ=Europe/Paris 0 12 * * 5"
        ) from None


def _checked_fields(text: str, parts: list[str]) -> tuple[str, ...]:
    """The six fields.

    Raises:
        CronError: there are too few or too many, or one of them is not valid.
    """
    if parts and parts[0].startswith("@"):
        instead = _DESCRIPTORS.get(parts[0].lower(), "0 0 * * *")
        raise CronError(
            f"{text!r} is not accepted: instead of {parts[0]} write the fields, for example {instead}"
        )
    if len(parts) not in (5, 6):
        raise CronError(
            f"{text!r} has {len(parts)} field{'' if len(parts) == 1 else 's'}, a cron line has five "
            f"(or six, with seconds first): {_HOW_TO_WRITE}"
        )
    fields = ["0", *parts] if len(parts) == 5 else list(parts)
    for position in (3, 5):
        if fields[position] == "?":
            fields[position] = "*"
    for position, (name, allowed) in enumerate(_FIELDS):
        alone = list(_ANY_FIELDS)
        alone[position] = fields[position]
        try:
            CronSim(" ".join(alone), _TRIAL)
        except CronSimError:
            raise CronError(
                f"{text!r}: {fields[position]!r} is no {name}; write {allowed}, a list 1,2, a range 1-5, "
                "or a step */2"
            ) from None
    return tuple(fields)


def _offset(local: datetime) -> timedelta:
    return local.utcoffset() or timedelta(0)


def _first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant with this wall-clock time; where the clocks skip it, the first after the gap."""
    instants = _instants(wall, zone)
    if instants:
        return instants[0]
    # Read with the offset before the gap (fold 0) a skipped time lies after the gap, read with the one after
    # the gap (fold 1) it lies before it. The change of offset is between the two.
    late = wall.replace(tzinfo=zone).astimezone(UTC)
    early = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    before = _offset(early.astimezone(zone))
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) // 2
        middle = middle.replace(microsecond=0)
        if _offset(middle.astimezone(zone)) == before:
            early = middle
        else:
            late = middle
    return late


def _instants(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """Every instant at which the clocks of a zone show `wall`: none, one or two, ascending."""
    found: list[datetime] = []
    for fold in (0, 1):
        instant = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if instant not in found and instant.astimezone(zone).replace(tzinfo=None) == wall:
            found.append(instant)
    return found


def jitter_ms(slug: str, slot_ms: int, bound_ms: int) -> int:
    """By how much a function's cron slot is put off: from 0 to `bound_ms`, the same whenever it is asked."""
    if bound_ms <= 0:
        return 0
    digest = hashlib.sha256(f"{slug}\0{slot_ms}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (bound_ms + 1)
