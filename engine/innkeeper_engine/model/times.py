"""Instants as text."""

from datetime import UTC, datetime


def rfc3339(at_ms: int) -> str:
    """An instant in ms since the epoch as `2026-11-22T10:33:08.432Z`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
