"""What the model of the scheduler is made of, and the rules that can be left out of it."""

import enum
from typing import NamedTuple, TypeAlias


class Throttle(NamedTuple):
    """Starts come `emission_ms` apart, `burst` of them at once."""

    emission_ms: int
    burst: int


class Leased(NamedTuple):
    """An item in somebody's hands, and where it came from."""

    partition: str
    order: int
    boost: int
    stale: bool
    """It is to be keyed again, and takes no room."""


Cap: TypeAlias = int | Throttle
Cut: TypeAlias = dict[str, object]


class Rule(enum.StrEnum):
    """What a visit, or whatever makes room, must do so that nobody is forgotten."""

    PASS_ON_WHEN_FULL = "a visit that finds a limit full passes the wake on"
    PASS_ON_WHEN_EMPTY = "a visit that finds no item passes the wake on"
    PASS_ON_WHEN_THROTTLED = "a visit that finds a throttle closed passes the wake on"
    PASS_ON_WHEN_PAUSED = "a visit that finds its function paused passes the wake on"
    PASS_ON_AFTER_A_LEASE = "a visit that leases passes the wake on, there may be more room"
    EMPTY_NODES_STAY = "an emptied partition stays where it is until its visit"
    LANE_PASSES_ON_ITS_SCOUTS = "a lane that leaves the ring passes on the wakes of the scouts inside it"
    SETTLE_ON_EXPIRY = "a lease that runs out makes room as any other end does"
    SETTLE_ON_RAISE = "a raised cap makes room"
    LET_OUT_ON_REMOVAL = "who waits for a limit that is removed is let out, nobody will ever release it"
    SKIP_LANES_THAT_CANNOT_BE_SERVED = "waking goes on until it has woken a lane that can be served"
    LOOK_AT_THE_OWN_CAP = "who is woken must have room under the cap of its own function"
    REARM_THE_THROTTLE = "while anybody waits for a throttle it has a timer"
    FORGET_THE_OLD_PACE = "a throttle that has become faster is waited for by its new pace"
    STALE_LANES_HAVE_NO_LIMITS = "a visit of a stale lane looks at no limit"
    LET_OUT_ON_OTHER_KEYS = "who waits in a stale lane is let out when the keys change"
    PASS_ON_AFTER_A_STALE_LEASE = "a visit that leases to key again passes the wake on, it uses no room"
    JOIN_BY_PRIORITY = "with priorities, a partition's turn is by its first item: its time less its priority"
    MOVE_UP = "an item that becomes the first of a partition in the ring moves its turn forward"


Op: TypeAlias = tuple[str | int | None, ...]
"""An operation: ("add", partition [, boost]), ("lease",), ("done"|"expire"|"cancel", n-th item),
("rekey", n-th item, partition, boost), ("hold", fn, lanes: "", "s", "t" or "st"), ("sig", fn, signature),
("cap", fn, def, value or None [, burst of a throttle]), ("tick", ms)."""

TURNS_A_MS = 1024
"""Those who join rings within one millisecond do so this much of it apart."""


class BrokenError(AssertionError):
    """A promise of the scheduler does not hold."""
