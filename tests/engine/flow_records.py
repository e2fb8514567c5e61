"""What happened in a cluster with flow control, as its rules read it (`flow_history`).

A history is a list of records in the order in which things happened. Each record says by itself what the settings
asked for at that moment, so a rule needs nothing but the records before it. Times are ms.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias


class Throttling(NamedTuple):
    """A throttle that a first request goes through: `burst` at once, then `limit` in each `period_ms`."""

    counter: str
    limit: int
    period_ms: int
    burst: int


class Needs(NamedTuple):
    """What a request needs to go out, by the settings in force."""

    counters: tuple[tuple[str, int | None], ...]
    """(counter, the function's own cap; None: it is counted, and has none)."""
    throttle: Throttling | None = None
    held: bool = False
    """Its function or app is paused in a way that holds it."""


class Rating(NamedTuple):
    """A rate limit of which a run takes a part."""

    counter: str
    limit: int
    period_ms: int


class Rights(NamedTuple):
    """What a run needs to begin. Empty: not asked for."""

    repeat: str = ""
    """The event's id, where its sender chose one, and the function."""
    once: str = ""
    rate: Rating | None = None
    single: str = ""
    replaces: bool = False
    """A run that holds `single` gives way."""
    paused: bool = False
    """New runs are skipped."""


class Grouping(NamedTuple):
    """What gathers events to one run. `most` 0: a debounce, which keeps the last."""

    group: str
    period_ms: int
    ceiling_ms: int = 0
    most: int = 0


class Met(NamedTuple):
    """An event has met a trigger of a function."""

    at: int
    event: str
    fn: str
    rights: Rights = Rights()


class Made(NamedTuple):
    """A run has begun to wait for its first request."""

    at: int
    run: str
    fn: str
    events: tuple[str, ...]
    rights: Rights = Rights()
    due_ms: int = 0
    start_ms: int = 0
    """How long after it is due it may wait; 0: for ever."""
    finish_ms: int = 0


class Refused(NamedTuple):
    """A run was recorded as skipped."""

    at: int
    run: str
    fn: str
    events: tuple[str, ...]
    why: str
    rights: Rights = Rights()


class Gathered(NamedTuple):
    """An event has joined those that will start one run. `rights`: what it took by itself (a batch: its ids)."""

    at: int
    event: str
    fn: str
    grouping: Grouping
    rights: Rights = Rights()


class Closed(NamedTuple):
    """Gathered events are due."""

    at: int
    id: str
    fn: str
    events: tuple[str, ...]


class Taken(NamedTuple):
    """A request has gone out."""

    at: int
    item: str
    run: str
    needs: Needs
    partition: str = ""
    """Where it waited; empty: it was only put back under other keys."""
    order: float = 0
    born: int = 0


class Released(NamedTuple):
    """The request is over, and its slots are free."""

    at: int
    item: str


class Ended(NamedTuple):
    """A run is over. why: its status, or cancelled: by the workload, replaced: by a singleton."""

    at: int
    run: str
    why: str


class Waiter(NamedTuple):
    """A request that waits in a queue."""

    item: str
    partition: str
    order: float
    """The run's time less its priority."""
    born: int


class Changed(NamedTuple):
    """A function's throttle has other numbers from now on, for all of its counters."""

    at: int
    throttle: Throttling
    """`counter`: the function, which each of its counters begins with."""


class Queue(NamedTuple):
    """All requests that wait just before some are let out."""

    at: int
    waiting: tuple[Waiter, ...]


class Quiet(NamedTuple):
    """Nothing more goes out, however many could be taken, and no timer is due."""

    at: int
    waiting: Mapping[str, Needs]


class Slots(NamedTuple):
    """What the store counts: limit -> requests."""

    at: int
    slots: Mapping[str, frozenset[str]]


class Drained(NamedTuple):
    """Everything that could end has; `left`: what the store still has and should not."""

    at: int
    left: tuple[str, ...]


Record: TypeAlias = (
    Met
    | Made
    | Refused
    | Gathered
    | Closed
    | Taken
    | Released
    | Ended
    | Changed
    | Queue
    | Quiet
    | Slots
    | Drained
)


class Rule:
    """Sees every record once; says what it breaks."""

    def see(self, record: Record) -> Iterator[str]:
        """The promises that this record breaks."""
        raise NotImplementedError
