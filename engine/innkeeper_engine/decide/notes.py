"""Lines of a run's history, as JSON. They tell what happened; payloads stay where they are, under the step's id."""

from typing import Any

import orjson

from innkeeper_engine.model.calls import Op
from innkeeper_engine.model.effects import Note
from innkeeper_engine.model.state import Lease


def step_note(lease: Lease, op: Op, status: str, now_ms: int, error: dict[str, Any] | None = None) -> Note:
    """What became of one step: Completed, Failed, Retrying or Waiting."""
    line: dict[str, Any] = {
        "t": now_ms,
        "type": "step",
        "id": op.id,
        "name": op.display_name or op.name,
        "op": op.kind.value,
        "status": status,
        "attempt": lease.attempt,
    }
    if error:
        line["error"] = {"name": error.get("name"), "message": error.get("message")}
    return Note(lease.run, orjson.dumps(line))


def attempt_note(lease: Lease, reason: str, now_ms: int, error: dict[str, Any], retry_ms: int | None) -> Note:
    """A request that failed as a whole, and when the next one is (None: there is none)."""
    line = {
        "t": now_ms,
        "type": "attempt",
        "attempt": lease.attempt,
        "reason": reason,
        "error": {"name": error.get("name"), "message": error.get("message")},
        "retry": retry_ms,
    }
    return Note(lease.run, orjson.dumps(line))


def cancel_note(why: str, now_ms: int, **details: str) -> bytes:
    """Why a run was cancelled."""
    return orjson.dumps({"t": now_ms, "type": "cancelled", "why": why, **details})
