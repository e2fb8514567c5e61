"""What a decision asks for, as data. The store's `apply` script does it, all or nothing, in the given order.

Each effect is idempotent and carries its own condition, because a decision is made on a snapshot while siblings of
the same run commit. JSON goes through as bytes in canonical form; times are ms since the epoch.
"""

from typing import NamedTuple, TypeAlias

from innkeeper_engine.model.replays import Again, Replayed, SetReplay

Ids2: TypeAlias = tuple[str, str]
"""Event ids (ULIDs) for the two events that the end of a run may emit: failed or cancelled, and finished."""


class CancelOn(NamedTuple):
    """A cancellation rule of a run, as a pause of it."""

    pause: str
    event: str
    path: str
    value: str
    after: int
    """Number of the run's event: only later ones cancel."""
    deadline_ms: int
    condition: bytes


class Once(NamedTuple):
    """A right to begin: once per `key` in `period_ms`."""

    key: str
    period_ms: int
    note: bytes
    """Why the run is skipped where the right is refused, and what its invoker gets: so in all rights."""
    reply: bytes


class Rate(NamedTuple):
    """A right to begin: at most `limit` times per `key` in any `period_ms`."""

    key: str
    limit: int
    period_ms: int
    note: bytes
    reply: bytes


class Single(NamedTuple):
    """A right to begin: while no other run holds `key`, until the run ends. With `ids` the other one is cancelled."""

    key: str
    note: bytes
    reply: bytes
    ids: Ids2 = ("", "")
    """For the end of the run that holds the key; empty: it goes on, and this one is refused."""
    cancel_note: bytes = b""


Right: TypeAlias = Once | Rate | Single


class Start(NamedTuple):
    """A run begins: once per run id, and once in 24 h per idempotency key.

    Where one of its `rights` is refused, none is taken, and the run is recorded as `Skip` records one.
    """

    run: str
    env: str
    fn: str
    slug_json: bytes
    app: str
    events: tuple[tuple[str, bytes], ...]
    """(event id, body); an empty body is copied from the stored event."""
    start_partition: str
    step_partition: str
    order: float
    due_ms: int
    cancels: tuple[CancelOn, ...] = ()
    parent: str = ""
    """The pause of an invoking step, resolved when the run ends."""
    idempotency: str = ""
    announces: bool = True
    cron: str = ""
    retries: int = 4
    rights: tuple[Right, ...] = ()
    start_timeout_ms: int = 0
    """How long after it is due the run may wait for its first request; 0: for ever."""
    finish_timeout_ms: int = 0
    """How long after its first request the run may take; 0: for ever."""
    ids: Ids2 = ("", "")
    """For the end by a timeout."""
    boost_ms: int = 0
    """Its priority: `order` is less by so much, and its partition's turn comes so much earlier."""
    made_ms: int = 0
    """When it was made, for cancellations of many runs: an event was received; 0: as it is written."""
    trace: str = ""
    """The trace it is in (see `tracing`); empty: that of the first of its events that is stored with one."""


class Skip(NamedTuple):
    """A run that would have begun is recorded and nothing else: status Skipped, in the lists of runs, with a note.

    Not where that run is there already, or where the sender's repeated event would have started none.
    """

    run: str
    env: str
    fn: str
    app: str
    events: tuple[str, ...]
    idempotency: str
    cron: str
    note: bytes
    parent: str = ""
    """The pause of an invoking step, resolved with `reply`."""
    reply: bytes = b""


class Gather(NamedTuple):
    """An event joins those of its group that will start one run: a debounce keeps the last, a batch all.

    Not where the sender's repeated event (`idempotency`) or the value of the function's own key (`once`) had its run
    in the last 24 h; where it was the latter, `refused` happens instead. A batch takes both for its events at once.
    """

    kind: str
    """debounce or batch."""
    group: str
    """`<fn>|<digest of the key's value>`."""
    env: str
    fn: str
    event: str
    """The event's id; its body stays readable until the run is made."""
    period_ms: int
    """Debounce: how long after its last event it is due. Batch: how long after its first."""
    ceiling_ms: int = 0
    """Debounce: how long after its first event it is due in any case; 0: never."""
    most: int = 0
    """Batch: how many events make it due at once."""
    idempotency: str = ""
    once: str = ""
    refused: "tuple[Effect, ...]" = ()


class Rekey(NamedTuple):
    """The leased item was queued under keys that its function does not have any more: back, under these."""

    item: str
    run: str
    start_partition: str
    step_partition: str
    order: float
    boost_ms: int


class Swept(NamedTuple):
    """A page of a sweep is done; `due_ms`: when the next is (0: at once).

    `looked` and `cancelled` are of this page. With `phase` forgotten the cancellation goes, with all that is known of it.
    """

    env: str
    id: str
    phase: str
    cursor: str
    looked: int
    cancelled: int
    due_ms: int


class Save(NamedTuple):
    """A step's result, in wire shape; the first one wins. `go` calls the function again when it may go on."""

    run: str
    step: str
    result: bytes
    go: bool


class Plan(NamedTuple):
    """A request of its own for one step, unless the step has a result or an item. kind: p planned, f fetch."""

    run: str
    step: str
    kind: str = "p"
    sealed: bytes = b""


class Discover(NamedTuple):
    """Call the function from the top; one such request waits at most."""

    run: str


class Pending(NamedTuple):
    """A parallel group: the function goes on when the last of these steps has its result."""

    run: str
    steps: tuple[str, ...]


class Mode(NamedTuple):
    """What the SDK said of itself: execution version, and whether further requests only plan ('' leaves it)."""

    run: str
    version: int
    plan_only: str = ""


class Retry(NamedTuple):
    """The leased item again, later."""

    item: str
    attempt: int
    due_ms: int


class Wait(NamedTuple):
    """A pause: what resolves it, until when, and the result when its time is over. kind: sleep, event, invoke, signal."""

    pause: str
    run: str
    step: str
    kind: str
    env: str
    name: str
    path: str
    value: str
    deadline_ms: int
    condition: bytes
    on_timeout: bytes
    conflict: "tuple[Effect, ...] | None" = None
    """For a signal that somebody waits for already: what happens instead; None: the older waiter gives way."""
    then: "tuple[Effect, ...]" = ()
    """What goes with a new pause (the event of an invoke): not done again where the step waits or is over already."""


class Resolve(NamedTuple):
    """A pause ends with this result; the first end wins."""

    pause: str
    result: bytes


class Resume(NamedTuple):
    """A pause ends with a stored event as its result."""

    pause: str
    env: str
    event: str


class Emit(NamedTuple):
    """An event of the engine's own, into the environment's stream."""

    env: str
    id: str
    name: str
    body: bytes
    trace: str = ""
    """The trace of what it starts."""


class Keep(NamedTuple):
    """An event that can be looked up but is not routed (a cron's)."""

    env: str
    id: str
    body: bytes


class Finish(NamedTuple):
    """The run ends. status: Completed or Failed."""

    run: str
    status: str
    output: bytes
    error: bytes
    """For events: `{error, name, message, ...}`; empty when completed."""
    result: bytes
    """What the SDK sent as error; empty when completed."""
    reply: bytes
    """The step result of whoever invoked the run."""
    ids: Ids2


class Cancel(NamedTuple):
    """The run ends as cancelled, if it has not ended and, where a pause is named, that pause is still there."""

    run: str
    ids: Ids2
    note: bytes = b""
    pause: str = ""


class Note(NamedTuple):
    """A line of the run's history. The engine never reads it."""

    run: str
    text: bytes


class Touch(NamedTuple):
    """A checkpoint of the leased item: attempts start anew, older pictures of the run must be looked at again."""

    item: str


class Arm(NamedTuple):
    """The next slot of a cron, and when it is due: later than the slot by the cron's jitter."""

    cron: str
    slot_ms: int
    due_ms: int


class Fold(NamedTuple):
    """Notes of one run, as the recorder keeps them."""

    run: str
    notes: tuple[bytes, ...]


Effect: TypeAlias = (
    Start
    | Skip
    | Save
    | Plan
    | Discover
    | Pending
    | Mode
    | Retry
    | Wait
    | Resolve
    | Resume
    | Emit
    | Keep
    | Finish
    | Cancel
    | Note
    | Touch
    | Arm
    | Fold
    | Gather
    | Rekey
    | Swept
    | Again
    | SetReplay
    | Replayed
)

TAGS: dict[type[Effect], str] = {
    Start: "start",
    Skip: "skip",
    Save: "save",
    Plan: "plan",
    Discover: "discover",
    Pending: "pending",
    Mode: "mode",
    Retry: "retry",
    Wait: "wait",
    Resolve: "resolve",
    Resume: "resume",
    Emit: "emit",
    Keep: "keep",
    Finish: "finish",
    Cancel: "cancel",
    Note: "note",
    Touch: "touch",
    Arm: "arm",
    Fold: "fold",
    Gather: "gather",
    Rekey: "rekey",
    Swept: "swept",
    Again: "again",
    SetReplay: "replay",
    Replayed: "replayed",
}

RIGHT_TAGS: dict[type[Right], str] = {Once: "once", Rate: "rate", Single: "single"}

MAX_EFFECTS = 256
"""What one script does at most, so that no decision holds the server up."""
