"""How a run begins: its identity, its place in the queue, what cancels it."""

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from innkeeper_engine.cel import bind
from innkeeper_engine.compiled import FunctionEntry
from innkeeper_engine.decide.notes import skip_note
from innkeeper_engine.model.effects import CancelOn, Skip, Start

CANCEL_TIMEOUT_MS = 365 * 86_400_000
"""How long a cancellation rule without a timeout holds."""

SILENT_TRIGGERS = frozenset(
    {"inngest/function.finished", "inngest/function.failed", "inngest/function.cancelled"}
)
"""Runs that such an event starts do not announce their own end, or a failing failure handler would go on for ever."""


PAUSED_REPLY = b'{"error":{"message":"invoked function is paused","name":"Error"}}'
"""The result of a step that invoked a paused function: an error that the function may catch."""


def start_partition(fn: str) -> str:
    """Where first requests of a function's runs queue."""
    return f"{fn}\x01s"


def step_partition(fn: str) -> str:
    """Where all further requests of a function's runs queue."""
    return f"{fn}\x01t"


def start_effect(
    entry: FunctionEntry,
    *,
    run_id: str,
    event: Mapping[str, Any],
    events: tuple[tuple[str, bytes], ...],
    event_seq: int,
    order_ms: int,
    due_ms: int = 0,
    parent: str = "",
    idempotency: str = "",
    cron: str = "",
) -> Start:
    """A run of this function.

    `event` is the decoded first of `events` (id, canonical body or empty for a stored one); `event_seq` its number in
    the environment: only later events cancel. `due_ms` in the future puts the first request off.
    """
    return Start(
        run=run_id,
        env=entry.env,
        fn=entry.key,
        slug_json=orjson.dumps(entry.config.slug),
        app=entry.app.id,
        events=events,
        start_partition=start_partition(entry.key),
        step_partition=step_partition(entry.key),
        order=order_ms,
        due_ms=due_ms,
        cancels=_cancels(entry, run_id, event, event_seq, max(order_ms, due_ms)),
        parent=parent,
        idempotency=idempotency,
        announces=event.get("name") not in SILENT_TRIGGERS,
        cron=cron,
        retries=entry.config.retries,
    )


def unless_paused(start: Start, entry: FunctionEntry, now_ms: int) -> Start | Skip:
    """The run, or that it is skipped: its function is paused, and what it would start meanwhile is not wanted later.

    With `new_runs` Queue, and in a paused app, the run begins and waits in its queue.
    """
    if entry.app.paused or not entry.config.paused or entry.config.new_runs == "Queue":
        return start
    return Skip(
        run=start.run,
        env=start.env,
        fn=start.fn,
        app=start.app,
        events=tuple(event_id for event_id, _ in start.events),
        idempotency=start.idempotency,
        cron=start.cron,
        note=skip_note("paused", now_ms),
        parent=start.parent,
        reply=PAUSED_REPLY,
    )


def _cancels(
    entry: FunctionEntry, run_id: str, event: Mapping[str, Any], after: int, start_ms: int
) -> tuple[CancelOn, ...]:
    found = []
    for n, rule in enumerate(entry.cancels):
        path, value, condition = "", "", b""
        if rule.condition is not None:
            bound = bind(rule.condition, event)
            if bound.never:
                continue
            if bound.index is not None:
                path, value = bound.index
            condition = msgspec.json.encode(bound.dump())
        deadline_ms = start_ms + (rule.timeout_ms if rule.timeout_ms is not None else CANCEL_TIMEOUT_MS)
        found.append(CancelOn(f"{run_id}.c{n}", rule.event, path, value, after, deadline_ms, condition))
    return tuple(found)
