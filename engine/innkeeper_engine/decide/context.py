"""What a decision may look at besides the run: all of it given, nothing fetched."""

from collections.abc import Callable
from typing import Any

import msgspec

from innkeeper_engine.compiled import Registry
from innkeeper_engine.decide.retries import RetryPolicy
from innkeeper_engine.model.calls import Op

DAY_MS = 86_400_000
STEPS_SETTING = "INNKEEPER_MAX_STEPS of gateways and executors, 10000 at most"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The most that one run may use (https://www.inngest.com/docs/usage-limits/inngest)."""

    steps: int = 1_000
    state_bytes: int = 32 * 1024 * 1024
    wait_ms: int = 366 * DAY_MS
    invoked_bytes: int = 3 * 1024 * 1024
    """The event of an invoke: as large as any event can be allowed to be."""
    invoke_ms: int = 365 * DAY_MS
    """How long an invoked function may take where the app says nothing."""


class Context(msgspec.Struct, kw_only=True):
    """The surroundings of one decision."""

    now_ms: int
    chance: float
    """In [0, 1): picks the jitter of a retry."""
    new_id: Callable[[], str]
    """ULIDs for events."""
    canonical: Callable[[Any], bytes]
    """Decoded JSON to its canonical form (RFC 8785)."""
    seal: Callable[[Op], bytes]
    """The request of a fetch, prepared and encrypted. Raises ValueError with a sentence where it cannot be made."""
    registry: Registry
    policy: RetryPolicy = RetryPolicy()
    limits: Limits = Limits()
