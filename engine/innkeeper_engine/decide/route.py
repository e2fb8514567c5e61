"""What an event does: it cancels, then resumes, then starts. Pure; the router carries it out under its cursor."""

import functools
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from innkeeper_engine.cel import Bound, index_value
from innkeeper_engine.compiled import FunctionEntry, Registry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.notes import cancel_note
from innkeeper_engine.decide.runs import start_effect, unless_paused
from innkeeper_engine.decide.steps import find_function
from innkeeper_engine.model.clock import derived_ulid
from innkeeper_engine.model.decoding import decoded
from innkeeper_engine.model.effects import Cancel, Effect, Resolve, Resume
from innkeeper_engine.model.state import QueuedEvent, Waiter, WaiterQuery

INVOKED = "inngest/function.invoked"


class Arrival:
    """An event that is being routed; decoded once, and only if somebody asks."""

    def __init__(self, queued: QueuedEvent) -> None:
        self.queued = queued
        self._decoded: dict[str, Any] | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The event as decoded JSON; empty where it is none, so that no event can stop the cursor."""
        if self._decoded is None:
            try:
                event = decoded(self.queued.body)
            except ValueError:
                event = {}
            self._decoded = event if isinstance(event, dict) else {}
        return self._decoded

    @property
    def is_there(self) -> bool:
        """False for an event that expired before it was routed: it meets nobody."""
        return bool(self.queued.body)


def batch_of(arrivals: Sequence[Arrival], registry: Registry) -> int:
    """How many of these events may be routed in one go.

    A run that starts in the batch has no cancellation rule in the store yet, so the batch ends before an event that
    a run of this batch may be cancelled by.
    """
    cancelling: set[str] = set()
    for n, arrival in enumerate(arrivals):
        name = arrival.queued.name
        if name in cancelling:
            return n
        if name == INVOKED:
            cancelling |= registry.cancelling_names
        for entry, _ in registry.triggered_by(name):
            cancelling.update(rule.event for rule in entry.cancels)
    return len(arrivals)


def waiter_queries(arrival: Arrival) -> list[WaiterQuery]:
    """Where to look for those who wait for this event."""
    queued = arrival.queued
    if not arrival.is_there:
        return []
    queries = []
    for path in sorted(queued.paths):
        value = index_value(arrival.data, path) if path else ""
        if value is not None:
            queries.append(WaiterQuery(queued.name, path, value, queued.seq))
    return queries


class Skipped(NamedTuple):
    """Something that could not be decided: left out, so that it stops nobody else's event."""

    what: str
    error: Exception


def waiter_effects(
    arrival: Arrival, waiters: Sequence[Waiter], context: Context, skipped: list[Skipped] | None = None
) -> list[Effect]:
    """What the event does to those who wait for it: cancellations first.

    A condition that cannot be read (another version wrote it) matches nothing: its wait ends at its deadline.
    """
    queued = arrival.queued
    cancels: list[Effect] = []
    resumes: list[Effect] = []
    for waiter in waiters:
        try:
            if waiter.condition and not _bound(waiter.condition).matches(arrival.data):
                continue
        except Exception as error:
            _skip(skipped, f"the condition of pause {waiter.pause}", error)
            continue
        if waiter.kind == "cancel":
            note = cancel_note("event", context.now_ms, event=queued.id, name=queued.name)
            cancels.append(Cancel(waiter.run, (context.new_id(), context.new_id()), note, waiter.pause))
        else:
            resumes.append(Resume(waiter.pause, context.registry.env, queued.id))
    return cancels + resumes


def start_effects(arrival: Arrival, context: Context, skipped: list[Skipped] | None = None) -> list[Effect]:
    """The runs that the event starts, or would start if it were not paused: one per function, as declared."""
    if not arrival.is_there:
        return []
    effects: list[Effect] = []
    if arrival.queued.name == INVOKED:
        try:
            effects += _invoked(arrival, context)
        except Exception as error:
            _skip(skipped, "the function that is invoked", error)
    seen: set[str] = set()
    for entry, trigger in context.registry.triggered_by(arrival.queued.name):
        if entry.config.slug in seen:
            continue
        try:
            if trigger.condition is None or trigger.condition.matches({"event": arrival.data}):
                effects.append(_start(arrival, entry, context))
                seen.add(entry.config.slug)
        except Exception as error:
            _skip(skipped, f"function {entry.config.slug}", error)
    return effects


def _skip(skipped: list[Skipped] | None, what: str, error: Exception) -> None:
    """Where nobody listens, an error is an error."""
    if skipped is None:
        raise error
    skipped.append(Skipped(what, error))


def _invoked(arrival: Arrival, context: Context) -> list[Effect]:
    data = arrival.data.get("data")
    own = data.get("_inngest") if isinstance(data, dict) else None
    own = own if isinstance(own, dict) else {}
    wanted, correlation = str(own.get("fn_id") or ""), str(own.get("correlation_id") or "")
    entry = find_function(wanted, context)
    if entry is not None:
        return [_start(arrival, entry, context, parent=correlation)]
    if not correlation:
        return []
    error = {"message": f"could not find function with ID: {wanted}", "name": "Error"}
    return [Resolve(correlation, b'{"error":%b}' % context.canonical(error))]


def _start(arrival: Arrival, entry: FunctionEntry, context: Context, parent: str = "") -> Effect:
    queued, event = arrival.queued, arrival.data
    at_ms = event.get("ts")
    due_ms = int(at_ms) if isinstance(at_ms, int | float) and at_ms > context.now_ms else 0
    user_id = event.get("id")
    idempotency = ""
    if isinstance(user_id, str) and user_id != queued.id and not parent:
        idempotency = (
            f"{entry.key}:{hashlib.sha256(user_id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
        )
    start = start_effect(
        entry,
        run_id=derived_ulid(queued.received_ms, "event", queued.id, entry.key),
        event=event,
        events=((queued.id, b""),),
        event_seq=queued.seq,
        order_ms=queued.received_ms,
        due_ms=due_ms,
        parent=parent,
        idempotency=idempotency,
    )
    return unless_paused(start, entry, context.now_ms)


@functools.lru_cache(maxsize=4_096)
def _bound(condition: bytes) -> Bound:
    return Bound.load(msgspec.json.decode(condition))
