"""Lines of a run's history, as JSON. They tell what happened; payloads stay where they are, under the step's id."""

from typing import Any

import orjson

from innkeeper_engine.model.calls import Op
from innkeeper_engine.model.decoding import shown
from innkeeper_engine.model.effects import Note
from innkeeper_engine.model.state import Lease

_MOST_NAME = 500
_MOST_MESSAGE = 2_000
"""Characters of a name and of a message in a note: the whole of them is in the payload."""


def step_note(
    lease: Lease,
    op: Op,
    status: str,
    now_ms: int,
    error: dict[str, Any] | None = None,
    *,
    event: str = "",
) -> Note:
    """What became of one step of a leased item: Completed, Failed, Retrying or Waiting.

    `event`: the id of the event by which the step invokes a function.
    """
    return step_line(lease.run, op, status, now_ms, attempt=lease.attempt, error=error, event=event)


def step_line(
    run: str,
    op: Op,
    status: str,
    now_ms: int,
    *,
    attempt: int = 0,
    error: dict[str, Any] | None = None,
    event: str = "",
) -> Note:
    """What became of one step, where there is no lease to tell the run and the attempt.

    `args` says how many arguments the SDK gave the step's function, where it gave any: a rerun may edit those.
    """
    line: dict[str, Any] = {
        "t": now_ms,
        "type": "step",
        "id": op.id,
        "name": shown(op.display_name or op.name, _MOST_NAME),
        "op": op.kind.value,
        "status": status,
        "attempt": attempt,
    }
    arguments = op.opts.get("input")
    if isinstance(arguments, list):
        line["args"] = len(arguments)
    if error:
        line["error"] = _brief(error)
    if event:
        line["event"] = event
    return Note(run, orjson.dumps(line))


def attempt_note(lease: Lease, reason: str, now_ms: int, error: dict[str, Any], retry_ms: int | None) -> Note:
    """A request that failed as a whole, and when the next one is (None: there is none)."""
    line = {
        "t": now_ms,
        "type": "attempt",
        "attempt": lease.attempt,
        "reason": shown(reason, _MOST_MESSAGE),
        "error": _brief(error),
        "retry": retry_ms,
    }
    return Note(lease.run, orjson.dumps(line))


def cancel_note(why: str, now_ms: int, **details: str) -> bytes:
    """Why a run was cancelled."""
    return orjson.dumps({"t": now_ms, "type": "cancelled", "why": why, **details})


def skip_note(why: str, now_ms: int, **details: str) -> bytes:
    """Why a run was recorded and did not begin."""
    return orjson.dumps({"t": now_ms, "type": "skipped", "why": why, **details})


def key_note(run: str, option: str, consequence: str, now_ms: int) -> Note:
    """An expression of an option that gives nothing for the run's event, and what that means for the run."""
    line = {"t": now_ms, "type": "key", "option": option, "consequence": consequence}
    return Note(run, orjson.dumps(line))


def is_cancelled(note: bytes) -> bool:
    """Whether a note tells of a cancellation."""
    line = orjson.loads(note)
    return isinstance(line, dict) and line.get("type") == "cancelled"


def why_skipped(note: bytes) -> str | None:
    """Why a run was recorded and did not begin; None for a note that tells of something else."""
    line = orjson.loads(note)
    return str(line.get("why")) if isinstance(line, dict) and line.get("type") == "skipped" else None


def _brief(error: dict[str, Any]) -> dict[str, str]:
    """An error's name and message."""
    name, message = str(error.get("name") or "Error"), str(error.get("message") or "")
    return {"name": shown(name, _MOST_NAME), "message": shown(message, _MOST_MESSAGE)}
