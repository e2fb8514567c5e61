"""The rules of a history that are about how often: throttles and rate limits."""

from collections import defaultdict
from collections.abc import Iterator

from tests.engine.flow_records import (
    Changed,
    Made,
    Needs,
    Rating,
    Record,
    Refused,
    Rule,
    Taken,
    Throttling,
)

ROUNDING_MS = 1e-6


class Throttles(Rule):
    """In any window w there are at most w * limit / period + burst starts, as long as the settings stay.

    Where they change, each start counts by the settings of its time, or by faster ones that came after it: two starts
    are as far apart as the fastest pace in between says, unless any of its settings let more than one begin at once.
    """

    def __init__(self) -> None:
        self._starts: dict[str, list[int]] = {}
        """Those since the settings are what they are."""
        self._settings: dict[str, list[Throttling]] = {}
        """All since the last start, that of the start included."""
        self._last: dict[str, int] = {}

    def see(self, record: Record) -> Iterator[str]:
        match record:
            case Changed(throttle=throttle):
                # Also where somebody only waits: what is changed and changed back is seen nowhere else.
                for counter in self._settings:
                    if counter.partition(" ")[0] == throttle.counter:
                        self._hold(throttle._replace(counter=counter))
            case Taken(needs=Needs(throttle=Throttling() as throttle)):
                self._hold(throttle)
                yield from self._began(throttle, record.at)

    def _hold(self, throttle: Throttling) -> None:
        settings = self._settings.setdefault(throttle.counter, [])
        if settings[-1:] != [throttle]:
            settings.append(throttle)
            self._starts[throttle.counter] = []

    def _began(self, throttle: Throttling, at: int) -> Iterator[str]:
        starts, settings = self._starts[throttle.counter], self._settings[throttle.counter]
        starts.append(at)
        for n, since in enumerate(starts):
            window_ms, count = at - since, len(starts) - n
            if count > window_ms * throttle.limit / throttle.period_ms + throttle.burst + ROUNDING_MS:
                yield f"{count} starts under {throttle} in {window_ms} ms"
                break
        if len(settings) > 1 and all(each.burst == 1 for each in settings):
            apart_ms = min(each.period_ms / each.limit for each in settings)
            if (gap_ms := at - self._last[throttle.counter]) < apart_ms - ROUNDING_MS:
                yield f"2 starts in {gap_ms} ms, under {settings} one after the other"
        self._settings[throttle.counter], self._last[throttle.counter] = [throttle], at


class Rates(Rule):
    """Never more than `limit` runs are made in a period; none is refused while there were fewer."""

    def __init__(self) -> None:
        self._made: dict[str, list[int]] = defaultdict(list)
        self._since: dict[str, tuple[Rating, int]] = {}

    def see(self, record: Record) -> Iterator[str]:
        if not isinstance(record, Made | Refused):
            return
        rate = record.rights.rate
        refused = isinstance(record, Refused) and record.why == "rateLimit"
        if rate is None:
            if refused:
                yield f"{record.run} is refused by a rate limit that there is not"
            return
        made = self._made[rate.counter]
        if isinstance(record, Made):
            settings, first = self._since.get(rate.counter, (rate, 0))
            if settings != rate:
                first = len(made)
            self._since[rate.counter] = (rate, first)
            made.append(record.at)
            count = sum(at > record.at - rate.period_ms for at in made[first:])
            if count > rate.limit:
                yield f"{count} runs in one period of {rate}"
        elif refused:
            count = sum(at >= record.at - rate.period_ms for at in made)
            if count < rate.limit:
                yield f"{record.run} is refused after {count} runs in the last period of {rate}"
