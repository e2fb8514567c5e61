"""What one executor process may be told."""

import msgspec

from innkeeper_engine.decide.context import Limits
from innkeeper_engine.decide.retries import RetryPolicy


class ExecutorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How an executor works. Lease length is the store's (`StoreSettings.lease_ms`)."""

    capacity: int = 256
    """Requests in flight at most."""
    beat_ms: int = 10_000
    """Between two heartbeats; a third of the lease at most."""
    grace_s: float = 25.0
    """How long requests in flight may go on after `drain`."""
    request_timeout_s: float = 2 * 3600.0
    policy: RetryPolicy = RetryPolicy()
    limits: Limits = Limits()
    route_batch: int = 128
    """Events routed in one go at most."""
    lost_leases: int = 3
    """An item whose lease expired so often has used up an attempt: its request may be what ends executors."""
