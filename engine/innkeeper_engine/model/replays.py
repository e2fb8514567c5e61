"""Runs once more: one from a step on, and many at once. What is asked for, how far it is, and the effects of both."""

from typing import NamedTuple

import msgspec


class Replay(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Every run of a function that was made in a window, and ended so, is run once more."""

    id: str
    """A ULID."""
    slug: str
    """The function's, `{app id}-{function id}`."""
    app_id: str
    function_id: str
    """As it was asked for, without the app's id."""
    from_ms: int = 0
    """Runs made at this time or later."""
    until_ms: int
    """Runs made before this time, which is past when the replay is made."""
    statuses: tuple[str, ...]
    """How they ended: of Completed, Failed, Cancelled and Skipped."""
    expression: str | None = None
    """CEL over `event`; None: all."""
    created_ms: int
    total: int = 0
    """Runs of the environment in the window, whatever their function, when it was made: as many are looked at."""


class ReplayProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a replay is."""

    revision: int = 0
    """Rises with every page: who works on an older one is refused."""
    phase: str = "running"
    """running, waiting or done."""
    why: str = ""
    """What it waits for: `queue`, `paused`, `draining` or `gone`."""
    at_ms: int = 0
    """Made when the last run that was looked at was."""
    last: str = ""
    """The last run that was looked at."""
    looked: int = 0
    replayed: int = 0
    unavailable: int = 0
    """Runs that were meant, and of which an event is not kept any more, or cannot be read."""


class FoundRun(NamedTuple):
    """A run that a replay may mean, with its events (id, canonical body); none where one is not kept or readable."""

    run: str
    cron: str
    events: tuple[tuple[str, bytes], ...]
    at_ms: int
    """When it was made."""
    looked: int
    """How many of the page were looked at by then, itself included."""


class ReplayPage(NamedTuple):
    """Some of the runs of a window, in the order in which they were made."""

    looked: int
    at_ms: int
    last: str
    is_last: bool
    found: list[FoundRun]


class EditedInput(msgspec.Struct, frozen=True, kw_only=True):
    """What a step of a rerun is given instead of its own input; in a run's payloads under `:i`, as canonical JSON."""

    input: msgspec.Raw
    op: str
    """The operation of that step: `StepRun` (the app is told) or `AIGateway` (the request is changed here)."""
    step: str


# ---- effects


class Again(NamedTuple):
    """The run that was just started is another one once more. Nothing where that is known of it already."""

    run: str
    of: str
    replay: str
    """The replay that wanted it, or empty."""
    results: int
    """It begins with so many results of `of`, the first that it had."""
    target: str
    """The step that its first request asks for; empty: the function from the top."""
    edited: bytes
    """`EditedInput` as canonical JSON, or empty."""
    notes: tuple[bytes, ...]


class SetReplay(NamedTuple):
    """A replay of the environment is there, and due; with an empty body it is gone."""

    env: str
    id: str
    body: bytes
    due_ms: int


class Replayed(NamedTuple):
    """A page of a replay is done; `due_ms`: when the next is (0: at once). The counts are of this page."""

    env: str
    id: str
    phase: str
    why: str
    at_ms: int
    last: str
    looked: int
    replayed: int
    unavailable: int
    due_ms: int


# ---- guards
