"""What must hold of every history of a cluster with flow control: rules that count, and know no scheduler."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tests.engine.flow_paces import ROUNDING_MS, Rates, Throttles
from tests.engine.flow_records import (
    Closed,
    Drained,
    Ended,
    Gathered,
    Made,
    Met,
    Needs,
    Queue,
    Quiet,
    Record,
    Refused,
    Released,
    Rights,
    Rule,
    Slots,
    Taken,
    Throttling,
    Waiter,
)

DAY_MS = 86_400_000


class Violation(NamedTuple):
    """A promise that a history breaks, at its n-th record."""

    number: int
    rule: str
    text: str


class Concurrency(Rule):
    """No cap is exceeded at any instant, nothing goes out twice or while it is held, no slot leaks."""

    def __init__(self) -> None:
        self.live: dict[str, Needs] = {}

    def see(self, record: Record) -> Iterator[str]:
        match record:
            case Taken():
                yield from self._taken(record)
            case Released():
                self.live.pop(record.item, None)
            case Slots():
                yield from self._slots(record)
            case Drained() if self.live:
                yield f"requests that never ended: {sorted(self.live)}"

    def count(self, counter: str) -> int:
        """How many requests are under way under a counter."""
        return sum(counter in dict(needs.counters) for needs in self.live.values())

    def _taken(self, record: Taken) -> Iterator[str]:
        if record.item in self.live:
            yield f"{record.item} went out twice"
        if record.needs.held:
            yield f"{record.item} went out while its function is paused"
        self.live[record.item] = record.needs
        for counter, cap in record.needs.counters:
            if cap is not None and self.count(counter) > cap:
                yield f"{record.item} is number {self.count(counter)} of {cap} under {counter}"

    def _slots(self, record: Slots) -> Iterator[str]:
        for limit, items in record.slots.items():
            if leaked := sorted(items - set(self.live)):
                yield f"slots of {limit} that no request has: {leaked}"
        for item, needs in self.live.items():
            held, wanted = sum(item in items for items in record.slots.values()), len(dict(needs.counters))
            if held != wanted:
                yield f"{item} has {held} slots and goes by {wanted} counters"


class Liveness(Rule):
    """When all is quiet, whoever waits lacks room, is held, or waits for a throttle's time."""

    def __init__(self) -> None:
        self._concurrency = Concurrency()
        self._next_ms: dict[str, float] = {}

    def see(self, record: Record) -> Iterator[str]:
        for _ in self._concurrency.see(record):
            pass  # Said once, by the rule itself.
        match record:
            case Taken(needs=Needs(throttle=Throttling() as throttle)):
                at = max(record.at, self._next_ms.get(throttle.counter, 0.0))
                self._next_ms[throttle.counter] = at + throttle.period_ms / throttle.limit
            case Quiet():
                for item, needs in record.waiting.items():
                    if self._could_go(needs, record.at):
                        yield f"{item} waits, though it has room: {needs}"

    def _could_go(self, needs: Needs, at: int) -> bool:
        if needs.held:
            return False
        if any(
            cap is not None and self._concurrency.count(counter) >= cap for counter, cap in needs.counters
        ):
            return False
        if (throttle := needs.throttle) is None:
            return True
        ahead_ms = (throttle.burst - 1) * throttle.period_ms / throttle.limit
        return at >= self._next_ms.get(throttle.counter, 0.0) - ahead_ms + ROUNDING_MS


class Order(Rule):
    """What waits in one place goes out by its time less its priority, the older first."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiter] = {}

    def see(self, record: Record) -> Iterator[str]:
        match record:
            case Queue():
                self._waiting = {waiter.item: waiter for waiter in record.waiting}
            case Taken():
                self._waiting.pop(record.item, None)
                for other in self._waiting.values() if record.partition else ():
                    if other.partition == record.partition and (other.order, other.born) < (
                        record.order,
                        record.born,
                    ):
                        yield f"{record.item} went out before {other.item}"


class Singletons(Rule):
    """At most one run at a time holds a key; a run is refused only while another one does."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}
        self._give_way: set[str] = set()

    def see(self, record: Record) -> Iterator[str]:
        match record:
            case Ended():
                if record.why == "replaced" and record.run not in self._give_way:
                    yield f"{record.run} gave way to another one, and should not have"
                self._holders = {key: run for key, run in self._holders.items() if run != record.run}
            case Made(rights=Rights(single=str() as key)) if key:
                if key in self._holders:
                    yield f"{record.run} was made while {self._holders[key]} holds {key}"
                self._holders[key] = record.run
                if record.rights.replaces:
                    self._give_way.add(record.run)
            case Refused(why="singleton"):
                if record.rights.single not in self._holders:
                    yield f"{record.run} was refused, and nobody holds {record.rights.single!r}"
                if record.rights.replaces:
                    yield f"{record.run} was refused, and should have replaced another one"


class Outcomes(Rule):
    """Each event that met a trigger ends in one run, skipped or gathered; what may happen once a day happens once."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Met] = {}
        self._gathered: dict[tuple[str, str], Met] = {}
        self._due: dict[tuple[str, str], Met] = {}
        self._taken: dict[str, list[int]] = defaultdict(list)

    def see(self, record: Record) -> Iterator[str]:
        match record:
            case Met():
                self._open[record.event, record.fn] = record
            case Gathered():
                if met := self._open.get((record.event, record.fn)):
                    self._gathered[record.event, record.fn] = met
                yield from self._settled(record.event, record.fn, "gathered")
                yield from self._take(record.at, record.rights)
            case Closed():
                for event in record.events:
                    if met := self._gathered.pop((event, record.fn), None):
                        self._due[event, record.fn] = met
            case Made():
                yield from self._began(record)
                yield from self._take(record.at, record.rights)
            case Refused():
                yield from self._began(record)
                yield from self._refused(record)
            case Drained():
                yield from self._unsettled()

    def _began(self, record: Made | Refused) -> Iterator[str]:
        for event in record.events:
            if self._due.pop((event, record.fn), None) is None:
                yield from self._settled(event, record.fn, record.run)

    def _settled(self, event: str, fn: str, how: str) -> Iterator[str]:
        if self._open.pop((event, fn), None) is None:
            yield f"event {event} came to {fn} twice, or never met it: {how}"

    def _take(self, at: int, rights: Rights) -> Iterator[str]:
        for key in filter(None, (rights.repeat, rights.once)):
            if self._is_taken(key, at):
                yield f"{key} is taken twice in a day"
            self._taken[key].append(at)

    def _is_taken(self, key: str, at: int) -> bool:
        return any(0 <= at - earlier < DAY_MS for earlier in self._taken[key])

    def _refused(self, record: Refused) -> Iterator[str]:
        if record.why == "paused" and not record.rights.paused:
            yield f"{record.run} was refused, and its function is not paused"
        if record.why == "idempotency" and not self._is_taken(record.rights.once, record.at):
            yield f"{record.run} was refused, and nobody has taken {record.rights.once!r}"

    def _unsettled(self) -> Iterator[str]:
        # Silently: the sender's own id had its run before, or before what was gathered was due.
        for met in self._open.values():
            if not self._is_taken(met.rights.repeat, met.at):
                yield f"event {met.event} met {met.fn}, and nothing came of it"
        for met in self._due.values():
            if not self._taken[met.rights.repeat]:
                yield f"event {met.event} was gathered for {met.fn}, and nothing came of it"


class Gatherings(Rule):
    """A batch lets go of all its events, a debounce of the last; when they are due, and not before."""

    def __init__(self) -> None:
        self._open: list[list[Gathered]] = []
        self._closed: dict[str, tuple[str, ...]] = {}

    def see(self, record: Record) -> Iterator[str]:
        match record:
            case Gathered():
                self._gather(record)
            case Closed():
                yield from self._close(record)
            case Quiet():
                for found in self._open:
                    if self._due_ms(found) <= record.at:
                        yield f"{found[0].grouping} was due at {self._due_ms(found)}, it is {record.at}"
            case Drained():
                for found in self._open:
                    yield f"never let go of: {found}"

    def _gather(self, record: Gathered) -> None:
        for found in self._open:
            most = found[0].grouping.most
            if found[0].grouping.group == record.grouping.group and not (most and len(found) >= most):
                found.append(record)
                return
        self._open.append([record])

    def _close(self, record: Closed) -> Iterator[str]:
        if record.id in self._closed:  # Offered again: whoever took it before may have died.
            if self._closed[record.id] != record.events:
                yield f"{record.id} holds {record.events} now, and {self._closed[record.id]} before"
            return
        self._closed[record.id] = record.events
        last = (record.events[-1], record.fn)
        found = next((each for each in self._open if last in [(one.event, one.fn) for one in each]), None)
        if found is None:
            yield f"{record.id} lets go of events that it has not: {record.events}"
            return
        self._open.remove(found)
        events = tuple(each.event for each in found)
        wanted = events if found[0].grouping.most else events[-1:]
        if wanted != record.events:
            yield f"{record.id} lets go of {record.events}, not of {wanted}"
        if record.at < self._due_ms(found):
            yield f"{record.id} is due at {self._due_ms(found)}, not at {record.at}"

    def _due_ms(self, found: list[Gathered]) -> int:
        first, last = found[0].at, found[-1]
        period_ms, ceiling_ms, most = last.grouping[1:]
        if most:
            return last.at if len(found) >= most else first + period_ms
        return min(last.at + period_ms, first + ceiling_ms) if ceiling_ms else last.at + period_ms


class Timeouts(Rule):
    """A run is cancelled when it has waited or run for too long, and otherwise only where somebody asked for it."""

    def __init__(self) -> None:
        self._live: dict[str, Made] = {}
        self._begun: dict[str, int] = {}
        self._requests: dict[str, str] = {}

    def see(self, record: Record) -> Iterator[str]:
        match record:
            case Made():
                self._live[record.run] = record
            case Taken():
                self._requests[record.item] = record.run
                if record.partition:
                    self._begun.setdefault(record.run, record.at)
            case Released():
                self._requests.pop(record.item, None)
            case Ended():
                made = self._live.pop(record.run)
                if record.why == "Cancelled" and not self._is_over(made, record.at):
                    yield f"{record.run} was cancelled, and its time was not over"
            case Quiet():
                working = set(self._requests.values())
                for run, made in self._live.items():
                    if run not in working and self._is_over(made, record.at):
                        yield f"{run} goes on, and its time is over"
            case Drained() if self._live:
                yield f"runs that never ended: {sorted(self._live)}"

    def _is_over(self, made: Made, at: int) -> bool:
        begun = self._begun.get(made.run)
        if begun is None:
            return bool(made.start_ms) and at >= max(made.at, made.due_ms) + made.start_ms
        return bool(made.finish_ms) and at >= begun + made.finish_ms


class Leftovers(Rule):
    """In the end the store holds nothing of what went through it."""

    def see(self, record: Record) -> Iterator[str]:
        if isinstance(record, Drained) and record.left:
            yield f"left behind: {sorted(record.left)}"


RULES: tuple[Callable[[], Rule], ...] = (
    Concurrency,
    Liveness,
    Throttles,
    Rates,
    Order,
    Singletons,
    Outcomes,
    Gatherings,
    Timeouts,
    Leftovers,
)


def violations(history: Iterable[Record]) -> list[Violation]:
    """Everything that a history breaks, in its order."""
    rules = [rule() for rule in RULES]
    return [
        Violation(number, type(rule).__name__, text)
        for number, record in enumerate(history)
        for rule in rules
        for text in rule.see(record)
    ]
