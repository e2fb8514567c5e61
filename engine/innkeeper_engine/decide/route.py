"""What an event does: it cancels, then resumes, then starts. Pure; the router carries it out under its cursor."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from innkeeper_engine.cel import Bound, index_value
from innkeeper_engine.compiled import FunctionEntry, Registry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.events import event_object, future_ms, sender_key
from innkeeper_engine.decide.flow import Occasion, Origin, decide
from innkeeper_engine.decide.notes import cancel_note
from innkeeper_engine.decide.steps import find_function
from innkeeper_engine.model.clock import derived_ulid
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
            self._decoded = event_object(self.queued.body)
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
    """Something that could not be decided: left out, so that it stops nobody else's event.

    Where nobody listens for these, an error is an error. Whoever does empties the list when all is told: the errors and
    the frames that they came from hold each other through it.
    """

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
            if skipped is None:
                raise
            skipped.append(Skipped(f"the condition of pause {waiter.pause}", error))
            continue
        if waiter.kind == "cancel":
            note = cancel_note("event", context.now_ms, event=queued.id, name=queued.name)
            cancels.append(Cancel(waiter.run, (context.new_id(), context.new_id()), note, waiter.pause))
        else:
            resumes.append(Resume(waiter.pause, context.registry.env, queued.id))
    return cancels + resumes


def start_effects(arrival: Arrival, context: Context, skipped: list[Skipped] | None = None) -> list[Effect]:
    """What becomes of the event in each function that it meets, in the order in which they were declared.

    For each exactly one Skip, Gather or Start; a Start may be followed by a Cancel and by notes of its run.
    """
    if not arrival.is_there:
        return []
    effects: list[Effect] = []
    if arrival.queued.name == INVOKED:
        try:
            effects += _invoked(arrival, context)
        except Exception as error:
            if skipped is None:
                raise
            skipped.append(Skipped("the function that is invoked", error))
    seen: set[str] = set()
    for entry, trigger in context.registry.triggered_by(arrival.queued.name):
        if entry.config.slug in seen:
            continue
        try:
            if trigger.condition is None or trigger.condition.matches({"event": arrival.data}):
                effects += _start(arrival, entry, context)
                seen.add(entry.config.slug)
        except Exception as error:
            if skipped is None:
                raise
            skipped.append(Skipped(f"function {entry.config.slug}", error))
    return effects


def _invoked(arrival: Arrival, context: Context) -> list[Effect]:
    data = arrival.data.get("data")
    own = data.get("_inngest") if isinstance(data, dict) else None
    own = own if isinstance(own, dict) else {}
    wanted, correlation = str(own.get("fn_id") or ""), str(own.get("correlation_id") or "")
    entry = find_function(wanted, context)
    if entry is not None:
        return _start(arrival, entry, context, "invoke", correlation)
    if not correlation:
        return []
    error = {"message": f"could not find function with ID: {wanted}", "name": "Error"}
    return [Resolve(correlation, b'{"error":%b}' % context.canonical(error))]


def _start(
    arrival: Arrival, entry: FunctionEntry, context: Context, origin: Origin = "event", parent: str = ""
) -> list[Effect]:
    queued, event = arrival.queued, arrival.data
    fn = entry.key
    occasion = Occasion(
        origin,
        derived_ulid(queued.received_ms, "event", queued.id, fn),
        event,
        ((queued.id, b""),),
        queued.seq,
        queued.received_ms,
        future_ms(event, context.now_ms),
        parent,
        "" if parent else sender_key(fn, event, queued.id),
    )
    return decide(entry, occasion, context)


@functools.lru_cache(maxsize=4_096)
def _bound(condition: bytes) -> Bound:
    return Bound.load(msgspec.json.decode(condition))
