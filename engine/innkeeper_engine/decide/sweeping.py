"""Cancellations of many runs: which they cover, and the end of those. Pure; executors go through the runs in pages."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from innkeeper_engine.cel import ExpressionError, compile_expression
from innkeeper_engine.compiled import CompiledCancellation, Registry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.events import event_object
from innkeeper_engine.decide.notes import cancel_note
from innkeeper_engine.model.effects import Cancel, Effect


class LiveRun(NamedTuple):
    """A run that had not ended when its page was read."""

    run: str
    made_ms: int
    """When it was made: its event was received, or it was written."""
    body: bytes | None = b""
    """Its first event; asked for only where `needs_events`. None: it cannot be read, and no condition holds for it."""


def in_force(registry: Registry, cancellation_id: str) -> CompiledCancellation | None:
    """The cancellation, if it still has something to say; None where it is to be forgotten.

    That is one that was deleted, one for a function that was gone and has come back, and one whose condition this
    version cannot read.
    """
    config = registry.cancellations.get(cancellation_id)
    if config is None or (config.why == "function" and config.slug in registry.functions):
        return None
    try:
        condition = compile_expression(config.expression) if config.expression else None
    except ExpressionError:
        return None
    return CompiledCancellation(config, condition)


def needs_events(cancellation: CompiledCancellation) -> bool:
    """Whether it depends on the first events of runs which of them it covers."""
    return cancellation.condition is not None


def in_window(cancellation: CompiledCancellation, made_ms: int) -> bool:
    """Whether a run that was made then is in the cancellation's window: its end is no part of it."""
    return cancellation.config.after_ms <= made_ms < cancellation.config.before_ms


def covers(cancellation: CompiledCancellation, made_ms: int, event: Mapping[str, Any]) -> bool:
    """Whether a run that was made at `made_ms` with this first event is cancelled.

    A condition that is not true, or that gives nothing for the event, spares the run.
    """
    if not in_window(cancellation, made_ms):
        return False
    return cancellation.condition is None or cancellation.condition.matches({"event": event})


def sweep_effects(
    cancellation: CompiledCancellation, runs: Iterable[LiveRun], context: Context
) -> list[Effect]:
    """The ends of those runs of a page that the cancellation covers: one effect each."""
    config = cancellation.config
    if config.why == "function":
        note = cancel_note("function", context.now_ms, function=config.slug)
    else:
        note = cancel_note("bulk", context.now_ms, cancellation=config.id)
    wants_event = needs_events(cancellation)
    return [
        Cancel(run, (context.new_id(), context.new_id()), note)
        for run, made_ms, body in runs
        if body is not None and covers(cancellation, made_ms, event_object(body) if wants_event else {})
    ]
