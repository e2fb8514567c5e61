"""One request to an app and what came back, free of HTTP: the engine's side of the SDK protocol.

JSON that the engine only passes on stays bytes, in canonical form (RFC 8785), so that a request body can be
joined from stored pieces and signed as it is.
"""

import enum
from typing import Any, Literal

import msgspec

from innkeeper_engine.model.reach import Reach

DISCOVER = "step"
"""The step id that means: run the function from the top."""


class OpKind(enum.StrEnum):
    """What an SDK can ask for in a 206 response."""

    STEP_RUN = "StepRun"
    STEP = "Step"
    STEP_ERROR = "StepError"
    STEP_FAILED = "StepFailed"
    STEP_PLANNED = "StepPlanned"
    SLEEP = "Sleep"
    WAIT_FOR_EVENT = "WaitForEvent"
    INVOKE_FUNCTION = "InvokeFunction"
    WAIT_FOR_SIGNAL = "WaitForSignal"
    GATEWAY = "Gateway"
    AI_GATEWAY = "AIGateway"
    RUN_COMPLETE = "RunComplete"
    DISCOVERY_REQUEST = "DiscoveryRequest"
    NONE = "None"


class Op(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a 206 response."""

    id: str
    """Hashed step id (40 hex digits)."""
    kind: OpKind
    name: str = ""
    display_name: str = ""
    opts: dict[str, Any] = {}
    """Decoded; null options are left out."""
    data: bytes | None = None
    """Canonical JSON of the result, None where the op carries none."""
    error: bytes | None = None
    """Canonical JSON of `{name, message, stack?, data?, cause?}`, for StepError and StepFailed."""
    timing: tuple[int, int] | None = None
    """When the step began by the app's clock, ns since the epoch, and how many ns it took; None where it is not told."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one call to an app came back with."""

    kind: Literal["ops", "output", "error"]
    ops: tuple[Op, ...] = ()
    """For `ops`."""
    output: bytes | None = None
    """For `output`: canonical JSON of the function's return value."""
    error: bytes | None = None
    """For `error`: canonical JSON of at least `{name, message}`; other keys that the SDK sent are kept."""
    reason: str = ""
    """For `error`: one sentence of this server's, e.g. `invalid status code: 500` or `connection refused`."""
    no_retry: bool | None = None
    """The header x-inngest-no-retry; None where it was absent."""
    retry_at_ms: int | None = None
    """Retry-After as an instant, within 1 s to 24 h from now; None where it was absent."""
    version: int | None = None
    """x-inngest-req-version: the SDK's execution version."""
    status: int = 0
    """HTTP status (the inner one of a streamed reply); 0 where no response came."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request to an app."""

    url: str
    """The function's registered URL; `stepId` in it is replaced by `step_id`."""
    slug: str
    fn_uuid: str
    run_id: str
    step_id: str = DISCOVER
    """`step`, or the hashed id of the one planned step that shall run."""
    attempt: int = 0
    """Zero-based, per queue item."""
    max_attempts: int = 5
    item_id: str
    """Queue item; job id and, encoded, queue item id on the wire."""
    request_id: str
    """ULID, new per request; also the lease's token."""
    generation: int = 1
    """Counts the dispatches of the item, from 1."""
    version: int = -1
    """The execution version stored with the run; -1 before the first answer with ops."""
    plan_only: bool = False
    """`disable_immediate_execution`: steps are to be planned, not run."""
    use_api: bool = False
    """State is too large to send: the SDK fetches it."""
    stack: tuple[str, ...] = ()
    """Step ids in the order in which they completed."""
    steps: dict[str, bytes] = {}
    """Memoised results by hashed step id, canonical JSON in wire shape."""
    events: tuple[bytes, ...]
    """Canonical JSON of the run's events, the first one first."""
    env: str = ""
    traceparent: str = ""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """How to talk to an app: the keys that sign requests to it (none in dev mode), and where it may be."""

    signing_key: str | None = None
    signing_key_fallback: str | None = None
    reach: Reach = Reach()

    def __repr__(self) -> str:
        """How many keys there are, never a key."""
        keys = sum(key is not None for key in (self.signing_key, self.signing_key_fallback))
        return f"Target(keys={keys})"

    __str__ = __repr__

    def __rich_repr__(self) -> Any:
        yield repr(self)
