"""A queued item under keys that its function does not have any more: where it queues by the present ones."""

from innkeeper_engine.compiled import FunctionEntry
from innkeeper_engine.decide.events import event_object
from innkeeper_engine.decide.flow import failing, key_notes
from innkeeper_engine.limits import queued
from innkeeper_engine.model.effects import Effect, Rekey
from innkeeper_engine.model.state import Lease


def rekey(lease: Lease, entry: FunctionEntry, now_ms: int) -> list[Effect]:
    """The leased item back into its queue, and what the run's history says of keys that give nothing.

    The run's first event is looked at, `e:0` of the lease's payload: whoever calls has read it where it did not come
    along. The item keeps its age: that of the run, or the time ahead to which its event puts it off.
    """
    event = event_object((lease.payload or {}).get("e:0", b""))
    place = queued(entry.queueing, event)
    back = Rekey(
        item=lease.item,
        run=lease.run,
        start_partition=place.start_partition,
        step_partition=place.step_partition,
        order=lease.wanted_ms - place.boost_ms,
        boost_ms=place.boost_ms,
    )
    return [back, *key_notes(lease.run, [failing(option) for option in place.failed], now_ms)]
