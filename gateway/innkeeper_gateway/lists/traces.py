"""A run's history as a tree: the run, its steps, the attempts of each, the runs that it invoked. Pure.

For the notes of a history see `innkeeper_gateway.steps`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from innkeeper_engine.model.state import RunSummary
from innkeeper_engine.model.times import rfc3339
from innkeeper_gateway.steps import StepTrace, fold_steps, step_view
from innkeeper_gateway.views import ENDED

Error = dict[str, Any]


class Attempt(msgspec.Struct, frozen=True):
    """A request that failed and was made again, or was the last."""

    number: int
    """Zero-based."""
    at_ms: int
    error: Error | None
    retry_ms: int | None = None
    """When it was to be made again."""
    started_ms: int | None = None
    """None: nobody knows."""


class TracedStep(msgspec.Struct):
    """What the notes say of one step."""

    step: StepTrace
    attempts: list[Attempt]
    event: str = ""
    """The event by which it invoked another function."""


def fold_trace(notes: Sequence[bytes]) -> tuple[dict[str, TracedStep], list[Attempt]]:
    """The steps by id, in the order in which they were first heard of; and requests that failed as a whole."""
    steps = {step.id: TracedStep(step, []) for step in fold_steps(notes)}
    attempts: list[Attempt] = []
    for line in notes:
        try:
            note = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if not isinstance(note, dict) or not isinstance(note.get("t"), int):
            continue
        traced = steps.get(str(note.get("id") or ""))
        if note.get("type") == "attempt" and traced is None:
            attempts.append(_attempt(note))
        elif traced is not None and note.get("status") == "Retrying":
            traced.attempts.append(_attempt(note))
        if traced is not None and isinstance(note.get("event"), str):
            traced.event = note["event"]
    return steps, attempts


def invoked_events(steps: Iterable[TracedStep]) -> dict[str, str]:
    """The events by which steps invoked functions, by the step's id."""
    return {traced.step.id: traced.event for traced in steps if traced.event}


def trace_view(
    run: RunSummary,
    steps: Iterable[TracedStep],
    attempts: Sequence[Attempt],
    results: Mapping[str, bytes | None],
    invoked: Mapping[str, Sequence[RunSummary]],
    output: bytes | None,
    *,
    payloads: bool,
) -> dict[str, Any]:
    """The tree.

    Args:
        run: whose it is.
        steps: its steps.
        attempts: its requests that failed as a whole.
        results: memoised results, by step id.
        invoked: the runs that a step invoked, by step id.
        output: what the run returned, or its error.
        payloads: whether outputs and errors are shown.
    """
    view = _run_view(run)
    if output is not None and payloads:
        view["output"] = orjson.Fragment(output)
    children = [_attempt_view(each, payloads) for each in attempts]
    children += [
        _step_view(
            each,
            results.get(each.step.id),
            invoked.get(each.step.id, ()),
            run_ended=run.status in ENDED,
            payloads=payloads,
        )
        for each in steps
    ]
    # What the run began with comes first; that of which nothing says when it began last, in its order.
    children.sort(
        key=lambda child: ("inherited" not in child, child["started_at"] is None, child["started_at"] or "")
    )
    view["children"] = children
    return view


def _run_view(run: RunSummary) -> dict[str, Any]:
    return {
        "kind": "run",
        "run_id": run.id,
        "function_slug": run.slug,
        "app_id": run.app,
        "status": run.status,
        "queued_at": rfc3339(run.queued_ms),
        **_times(run.started_ms, run.ended_ms),
        "children": [],
    }


def _step_view(
    traced: TracedStep,
    result: bytes | None,
    invoked: Sequence[RunSummary],
    *,
    run_ended: bool,
    payloads: bool,
) -> dict[str, Any]:
    step = traced.step
    known = step_view(step, result, run_ended=run_ended)
    view = {
        "kind": "step",
        **{name: known[name] for name in ("id", "name", "op", "status", "attempts")},
        **_times(step.started_ms, step.ended_ms),
    }
    if step.inherited:
        view["inherited"] = True
    if payloads:
        view |= {name: known[name] for name in ("output", "error") if name in known}
    children = [_attempt_view(each, payloads) for each in traced.attempts]
    view["children"] = children + [_run_view(run) for run in invoked]
    return view


def _attempt(note: dict[str, Any]) -> Attempt:
    number, error, retry = note.get("attempt"), note.get("error"), note.get("retry")
    started = note.get("started")
    return Attempt(
        number if isinstance(number, int) else 0,
        note["t"],
        error if isinstance(error, dict) else None,
        retry if isinstance(retry, int) else None,
        started if isinstance(started, int) else None,
    )


def _attempt_view(attempt: Attempt, payloads: bool) -> dict[str, Any]:
    view: dict[str, Any] = {
        "kind": "attempt",
        "attempt": attempt.number,
        "status": "Failed",
        **_times(attempt.started_ms, attempt.at_ms),
        "retry_at": None if attempt.retry_ms is None else rfc3339(attempt.retry_ms),
        "children": [],
    }
    if payloads and attempt.error is not None:
        view["error"] = attempt.error
    return view


def _times(started_ms: int | None, ended_ms: int | None) -> dict[str, Any]:
    return {
        "started_at": None if started_ms is None else rfc3339(started_ms),
        "ended_at": None if ended_ms is None else rfc3339(ended_ms),
        "duration_ms": None if started_ms is None or ended_ms is None else ended_ms - started_ms,
    }
