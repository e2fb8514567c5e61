"""Cancellations of many runs at once: those that are there, and those that begin later in the same window."""

from typing import Literal

import msgspec


class Cancellation(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Every run of a function that was made in a window, and whose first event meets a condition, is cancelled."""

    id: str
    """A ULID."""
    slug: str
    """The function's, `{app id}-{function id}`."""
    app_id: str = ""
    function_id: str = ""
    """As it was asked for, without the app's id."""
    after_ms: int = 0
    """Runs made at this time or later."""
    before_ms: int
    """Runs made before this time; it may lie ahead."""
    expression: str | None = None
    """CEL over `event`; None: all."""
    created_ms: int
    total: int = 0
    """Runs of the function that went on when it was made."""
    why: Literal["bulk", "function"] = "bulk"
    """bulk: somebody asked for it. function: the function is gone; does not apply if it has come back meanwhile."""


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """How far the runs that were there already have been looked through for a cancellation."""

    revision: int = 0
    """Rises with every page: who works on an older one is refused."""
    phase: Literal["queued", "begun", "done"] = "queued"
    """Runs that have not begun come first: one that begins meanwhile is met among the others."""
    cursor: str = "0"
    """Of the scan within the phase, and which server's it is: `Store.scan_live_runs`."""
    looked: int = 0
    cancelled: int = 0
