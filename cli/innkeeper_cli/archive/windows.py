"""Which times an archive's files are of. Pure.

Time is cut into windows of one length, from midnight UTC on. What ended or came in a window is one file, written once
the window is over, and what the file is called follows from the window. So whether a window is done is whether its file
is there: an export that is repeated, or was killed, goes on with the windows that have none.
"""

from typing import NamedTuple

import msgspec

from innkeeper_engine.durations import DAY_MS, HOUR_MS, MINUTE_MS, format_duration
from innkeeper_engine.model.times import rfc3339

DEFAULT_MS = HOUR_MS


class Window(NamedTuple):
    """From `start_ms` until `end_ms`, that not included."""

    start_ms: int
    end_ms: int


class Wanted(NamedTuple):
    """What an export is to write. None: as far as there is."""

    from_ms: int | None = None
    until_ms: int | None = None
    expiring_within_ms: int | None = None
    """Only what goes within this time, by the environment's retention."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far an archive goes: all that ended or came in between is in its files, or was gone when it was looked for."""

    through_ms: int
    since_ms: int = 0


class Gap(NamedTuple):
    """A time of which something may be gone that was never written."""

    from_ms: int
    until_ms: int


def check_window_ms(window_ms: int) -> int:
    """The length of a window, if it can be one.

    Raises:
        ValueError: it cannot, and why.
    """
    if not MINUTE_MS <= window_ms <= DAY_MS or DAY_MS % window_ms:
        raise ValueError(
            f"{format_duration(window_ms)} is no length of a window: a day must be a number of whole windows of a minute "
            "or more, such as 1h, 30m or 5m"
        )
    return window_ms


def window_at(at_ms: int, window_ms: int) -> Window:
    """The window that this moment is in."""
    start_ms = at_ms - at_ms % window_ms
    return Window(start_ms, start_ms + window_ms)


def bounds(
    wanted: Wanted, progress: Progress | None, *, now_ms: int, settled_ms: int, keep_s: int, window_ms: int
) -> Window:
    """From when to when an export writes; empty (or ending before it begins) where there is nothing to do.

    Only windows that are over: what still goes on is written by a later export, in the window in which it ends. An export
    that is not told where to begin goes on where the last one was, if that one left out nothing before.
    """
    if wanted.from_ms is not None:
        start_ms = window_at(wanted.from_ms, window_ms).start_ms
    else:
        start_ms = 0 if progress is None or progress.since_ms > 0 else progress.through_ms
    until_ms = min(now_ms, settled_ms)
    if wanted.until_ms is not None:
        until_ms = min(until_ms, wanted.until_ms)
    if wanted.expiring_within_ms is not None:
        going_ms = now_ms - keep_s * 1000 + wanted.expiring_within_ms
        until_ms = min(until_ms, window_at(going_ms - 1, window_ms).end_ms)
    return Window(start_ms, window_at(until_ms, window_ms).start_ms)


def advanced(progress: Progress | None, done: Window) -> Progress:
    """How far an archive goes once this time is done too. What does not join it is in files, and not told here."""
    if progress is None:
        return Progress(done.end_ms, done.start_ms)
    if done.start_ms <= progress.through_ms and done.end_ms >= progress.since_ms:
        return Progress(max(progress.through_ms, done.end_ms), min(progress.since_ms, done.start_ms))
    return progress


def gap(progress: Progress | None, wanted: Wanted, *, now_ms: int, keep_s: int) -> Gap | None:
    """What may be lost: the last export was longer ago than things are kept."""
    oldest_ms = now_ms - keep_s * 1000
    if progress is None or wanted.from_ms is not None or progress.through_ms >= oldest_ms:
        return None
    return Gap(progress.through_ms, oldest_ms)


def path_of(kind: str, env: str, window: Window, suffix: str) -> str:
    """Where the file of a window is: `runs/env=prod/date=2026-11-23/runs-20261123T050000Z.parquet`."""
    at = rfc3339(window.start_ms)
    stamp = at[:19].replace("-", "").replace(":", "")
    return f"{kind}/env={path_name(env)}/date={at[:10]}/{kind}-{stamp}Z{suffix}"


def path_name(env: str) -> str:
    """An environment as a part of a path.

    A branch has `%2F` and the like in its name, which readers of partitions would decode: here it has `!2F`, and no
    name of an environment has a `!`.
    """
    return env.replace("%", "!")
