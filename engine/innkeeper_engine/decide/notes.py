"""Lines of a run's history, as JSON. They tell what happened; payloads stay where they are, under the step's id."""

from typing import Any

import orjson

from innkeeper_engine.model.calls import Op, OpKind
from innkeeper_engine.model.clock import is_ulid, ulid_ms
from innkeeper_engine.model.decoding import shown
from innkeeper_engine.model.effects import Note
from innkeeper_engine.model.state import Lease

_DONE_BY_APPS = frozenset({OpKind.STEP_RUN, OpKind.STEP, OpKind.STEP_ERROR, OpKind.STEP_FAILED})
"""What an app has run when it tells of it. Anything else begins when it is told of."""
_LONGEST_MS = 2 * 3_600_000
"""A request to an app takes no longer."""
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
    return step_line(
        lease.run,
        op,
        status,
        now_ms,
        attempt=lease.attempt,
        error=error,
        event=event,
        asked_ms=request_began_ms(lease.token),
    )


def step_line(
    run: str,
    op: Op,
    status: str,
    now_ms: int,
    *,
    attempt: int = 0,
    error: dict[str, Any] | None = None,
    event: str = "",
    asked_ms: int | None = None,
) -> Note:
    """What became of one step, where there is no lease to tell the run and the attempt.

    `asked_ms`: when the request began that brought it; what the step did, it did since then. `args` says how many
    arguments the SDK gave the step's function, where it gave any: a rerun may edit those.
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
    if op.kind in _DONE_BY_APPS:
        line |= _times(op, asked_ms, now_ms)
    arguments = op.opts.get("input")
    if isinstance(arguments, list):
        line["args"] = len(arguments)
    if error:
        line["error"] = _brief(error)
    if event:
        line["event"] = event
    return Note(run, orjson.dumps(line))


def request_began_ms(token: str) -> int | None:
    """When a request began, by its token; None where that is no ULID."""
    return ulid_ms(token) if is_ulid(token) else None


def _times(op: Op, asked_ms: int | None, now_ms: int) -> dict[str, int]:
    """When a step that an app ran began and, where that is known, ended.

    By the app's word where its clock fits ours; else it has ended now and took as long as the app says, or as the
    request.
    """
    earliest_ms = now_ms - _LONGEST_MS if asked_ms is None else min(asked_ms, now_ms)
    if op.timing is None:
        return {} if asked_ms is None else {"started": earliest_ms}
    started_ms, took_ms = op.timing[0] // 1_000_000, op.timing[1] // 1_000_000
    ended_ms = started_ms + took_ms
    if earliest_ms <= started_ms and ended_ms <= now_ms:
        return {"started": started_ms, "ended": ended_ms}
    return {"started": max(earliest_ms, now_ms - took_ms)}


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
