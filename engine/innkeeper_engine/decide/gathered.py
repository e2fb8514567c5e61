"""What a debounce or a batch starts that is due: one run, with what is left of its events."""

from collections.abc import Sequence

from innkeeper_engine.compiled import FunctionEntry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.events import event_object, future_ms, sender_key
from innkeeper_engine.decide.flow import BATCH_KEY, IDEMPOTENCY, Failed, Occasion, decide, failing
from innkeeper_engine.model.clock import derived_ulid
from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.state import Gathered, StoredEvent


def fire_gathered(
    entry: FunctionEntry, gathered: Gathered, events: Sequence[StoredEvent], context: Context
) -> list[Effect]:
    """The run of a gathering that is closed, or that it is skipped; nothing where none of its events is left.

    `events` in the order of their arrival; one without a body has expired and is left out. Of a debounce the last
    counts, and its `ts` may put the run off; of a batch the first gives the run its id and its keys. The run is as old
    as this decision.
    """
    found = [event for event in events if event.body]
    if not found:
        return []
    if gathered.kind == "debounce":
        return decide(entry, _of_debounce(entry, found[-1], context), context)
    return decide(entry, _of_batch(entry, found, context), context)


def _of_debounce(entry: FunctionEntry, last: StoredEvent, context: Context) -> Occasion:
    event = event_object(last.body)
    return Occasion(
        origin="gathered",
        run=derived_ulid(last.received_ms, "debounce", last.id, entry.key),
        event=event,
        events=((last.id, b""),),
        seq=last.seq,
        at_ms=context.now_ms,
        due_ms=future_ms(event, context.now_ms),
        idempotency=sender_key(entry.key, event, last.id),
    )


def _of_batch(entry: FunctionEntry, events: Sequence[StoredEvent], context: Context) -> Occasion:
    first = events[0]
    event = event_object(first.body)
    return Occasion(
        origin="gathered",
        run=derived_ulid(first.received_ms, "batch", first.id, entry.key),
        event=event,
        events=tuple((each.id, b"") for each in events),
        seq=events[-1].seq,
        at_ms=context.now_ms,
        is_batch=True,
        failed=_failed_in_batch(entry, events),
    )


def _failed_in_batch(entry: FunctionEntry, events: Sequence[StoredEvent]) -> tuple[Failed, ...]:
    """Keys that gave nothing when the events were gathered: there was no run then whose history could say so."""
    failed: list[Failed] = []
    key = entry.batch.key if entry.batch is not None else None
    if key is not None and key.key({"event": event_object(events[0].body)}) is None:
        failed.append(failing(BATCH_KEY))
    if entry.idempotency is not None:
        count = sum(entry.idempotency.key({"event": event_object(each.body)}) is None for each in events)
        if count:
            consequence = (
                f"gives nothing for {count} of {len(events)} events: nothing kept them out of the batch"
            )
            failed.append((IDEMPOTENCY, consequence))
    return tuple(failed)
