"""What the store gives back: leases, events, runs, as plain data."""

from typing import Literal, NamedTuple, TypeAlias

import msgspec

RunStatus: TypeAlias = Literal["Scheduled", "Running", "Completed", "Failed", "Cancelled", "Skipped"]

START, DISCOVERY, PLANNED, FETCH = "s", "d", "p", "f"
"""Kinds of queue items."""


class Lease(msgspec.Struct, kw_only=True):
    """One leased item and a snapshot of its run."""

    item: str
    token: str
    run: str
    kind: str
    step: str
    attempt: int
    generation: int
    expiries: int
    seen: int
    """Checkpoints of this item so far."""
    sealed: bytes
    """The encrypted request of a fetch item."""
    env: str
    slug: str
    version: int
    """The SDK's execution version; -1 before its first answer."""
    plan_only: bool
    step_count: int
    state_bytes: int
    event_count: int
    queued_ms: int
    started_ms: int
    retries: int
    """As configured when the run started."""
    wanted_ms: float
    """Since when the run is wanted: what its place in the queue goes by, before its priority."""
    stack: tuple[str, ...]
    """Completed steps in their order; for a planned step those that were complete when it was planned."""
    rekey: bool = False
    """Queued under keys that its function has not any more: it is to be put back under the present ones, not called."""
    payload: dict[str, bytes] | None
    """Events under `e:<n>` and results by step id; None where they were too large to come along."""
    trace: str = ""
    """The run's trace (see `tracing`)."""


class Applied(NamedTuple):
    """The answer of `apply`."""

    status: Literal["ok", "lost", "ended", "stale", "moved", "full", "gone"]
    registry: int
    seen: int
    """For `stale`: checkpoints seen now."""
    attempt: int
    """For `stale`: the attempt now."""
    leases: list[Lease]
    step_count: int = 0
    """For `stale`: steps with a result now. For `full`: what the run would have."""
    state_bytes: int = 0


class Gathered(NamedTuple):
    """A debounce or batch that is due, and closed: events that come now begin another one."""

    id: str
    kind: Literal["debounce", "batch"]
    env: str
    slug: str
    events: tuple[str, ...]
    """Ids, in the order of their arrival; of a debounce only the last."""


class Due(NamedTuple):
    """The answer of `due`."""

    registry: int
    next_ms: float | None
    leases: list[Lease]
    crons: list[tuple[str, int]]
    expired: int
    clock_ms: int
    """The server's own clock, by which the next timer is due; that of another machine may be seconds off."""
    gathered: list[Gathered] = []  # noqa: RUF012
    sweeps: list[tuple[str, str]] = []  # noqa: RUF012
    """(environment, id) of cancellations of which a page is due."""
    replays: list[tuple[str, str]] = []  # noqa: RUF012
    """(environment, id) of replays of which a page is due."""
    full: bool = False
    """Whether the server has so little memory left that what is over should go (`Store.shed`)."""
    watch: bool = False
    """Whether a page of `Store.watch` is due."""


class Shed(NamedTuple):
    """The answer of `shed`."""

    runs: int
    """Runs that have lost payloads and history."""
    notes: int
    """Lines of history that they had."""
    events: int
    """Events that have gone, of these runs or by themselves."""
    full: bool
    """Whether more should go."""
    more: bool
    """Whether there may be anything left that could."""


class QueuedEvent(NamedTuple):
    """An event that waits to be routed."""

    id: str
    name: str
    seq: int
    received_ms: int
    body: bytes
    paths: tuple[str, ...]
    """The paths by which waits for this event name are indexed."""


class Peeked(NamedTuple):
    """What there is to route."""

    registry: int
    env: str
    cursor: int
    within: str
    events: list[QueuedEvent]


class Waiter(NamedTuple):
    """A pause that an event may end."""

    pause: str
    run: str
    step: str
    kind: str
    condition: bytes


class WaiterQuery(NamedTuple):
    """Which waiters of one index key, committed before event `seq`, after pause `after` in the index's order."""

    name: str
    path: str
    value: str
    seq: int
    after: str = ""
    limit: int = 256


class StoredEvent(NamedTuple):
    """An event that was accepted."""

    id: str
    seq: int
    received_ms: int
    body: bytes


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of every run for the retention."""

    id: str
    env: str
    slug: str
    app: str
    status: RunStatus
    queued_ms: int
    started_ms: int | None
    ended_ms: int | None
    event_ids: tuple[str, ...]
    cron: str
    notes_lost: int | None = None
    """How many lines of history went before their time, with the payloads, since memory was short; None: none did."""
    trace: str = ""
    """The run's trace (see `tracing`)."""
    of: str = ""
    """The run that this one is once more; empty where it is none."""
    replay: str = ""
    """The replay that wanted it; empty where none did."""


class StuckRun(NamedTuple):
    """A run that goes on and has nothing to go on by."""

    env: str
    slug: str
    run: str


class RunHead(NamedTuple):
    """What a run that has not ended is about."""

    run: str
    made_ms: int
    """When it was made: its event was received, or it was written."""
    event: bytes | None
    """Its first event; empty where it was not asked for, None where it cannot be read."""


class FunctionCounts(NamedTuple):
    """How much a function has to do and has done."""

    queued: int
    """Runs that have not begun."""
    running: int
    """Runs that have begun and not ended, those that sleep or wait included."""
    completed24h: int
    """Runs that returned in this hour (UTC) or in the 23 before it."""
    failed24h: int
    """Runs that failed for good in that time. Cancelled and skipped ones are in neither."""
    last_run_ms: int | None
    """When the newest run was made; None before the first, and after three months without any."""


class CronEntry(NamedTuple):
    """One armed cron line of a function."""

    id: str
    slot_ms: int
