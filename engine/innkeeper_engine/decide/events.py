"""Events as decisions look at them."""

import hashlib
from collections.abc import Mapping
from typing import Any

from innkeeper_engine.model.decoding import decoded

LATEST_MS = 4_102_444_800_000
"""1 January 2100: no run is put off beyond."""


def event_object(body: bytes) -> dict[str, Any]:
    """An event as expressions see it; empty where it is none, so that no event can stop anybody."""
    try:
        event = decoded(body)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def future_ms(event: Mapping[str, Any], now_ms: int) -> int:
    """The event's `ts` where it lies ahead, up to the year 2100; else 0."""
    at_ms = event.get("ts")
    if isinstance(at_ms, (int, float)) and now_ms < at_ms <= LATEST_MS:
        return int(at_ms)
    return 0


def sender_key(fn: str, event: Mapping[str, Any], event_id: str) -> str:
    """What makes an event whose sender chose its id start the function `fn` once in 24 h; empty where none was chosen."""
    own = event.get("id")
    if not isinstance(own, str) or own == event_id:
        return ""
    return f"{fn}:{hashlib.sha256(own.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
