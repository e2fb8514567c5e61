"""What the model of the scheduler promises, and a picture of it to compare with the store's."""

import copy

from tests.engine.model_names import all_limits, fn_of, has_priority, is_throttle, lane_of
from tests.engine.model_rules import BrokenError, Cut, Throttle
from tests.engine.model_scheduler import Scheduler


def check(scheduler: Scheduler) -> Scheduler:
    """What must hold after every event. Returns the state after leasing until nothing comes.

    Raises:
        BrokenError: it does not; the text says what and for whom.
    """
    expected: dict[str, set[str]] = {}
    for item, lease in scheduler.leased.items():
        for limit in all_limits(lease.partition):
            if not is_throttle(limit) and not lease.stale:
                expected.setdefault(limit, set()).add(item)
    if expected != {limit: items for limit, items in scheduler.slots.items() if items}:
        raise BrokenError("slots are not the leases")
    for lane, ring in scheduler.rings.items():
        for partition, turn in ring.items():
            queue = scheduler.queues.get(partition)
            if queue and has_priority(lane) and turn > queue[0][0]:
                raise BrokenError(
                    f"the turn of {partition!r} comes later than its first item, by its time and priority"
                )
    drained = copy.deepcopy(scheduler)
    for _ in range(300):
        if not drained.lease_some() and not drained.again:
            break
    if drained.ready:
        raise BrokenError("visits do not come to an end")
    check_nobody_forgotten(drained)
    return drained


def check_nobody_forgotten(scheduler: Scheduler) -> None:
    """With an empty ring: who has an item is paused, or waits for a limit that is full.

    Raises:
        BrokenError: somebody could be served and will not be.
    """
    for partition, queue in scheduler.queues.items():
        fn = fn_of(partition)
        if not queue or scheduler.is_held(lane_of(partition)):
            continue
        if scheduler.is_stale(lane_of(partition)):
            raise BrokenError(f"{partition!r} is forgotten: its function has other keys")
        full = [limit for limit in dict.fromkeys(all_limits(partition)) if not scheduler.has_room(fn, limit)]
        if not full:
            raise BrokenError(f"{partition!r} is forgotten: it has an item and all its limits have room")
        if not all(map(is_throttle, full)):
            continue
        timers = [scheduler.timers[limit] for limit in full if limit in scheduler.timers]
        if not timers:
            raise BrokenError(f"{partition!r} waits for a throttle that has no timer")
        paces = [
            cap.emission_ms for limit in full if isinstance(cap := scheduler.cap_of(fn, limit), Throttle)
        ]
        if min(timers) > scheduler.now_ms + max(paces):
            raise BrokenError(f"{partition!r} waits for a throttle longer than from one start to the next")


def cut(scheduler: Scheduler) -> Cut:
    """What there is to compare with the store, without what is empty."""
    return {
        "ready": list(scheduler.ready),
        "turn": scheduler.turn,
        "rings": {
            lane: [(partition, ring[partition]) for partition in scheduler.ring_of(lane)]
            for lane, ring in scheduler.rings.items()
            if ring
        },
        "places": dict(scheduler.places),
        "queues": {p: [item for _, item in queue] for p, queue in scheduler.queues.items() if queue},
        "slots": {limit: set(items) for limit, items in scheduler.slots.items() if items},
        "waiting": {limit: _by_lane(found) for limit, found in scheduler.waiting.items() if found},
        "woken": {limit: dict(lanes) for limit, lanes in scheduler.woken.items() if lanes},
        "tats": dict(scheduler.tats),
        "timers": dict(scheduler.timers),
        "again": list(scheduler.again),
    }


def _by_lane(waiting: list[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Lanes by their oldest waiter, each with its waiters by age."""
    lanes: dict[str, list[str]] = {}
    for lane, node in waiting:
        lanes.setdefault(lane, []).append(node)
    return list(lanes.items())
