"""How a run begins: its identity, its place in the queue, what cancels it."""

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from innkeeper_engine.cel import bind
from innkeeper_engine.compiled import FunctionEntry
from innkeeper_engine.limits import Queued, queued
from innkeeper_engine.model.effects import CancelOn, Ids2, Right, Start

CANCEL_TIMEOUT_MS = 365 * 86_400_000
"""How long a cancellation rule without a timeout holds."""

SILENT_TRIGGERS = frozenset(
    {"inngest/function.finished", "inngest/function.failed", "inngest/function.cancelled"}
)
"""Runs that such an event starts do not announce their own end, or a failing failure handler would go on for ever."""


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
    place: Queued | None = None,
    rights: tuple[Right, ...] = (),
    ids: Ids2 = ("", ""),
    made_ms: int = 0,
) -> Start:
    """A run of this function, without asking whether it may start: `decide.flow` does.

    `event` is the decoded first of `events` (id, canonical body or empty for a stored one); `event_seq` its number in
    the environment: only later events cancel. `order_ms`: since when the run is wanted; `due_ms` in the future puts the
    first request off. `place`: where it queues, if that is known already. `ids` are for its end by a timeout.
    `made_ms`: when cancellations of many runs take it to be made; 0: as it is written.
    """
    if place is None:
        place = queued(entry.queueing, event)
    wanted_ms = max(order_ms, due_ms) if due_ms else order_ms
    config = entry.config
    timeouts = config.timeouts
    # By position, in the order of the fields: every event comes by here, and names cost as much as all the rest.
    return Start(
        run_id,
        entry.env,
        entry.key,
        orjson.dumps(config.slug),
        entry.app.id,
        events,
        place.start_partition,
        place.step_partition,
        wanted_ms - place.boost_ms,
        due_ms,
        _cancels(entry, run_id, event, event_seq, wanted_ms) if entry.cancels else (),
        parent,
        idempotency,
        event.get("name") not in SILENT_TRIGGERS,
        cron,
        config.retries,
        rights,
        (timeouts.start_ms or 0) if timeouts else 0,
        (timeouts.finish_ms or 0) if timeouts else 0,
        ids,
        place.boost_ms,
        made_ms,
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
