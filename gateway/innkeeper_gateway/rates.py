"""How many events a key may send, and how many requests a caller of the API may make: a bucket of tokens each.

A bucket is filled all the time, up to what comes in in a few seconds. Whoever finds something in it is served, whatever
he takes, and what he takes beyond it he owes: so one large request passes, and the next waits until it is paid for.
Each gateway counts for itself: behind a balancer a key has as many times the rate as there are gateways.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

EVENTS_BURST_S: Final = 1.0
"""Events that were not sent may come on top, for so long at most: each starts runs, and with more the runs of everybody
else wait while those of one sender begin (`flood` in benchmarks/)."""

REQUESTS_BURST_S: Final = 10.0
"""The same for requests to the API: people look at many pages, then at none."""

REFUSED_BYTES: Final = 32 * 1024
"""A body that is refused costs as much as one event, and as one more for so much that was unpacked or read of it."""

MOST_BUCKETS: Final = 10_000
"""The one that was used longest ago is forgotten first: mostly it is full again."""


class _Bucket:
    __slots__ = ("at_s", "tokens")

    def __init__(self, tokens: float, at_s: float) -> None:
        self.tokens = tokens
        self.at_s = at_s


class Rates:
    """The buckets of all who are counted."""

    def __init__(self, burst_s: float, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """`burst_s`: what comes in in so long is what a bucket holds at most."""
        self._burst_s = burst_s
        self._monotonic_s = monotonic_s
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def wait_s(self, who: Hashable, per_s: int, taken: int = 0) -> float:
        """How long `who` has to wait before anything more is taken from him; 0: not at all.

        `per_s`: what comes in for him a second; 0: there is no limit. `taken`: what this very request has taken already.
        """
        if not per_s:
            return 0.0
        tokens = self._filled(who, per_s).tokens
        # A whole token, so that whoever waits so long is served for certain. What was taken is not given back.
        return 0.0 if tokens + taken > 0 else (1 - tokens) / per_s

    def admit(self, who: Hashable, per_s: int, n: int) -> float:
        """`wait_s`; where that is 0, `n` are taken."""
        if not per_s:
            return 0.0
        bucket = self._filled(who, per_s)
        if bucket.tokens <= 0:
            return (1 - bucket.tokens) / per_s
        bucket.tokens -= n
        return 0.0

    def take(self, who: Hashable, per_s: int, n: int) -> None:
        """Take `n` from `who`, who may owe them."""
        if per_s:
            self._filled(who, per_s).tokens -= n

    def _filled(self, who: Hashable, per_s: int) -> _Bucket:
        now_s = self._monotonic_s()
        bucket = self._buckets.get(who)
        if bucket is None:
            if len(self._buckets) >= MOST_BUCKETS:
                self._buckets.popitem(last=False)
            bucket = self._buckets[who] = _Bucket(per_s * self._burst_s, now_s)
        else:
            self._buckets.move_to_end(who)
            bucket.tokens = min(bucket.tokens + (now_s - bucket.at_s) * per_s, per_s * self._burst_s)
            bucket.at_s = now_s
        return bucket
