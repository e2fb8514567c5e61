"""Transforms that cost their process again and again are not run for a while. Pure.

Ending a process and starting another costs the machine far more than a call. Whoever's transform does so many times in a
row learns nothing new from another time.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from innkeeper_apps.sandbox.fairness import Lane

IN_A_ROW: Final = 5
"""Calls that cost their process before the next ones are not run."""
FOR_S: Final = 5.0
"""For so long; then one call is run, and where that goes wrong too, as long again."""
MOST_KNOWN: Final = 10_000
"""Webhooks whose failures are remembered; the oldest are forgotten first."""


class Suspensions:
    """Remembers of each webhook how often its transform has just cost a process."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._failures: OrderedDict[Lane, tuple[int, float]] = OrderedDict()
        """How many in a row, and when the last one was."""

    def wait_s(self, lane: Lane) -> float:
        """How long nothing is run for this webhook; 0: it is."""
        count, last_s = self._failures.get(lane, (0, 0.0))
        if count < IN_A_ROW:
            return 0.0
        return max(0.0, last_s + FOR_S - self._monotonic_s())

    def try_again(self, lane: Lane) -> bool:
        """Whether this call is the one that is run to see if the transform still goes wrong.

        Until that is known, or `FOR_S` have passed, nothing else is run.
        """
        count, last_s = self._failures.get(lane, (0, 0.0))
        now_s = self._monotonic_s()
        if count < IN_A_ROW or now_s < last_s + FOR_S:
            return False
        self._failures[lane] = count, now_s
        return True

    def failed(self, lane: Lane) -> None:
        """A call has cost its process."""
        count, _ = self._failures.pop(lane, (0, 0.0))
        if len(self._failures) >= MOST_KNOWN:
            self._failures.popitem(last=False)
        self._failures[lane] = count + 1, self._monotonic_s()

    def went_well(self, lane: Lane) -> None:
        """A call has left its process as it was, whatever it has returned."""
        self._failures.pop(lane, None)
