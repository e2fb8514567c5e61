"""The scheduler's rules in plain Python: the judge of the Lua that follows them.

A *lane* is a function's starts or its steps, a *partition* a lane plus the evaluated keys of its limits; both are
*nodes*. A node waits at one full limit at most ("parked"), and room that comes to a limit wakes one node, its *scout*,
whose visit must pass the wake on if it cannot use it: otherwise the others sleep for ever beside free slots.

A lane is named with the keys that its function had then, its signature. Where the function has others now, the lane is
stale: its limits count no more, and what is leased from it goes back under the present keys without having been called.

Names are the store's (`model_names`), so that pictures of the two can be compared.

`left_out` switches rules off one by one: each is there because of a counter-example, which the tests keep.
"""

from collections.abc import Iterable, Mapping

from innkeeper_engine.store.store import Held
from tests.engine.model_names import (
    OWN,
    all_limits,
    def_of,
    fn_of,
    fn_of_own,
    has_priority,
    is_throttle,
    item_name,
    kind_of,
    lane_limits,
    lane_of,
    number_of,
    partition_limits,
    signature_of,
)
from tests.engine.model_rules import TURNS_A_MS, BrokenError, Cap, Leased, Op, Rule, Throttle


class Scheduler:
    """The state, and the events that change it."""

    def __init__(
        self,
        caps: dict[tuple[str, str], Cap],
        signatures: Mapping[str, str] | None = None,
        now_ms: int = 0,
        left_out: Iterable[Rule] = (),
        nodes: int = 1_000,
    ) -> None:
        """`nodes`: how many waiting nodes one script looks at again after a change of caps."""
        self.left_out = frozenset(left_out)
        self.now_ms = now_ms
        self.caps = dict(caps)
        self.held: dict[str, Held] = {}
        """Function -> its paused lanes: s starts, t steps."""
        self.signatures = dict(signatures or {})
        """Function -> its keys, where it has some that depend on events."""
        self.ready: list[str] = []
        self.rings: dict[str, dict[str, float]] = {}
        """Lane -> partition -> when it is its turn."""
        self.turn = 0.0
        self.places: dict[str, str] = {}
        """Nodes that are not idle: r ready, h held, @<limit> parked. A node is l<lane> or p<partition>."""
        self.queues: dict[str, list[tuple[int, str]]] = {}
        self.slots: dict[str, set[str]] = {}
        self.waiting: dict[str, list[tuple[str, str]]] = {}
        """Limit -> (lane, node), oldest first."""
        self.woken: dict[str, dict[str, str]] = {}
        """Limit -> lane -> its scout, until that is visited."""
        self.tats: dict[str, int] = {}
        self.timers: dict[str, int] = {}
        self.leased: dict[str, Leased] = {}
        self.boosts: dict[str, int] = {}
        """Item -> its priority, as long as it is queued."""
        self.doomed: set[str] = set()
        """Leased items of cancelled runs."""
        self.added = 0
        self.times: list[int] = []
        """When the n-th item was added."""
        self.again: list[tuple[str, str]] = []
        """Functions and names of caps of theirs that have changed, whose waiters are still to be looked at."""
        self._nodes = nodes
        self._to_look_at = nodes

    def do(self, op: Op) -> str | None:
        """Do an operation; returns the item that a lease gave."""
        match op:
            case ("add", str() as partition):
                self.do(("add", partition, 0))
            case ("add", str() as partition, int() as boost):
                self.times.append(self.now_ms)
                self.add(partition, item_name(self.added), self.now_ms - boost, boost)
            case ("lease",):
                return self.lease()
            case ("done", int() as number):
                self.done(item_name(number))
            case ("expire", int() as number):
                self.expire(item_name(number))
            case ("cancel", int() as number):
                self.cancel(item_name(number))
            case ("rekey", int() as number, str() as partition, int() as boost):
                self.rekey(item_name(number), partition, self.times[number] - boost, boost)
            case ("sig", str() as fn, str() as signature):
                self.set_signature(fn, signature)
            case ("hold", str() as fn, "" | "s" | "t" | "st" as kinds):
                self.hold(fn, kinds)
            case ("cap", str() as fn, str() as definition, int() | None as value):
                self.set_cap(fn, definition, value)
            case ("cap", str() as fn, str() as definition, int() as emission_ms, int() as burst):
                self.set_cap(fn, definition, Throttle(emission_ms, burst))
            case ("tick", int() as ms):
                self.tick(ms)
            case _:
                raise ValueError(f"no operation: {op}")
        return None

    # ---- events

    def add(self, partition: str, item: str, order: int, boost: int = 0) -> None:
        """An item joins its partition, by its order: the time less its priority."""
        self.added = max(self.added, number_of(item) + 1)
        queue = self.queues.setdefault(partition, [])
        queue.append((order, item))
        queue.sort()
        self.boosts[item] = boost
        place = self.places.get(f"p{partition}")
        if place is None:
            self._enter(partition)
        elif place == "r" and has_priority(lane_of(partition)):
            ring = self.rings[lane_of(partition)]
            if Rule.MOVE_UP not in self.left_out:
                ring[partition] = min(ring[partition], order)

    def lease(self, visits: int = 64) -> str | None:
        """Visits until an item is leased; None when nothing can be, or after so many visits."""
        self.go_on_looking()
        for _ in range(visits):
            if not self.ready:
                return None
            item = self.visit()
            if item is not None:
                return item
        return None

    def lease_some(self, most: int = 8, visits: int = 64) -> int:
        """What one `due` that asks for so many items leases; how many that was."""
        self.go_on_looking()
        leased = 0
        while self.ready and visits and leased < most:
            visits -= 1
            leased += self.visit() is not None
        return leased

    def done(self, item: str) -> None:
        """A lease ends, the item with it."""
        self._release(item, settle=True)
        self.doomed.discard(item)

    def expire(self, item: str) -> None:
        """A lease runs out: the item goes back to where it was, unless its run has ended."""
        was = self._release(item, settle=Rule.SETTLE_ON_EXPIRY not in self.left_out)
        if item in self.doomed:
            self.doomed.discard(item)
        else:
            self.add(was.partition, item, was.order, was.boost)
        self.go_on_looking()

    def rekey(self, item: str, partition: str, order: int, boost: int) -> None:
        """A leased item goes back under other keys, unless its run has ended."""
        self._release(item, settle=True)
        if item in self.doomed:
            self.doomed.discard(item)
        else:
            self.add(partition, item, order, boost)

    def cancel(self, item: str) -> None:
        """The run of an item ends. Where it is leased, the slot comes back when the lease ends."""
        if item in self.leased:
            self.doomed.add(item)
            return
        partition, queue = next(
            (partition, queue)
            for partition, queue in self.queues.items()
            if any(item == each for _, each in queue)
        )
        queue[:] = [entry for entry in queue if entry[1] != item]
        if not queue and Rule.EMPTY_NODES_STAY in self.left_out and self.places[f"p{partition}"] == "r":
            lane = lane_of(partition)
            del self.rings[lane][partition]
            del self.places[f"p{partition}"]
            self._unscout(lane, f"p{partition}")

    def hold(self, fn: str, kinds: Held) -> None:
        """Nothing in these lanes of the function is leased from now on; its others go on."""
        self.held[fn] = kinds
        for node in sorted(node for node, place in self.places.items() if place == "h"):
            lane = node[1:]
            if fn_of(lane) == fn and not self.is_held(lane):
                del self.places[node]
                if self.rings.get(lane):
                    self._ready_lane(lane)

    def set_cap(self, fn: str, definition: str, cap: Cap | None) -> None:
        """A function's own cap changes; None: its entry is removed."""
        old = self.caps.pop((fn, definition), None)
        if cap is not None:
            self.caps[fn, definition] = cap
        if old is None or old == cap:
            return
        self._to_look_at = self._nodes
        if not self._look_again(fn, definition):
            self.again.append((fn, definition))

    def set_signature(self, fn: str, signature: str) -> None:
        """The keys of a function's limits change."""
        if self.signatures.get(fn, "") == signature:
            return
        self.signatures[fn] = signature
        self._to_look_at = self._nodes
        for definition in sorted(definition for owner, definition in self.caps if owner == fn):
            if not self._look_again(fn, definition):
                self.again.append((fn, definition))

    def is_stale(self, lane: str) -> bool:
        """Whether the lane's function has other keys now."""
        return signature_of(lane) != self.signatures.get(fn_of(lane), "")

    def tick(self, ms: int) -> None:
        """Time passes; throttles whose time has come make room."""
        self.now_ms += ms
        for at, limit in sorted((at, limit) for limit, at in self.timers.items()):
            if at <= self.now_ms:
                del self.timers[limit]
                self._settle(limit)
        self.go_on_looking()

    # ---- the rules

    def visit(self) -> str | None:
        """Visit the first lane of the ring: the only thing that takes a node out of it. Returns what it leased."""
        lane = self.ready.pop(0)
        node = f"l{lane}"
        settle = self._unscout(lane, node)
        left_blocked = False
        leased = None
        if self.is_held(lane):
            self.places[node] = "h"
            left_blocked = True
            if Rule.PASS_ON_WHEN_PAUSED in self.left_out:
                settle = []
        elif not self.rings.get(lane):
            del self.places[node]
            settle = self._after_empty(settle)
        elif (limit := self._blocked_in(lane, lane_limits(lane))) is not None:
            self._park(limit, lane, node)
            left_blocked = True
            settle = self._after_full(settle, limit)
        else:
            leased, settle = self._visit_partition(lane, settle)
            if self.rings[lane]:
                self.ready.append(lane)
                self._next_turn()
            else:
                del self.places[node]
        if left_blocked and Rule.LANE_PASSES_ON_ITS_SCOUTS not in self.left_out:
            # At a throttle no other lane waits.
            shared = [limit for limit in self.woken if not is_throttle(limit)]
            settle = settle + sorted(limit for limit in shared if lane in self.woken[limit])
        for limit in dict.fromkeys(settle):
            self._settle(limit)
        return leased

    def _visit_partition(self, lane: str, settle: list[str]) -> tuple[str | None, list[str]]:
        fn, partition = fn_of(lane), self.ring_of(lane)[0]
        del self.rings[lane][partition]
        node, queue = f"p{partition}", self.queues.get(partition, [])
        settle = settle + self._unscout(lane, node)
        if not queue:
            del self.places[node]
            return None, self._after_empty(settle)
        limit = self._blocked_in(lane, partition_limits(partition))
        if limit is not None:
            self._park(limit, lane, node)
            return None, self._after_full(settle, limit)
        order, item = queue.pop(0)
        self._take(fn, partition, item, order)
        if queue:
            self._join(lane, partition)
        else:
            del self.places[node]
        rule = Rule.PASS_ON_AFTER_A_STALE_LEASE if self.is_stale(lane) else Rule.PASS_ON_AFTER_A_LEASE
        return item, [] if rule in self.left_out else settle

    def _after_empty(self, settle: list[str]) -> list[str]:
        return [] if Rule.PASS_ON_WHEN_EMPTY in self.left_out else settle

    def _after_full(self, settle: list[str], limit: str) -> list[str]:
        if Rule.PASS_ON_WHEN_FULL in self.left_out:
            return []
        if is_throttle(limit) and Rule.PASS_ON_WHEN_THROTTLED in self.left_out:
            return []
        return settle

    def _settle(self, limit: str) -> None:
        """Room may have come: wake, lane by lane, until one that is woken can be served."""
        waiting = self.waiting.get(limit, [])
        if Rule.LOOK_AT_THE_OWN_CAP in self.left_out:
            if waiting:
                self._wake(limit, *waiting.pop(0))
            return
        rearm: list[int] = []
        for lane in dict.fromkeys(lane for lane, _ in waiting):
            if not self._look(fn_of(lane), limit):
                if is_throttle(limit):
                    rearm.append(self._open_at(fn_of(lane), limit))
                continue
            if lane not in self.woken.get(limit, {}):
                entry = next(entry for entry in waiting if entry[0] == lane)
                waiting.remove(entry)
                self._wake(limit, *entry)
                if Rule.SKIP_LANES_THAT_CANNOT_BE_SERVED in self.left_out:
                    break
            if self.places.get(f"l{lane}") == "r" and not has_priority(lane):
                break
        if rearm and Rule.REARM_THE_THROTTLE not in self.left_out:
            self.timers[limit] = min(rearm)

    def _wake(self, limit: str, lane: str, node: str) -> None:
        self.woken.setdefault(limit, {})[lane] = node
        self._let_go(lane, node)

    def _let_go(self, lane: str, node: str) -> None:
        if node == f"l{lane}":
            self._ready_lane(lane)
        else:
            self._enter(node[1:])

    def go_on_looking(self) -> None:
        """Look again at some of those who wait at limits that have changed: what every `due` does."""
        self._to_look_at = self._nodes
        while self.again and self._to_look_at > 0:
            if self._look_again(*self.again[0]):
                del self.again[0]

    def _look_again(self, fn: str, definition: str) -> bool:
        """False where there is more to look at than one script does."""
        if self._to_look_at <= 0:
            return False
        cap = self.caps.get((fn, definition))
        limits = sorted(
            limit
            for limit, found in self.waiting.items()
            if found and def_of(limit) == definition and (definition not in OWN or fn_of_own(limit) == fn)
        )
        rule = Rule.LET_OUT_ON_REMOVAL if cap is None else Rule.LET_OUT_ON_OTHER_KEYS
        for limit in limits:
            if rule not in self.left_out and not self._let_out(limit, fn, only_stale=cap is not None):
                return False
            if cap is not None and Rule.SETTLE_ON_RAISE not in self.left_out:
                self._settle(limit)
        self._to_look_at -= 1 if definition in OWN else len(limits)
        return True

    def _let_out(self, limit: str, fn: str, only_stale: bool) -> bool:
        waiting = self.waiting[limit]
        for lane in dict.fromkeys(lane for lane, _ in waiting if fn_of(lane) == fn):
            if only_stale and not self.is_stale(lane):
                continue
            for entry in [entry for entry in waiting if entry[0] == lane]:
                if self._to_look_at <= 0:
                    return False
                self._to_look_at -= 1
                waiting.remove(entry)
                self._let_go(*entry)
        return True

    def _unscout(self, lane: str, node: str) -> list[str]:
        found = [limit for limit, lanes in self.woken.items() if lanes.get(lane) == node]
        for limit in found:
            del self.woken[limit][lane]
        return found

    def _enter(self, partition: str) -> None:
        lane = lane_of(partition)
        self.places[f"p{partition}"] = "r"
        self._join(lane, partition)
        if f"l{lane}" not in self.places:
            self._ready_lane(lane)

    def _join(self, lane: str, partition: str) -> None:
        queue = self.queues.get(partition)
        by_order = queue and has_priority(lane) and Rule.JOIN_BY_PRIORITY not in self.left_out
        turn = queue[0][0] if queue and by_order else self._next_turn()
        self.rings.setdefault(lane, {})[partition] = turn

    def ring_of(self, lane: str) -> list[str]:
        """A lane's partitions in the order of their turns."""
        ring = self.rings.get(lane, {})
        return sorted(ring, key=lambda partition: (ring[partition], partition))

    def _next_turn(self) -> float:
        self.turn = self.now_ms if self.now_ms > self.turn else self.turn + 1 / TURNS_A_MS
        return self.turn

    def _ready_lane(self, lane: str) -> None:
        self.places[f"l{lane}"] = "r"
        self.ready.append(lane)
        self._next_turn()

    def _park(self, limit: str, lane: str, node: str) -> None:
        self.places[node] = f"@{limit}"
        self._next_turn()
        self.waiting.setdefault(limit, []).append((lane, node))
        if is_throttle(limit):
            at = self._open_at(fn_of(lane), limit)
            self.timers[limit] = min(at, self.timers.get(limit, at))

    def _take(self, fn: str, partition: str, item: str, order: int) -> None:
        stale = self.is_stale(lane_of(partition))
        self.leased[item] = Leased(partition, order, self.boosts.pop(item), stale)
        if stale:
            return
        for limit in all_limits(partition):
            cap = self.caps.get((fn, def_of(limit)))
            if cap is not None and not self.has_room(fn, limit):
                raise BrokenError(f"{limit!r} was exceeded")
            if not is_throttle(limit):
                self.slots.setdefault(limit, set()).add(item)
            elif isinstance(cap, Throttle):
                self.tats[limit] = max(self.now_ms, self.tats.get(limit, 0)) + cap.emission_ms

    def _release(self, item: str, settle: bool) -> Leased:
        was = self.leased.pop(item)
        if was.stale:
            return was
        counted = [limit for limit in all_limits(was.partition) if not is_throttle(limit)]
        for limit in counted:
            self.slots[limit].discard(item)
        if settle:
            for limit in dict.fromkeys(counted):
                self._settle(limit)
        return was

    def is_held(self, lane: str) -> bool:
        """Whether nothing of the lane is leased for now, by a pause."""
        return kind_of(lane) in self.held.get(fn_of(lane), "")

    def _blocked_in(self, lane: str, limits: Iterable[str]) -> str | None:
        if self.is_stale(lane) and Rule.STALE_LANES_HAVE_NO_LIMITS not in self.left_out:
            return None
        return next((limit for limit in limits if not self._look(fn_of(lane), limit)), None)

    def _look(self, fn: str, limit: str) -> bool:
        """Like `has_room`; what is left of an older cap's pace is forgotten for good."""
        cap = self.caps.get((fn, def_of(limit)))
        if isinstance(cap, Throttle) and limit in self.tats and Rule.FORGET_THE_OLD_PACE not in self.left_out:
            self.tats[limit] = min(self.tats[limit], self.now_ms + cap.burst * cap.emission_ms)
        return self.has_room(fn, limit)

    def cap_of(self, fn: str, limit: str) -> Cap | None:
        """A function's own cap for a limit."""
        return self.caps.get((fn, def_of(limit)))

    def has_room(self, fn: str, limit: str) -> bool:
        """Whether one more item of this function may go under a limit now."""
        cap = self.caps.get((fn, def_of(limit)))
        if cap is None:
            return True
        if isinstance(cap, Throttle):
            return self.now_ms >= self._open_at(fn, limit)
        return len(self.slots.get(limit, ())) < cap

    def _open_at(self, fn: str, limit: str) -> int:
        cap = self.caps.get((fn, def_of(limit)))
        assert isinstance(cap, Throttle)
        return self.tats.get(limit, 0) - (cap.burst - 1) * cap.emission_ms
