"""What must still hold when a decision is carried out, as data: the store's `apply` script checks it first."""

from typing import NamedTuple, TypeAlias


class LeaseGuard(NamedTuple):
    """This lease is the item's, and no checkpoint came after `seen`. The item ends unless an effect retries it."""

    item: str
    token: str
    seen: int
    outcome: str = ""
    """How the request has ended, to be counted: success, errored (it comes again) or failed; empty: as effects show."""


class KeepGuard(NamedTuple):
    """This lease is the item's, and stays. `generation` 0: not asked.

    It is extended to `extend_ms` from now, or to the length that its executor asked for where that is less; 0 leaves it.
    """

    item: str
    token: str
    extend_ms: int = 0
    generation: int = 0


class CursorGuard(NamedTuple):
    """The router's cursor is still here; it moves by `routed` events and to position `then` in the one after."""

    env: str
    at: int
    within: str
    routed: int
    then: str = ""


class LiveGuard(NamedTuple):
    """The run has not ended."""

    run: str


class CronGuard(NamedTuple):
    """The cron is still armed for this slot."""

    cron: str
    slot_ms: int


class GatherGuard(NamedTuple):
    """A debounce or batch that was closed has not started its run; it is gone afterwards."""

    gathered: str


class SweepGuard(NamedTuple):
    """A cancellation's sweep is still at this revision, which rises."""

    env: str
    id: str
    revision: int


class ReplayGuard(NamedTuple):
    """A replay is still at this revision, which rises."""

    env: str
    id: str
    revision: int


class KeptGuard(NamedTuple):
    """So many results of a run are kept, and their order; else the answer is `gone`."""

    run: str
    results: int


class HistoryGuard(NamedTuple):
    """The recorder's cursor is still here; it moves in the same script."""

    at: str
    then: str


class NoGuard(NamedTuple):
    """Effects that carry all of their own conditions."""


Guard: TypeAlias = (
    LeaseGuard
    | KeepGuard
    | CursorGuard
    | LiveGuard
    | CronGuard
    | GatherGuard
    | SweepGuard
    | ReplayGuard
    | KeptGuard
    | HistoryGuard
    | NoGuard
)

GUARD_TAGS: dict[type[Guard], str] = {
    LeaseGuard: "lease",
    KeepGuard: "keep",
    CursorGuard: "cursor",
    LiveGuard: "live",
    CronGuard: "cron",
    GatherGuard: "gather",
    SweepGuard: "sweep",
    ReplayGuard: "replay",
    KeptGuard: "kept",
    HistoryGuard: "history",
    NoGuard: "none",
}
