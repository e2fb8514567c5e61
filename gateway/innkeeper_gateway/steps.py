"""A run's steps from its history: the notes of one step folded into one entry; and what concerns the run itself. Pure.

A note is a line of JSON, `{"t": ms, "type": ..., "id": step, "name", "op", "status", "attempt", "started", "ended",
"error"}`, of which any field but `type` and `id` may be missing. Notes of other types, notes without a step, and lines
that are no JSON object are left out: history is for reading, and another version may write what this one does not know.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import orjson

from innkeeper_engine.model.times import rfc3339

_TYPES: Final = frozenset({"step", "attempt", "plan"})
_OF_THE_RUN: Final = frozenset({"attempt", "cancelled", "key", "rerun", "skipped", "stuck"})
_ENDED: Final = frozenset({"Completed", "Failed"})
_VERBATIM: Final = frozenset({"Step", "Sleep", "WaitForEvent"})
"""Operations whose memoised result is what the function sees; that of others is wrapped: `{"data"|"error": ...}`."""


class StepTrace(msgspec.Struct):
    """What the notes say of one step."""

    id: str
    name: str = ""
    op: str = ""
    status: str = ""
    attempt: int = 0
    """Zero-based, the latest."""
    started_ms: int | None = None
    began: bool = False
    """A note says when it began; else that is when it was heard of."""
    ended_ms: int | None = None
    error: dict[str, Any] | None = None
    has_arguments: bool = False
    """Its function is given arguments of its own, which a rerun may edit."""
    inherited: bool = False
    """The run began with its result: it is a rerun from a later step."""


def fold_steps(notes: Iterable[bytes]) -> list[StepTrace]:
    """The steps that the notes tell of, in the order in which they were first heard of."""
    steps: dict[str, StepTrace] = {}
    for line in notes:
        try:
            note = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(note, dict) and note.get("type") == "inherited":
            _inherit(steps, note)
        if not isinstance(note, dict) or note.get("type") not in _TYPES:
            continue
        step_id = note.get("id")
        if isinstance(step_id, str) and step_id:
            _fold(steps.setdefault(step_id, StepTrace(step_id)), note)
    return list(steps.values())


def _inherit(steps: dict[str, StepTrace], note: dict[str, Any]) -> None:
    listed = note.get("steps")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, list) and len(entry) == 3 and all(isinstance(text, str) for text in entry):
            step_id, name, op = entry
            steps.setdefault(step_id, StepTrace(step_id, name, op, inherited=True))


def _fold(step: StepTrace, note: dict[str, Any]) -> None:
    at = _number(note.get("t"))
    _begin(step, at, _number(note.get("started")))
    step.name = _text(note.get("name")) or step.name
    step.op = _text(note.get("op")) or step.op
    step.has_arguments = step.has_arguments or bool(_number(note.get("args")))
    step.attempt = max(step.attempt, _number(note.get("attempt")) or 0)
    status = _text(note.get("status"))
    if not status or step.status in _ENDED:
        return
    step.status = status
    error = note.get("error")
    step.error = error if isinstance(error, dict) else None
    if status in _ENDED:
        ended = _number(note.get("ended"))
        step.ended_ms = at if ended is None else ended


def _begin(step: StepTrace, at: int | None, started: int | None) -> None:
    """When it began: the first that is said to be its beginning or, while nothing is, when it was first heard of."""
    first = at if started is None else started
    if first is None or (step.began and started is None):
        return
    is_first = step.started_ms is None or (started is not None and not step.began) or first < step.started_ms
    if is_first:
        step.started_ms = first
    step.began = step.began or started is not None


def step_view(step: StepTrace, result: bytes | None, *, run_ended: bool) -> dict[str, Any]:
    """One entry of `steps`, as the API shows it.

    Args:
        step: what the notes say.
        result: the step's memoised result (JSON in wire shape), None while there is none. It decides where it and
            the notes disagree: the end of a sleep or of a wait is not always noted.
        run_ended: a step without a result in a run that has ended was cancelled with it.
    """
    status = step.status
    output: Any = None
    error: Any = step.error
    if result is not None:
        kind, payload = _unwrap(step.op, result)
        if kind == "error":
            status, error = "Failed", orjson.Fragment(payload)
        else:
            status, error, output = "Completed", None, orjson.Fragment(payload)
    elif run_ended and status not in _ENDED:
        status = "Cancelled"
    view: dict[str, Any] = {
        "id": step.id,
        "name": step.name,
        "op": step.op,
        "status": status,
        "attempts": step.attempt + 1,
        "started_at": None if step.started_ms is None else rfc3339(step.started_ms),
        "ended_at": None if step.ended_ms is None else rfc3339(step.ended_ms),
    }
    if step.inherited:
        view["inherited"] = True
    if output is not None:
        view["output"] = output
    if error is not None:
        view["error"] = error
    return view


def step_views(
    steps: Iterable[StepTrace], results: Mapping[str, bytes | None], *, run_ended: bool
) -> list[dict[str, Any]]:
    """All entries of `steps`; `results` by step id."""
    return [step_view(step, results.get(step.id), run_ended=run_ended) for step in steps]


def run_notes(notes: Iterable[bytes]) -> list[dict[str, Any]]:
    """What the notes say of the run as a whole, in their order: `[{"at", "type", ...}]`.

    `type`: `skipped` or `cancelled`, with `why`; `rerun`, `of` which run it is one, `from_step` where it did not
    begin from the top (`edited` where with other input), and the `replay` that wanted it; `key`, an `option` whose
    expression gave nothing for the run's event, and its `consequence`; `attempt`, a request that failed as a whole,
    with `attempt`, `reason`, `error` and `retry_at`.
    """
    found = []
    for line in notes:
        try:
            note = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(note, dict) and note.get("type") in _OF_THE_RUN and not note.get("id"):
            found.append(_run_note(note))
    return found


def _run_note(note: dict[str, Any]) -> dict[str, Any]:
    at, retry_ms = _number(note.pop("t", None)), _number(note.pop("retry", None))
    view = {"at": None if at is None else rfc3339(at), "type": note.pop("type"), **note}
    if view["type"] == "attempt":
        view["retry_at"] = None if retry_ms is None else rfc3339(retry_ms)
    return view


def _unwrap(op: str, result: bytes) -> tuple[str, bytes]:
    """What a memoised result holds. The wrappers are canonical JSON with one key, so cutting them off is exact."""
    if op not in _VERBATIM and result.endswith(b"}"):
        for kind in ("data", "error"):
            head = b'{"%b":' % kind.encode()
            if result.startswith(head):
                return kind, result[len(head) : -1]
    return "data", result


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
