"""Instants as text."""

from datetime import UTC, datetime

DAY_MS = 86_400_000


def rfc3339(at_ms: int) -> str:
    """An instant in ms since the epoch as `2026-11-22T10:33:08.432Z`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def date_of(at_ms: int) -> str:
    """The day (UTC) of an instant in ms since the epoch, as `2026-11-22`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()
