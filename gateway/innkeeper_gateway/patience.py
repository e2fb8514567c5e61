"""Refusals of somebody who does not stop asking come late: each costs a little, and so they cost that little seldom.

An answer is held back, and with it the connection that it is for: whoever waits for it asks nothing else on this one,
and a proxy that has it in use sends other people's requests on others. (Reading less from a connection, or ending it,
would hurt those, or cost more than the answer.) What is served is never held back.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final

from innkeeper_gateway.rates import Rates

LONGEST_S: Final = 5.0
"""How long a refusal is held back at most: shorter than senders wait."""
MOST_HELD: Final = 4_000
"""Refusals that are held back at the same time, in all."""
MOST_HELD_EACH: Final = 1_000
"""And of one sender."""


class Patience:
    """Who was refused how often, and the refusals that are held back now."""

    def __init__(self, rates: Rates, per_s: int, chance: Callable[[], float] = random.random) -> None:
        """`per_s`: refusals a second that one sender gets at once, ten times as many in a row; 0: all.

        `chance`: from 0 to 1, so that many who came at once do not come again at once.
        """
        self._chance = chance
        self._rates = rates
        self._per_s = per_s
        self._ended = asyncio.Event()
        self._held: Counter[Hashable] = Counter()

    @property
    def held(self) -> int:
        """Refusals that are held back now."""
        return self._held.total()

    async def hold(self, who: Hashable) -> bool:
        """Wait until `who` may be told that he is refused.

        Returns False where too many wait already: tell him at once, and end the connection.
        """
        counted = ("refused", who)
        wait_s = self._rates.wait_s(counted, self._per_s)
        if wait_s < LONGEST_S:
            # He does not owe more than that: once he behaves he is forgiven soon.
            self._rates.take(counted, self._per_s, 1)
        if not wait_s or self._ended.is_set():
            return True
        if self.held >= MOST_HELD or self._held[who] >= MOST_HELD_EACH:
            return False
        self._held[who] += 1
        try:
            async with asyncio.timeout(min(wait_s, LONGEST_S) * (1 - self._chance() / 2)):
                await self._ended.wait()
        except TimeoutError:
            return True
        finally:
            self._held[who] -= 1
            if not self._held[who]:
                del self._held[who]
        return True

    def end(self) -> None:
        """Hold back nothing any more: the server is about to stop."""
        self._ended.set()
