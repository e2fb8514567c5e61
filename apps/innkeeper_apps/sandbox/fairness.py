"""Who goes next, and who has to stay outside: a bounded queue that is fair between environments and webhooks. Pure.

Environments take turns, within one environment its webhooks do, and within one webhook requests go as they came. No
webhook and no environment has more than its share of the places, whether to run or to wait: one that is slow, or sends
much, makes nobody wait but itself.
"""

from collections import deque
from typing import Generic, NamedTuple, TypeVar

import msgspec

Item = TypeVar("Item")


class Lane(NamedTuple):
    """On whose account a call goes."""

    env: str
    webhook: str


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """How many may run and wait: in all, of one environment, of one webhook."""

    running: int
    running_of_env: int
    running_of_webhook: int
    waiting: int
    waiting_of_env: int
    waiting_of_webhook: int
    bytes: int
    """What all that wait may hold together."""
    bytes_of_env: int
    bytes_of_webhook: int


class FullError(Exception):
    """No place to wait is left for this one."""


class _Account:
    """What one environment or one webhook has under way."""

    __slots__ = ("bytes", "running", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.waiting = 0
        self.bytes = 0

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting


class _Waiting(NamedTuple, Generic[Item]):
    item: Item
    size: int


class FairQueue(Generic[Item]):
    """Items that wait for their turn, and how many are having theirs."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._all = _Account()
        self._envs: dict[str, _Account] = {}
        self._webhooks: dict[Lane, _Account] = {}
        # In both, whoever had a turn goes to the end: dicts keep the order in which their keys came.
        self._turns: dict[str, dict[str, deque[_Waiting[Item]]]] = {}

    @property
    def running(self) -> int:
        """How many have their turn."""
        return self._all.running

    @property
    def waiting(self) -> int:
        """How many wait for theirs."""
        return self._all.waiting

    def put(self, lane: Lane, item: Item, size: int) -> None:
        """Let `item`, which holds `size` bytes, wait for its turn.

        Raises:
            FullError: the lane, its environment or the queue has no place left.
        """
        shares = self._shares
        env = self._envs.get(lane.env) or _Account()
        webhook = self._webhooks.get(lane) or _Account()
        for account, most, most_bytes in (
            (webhook, shares.waiting_of_webhook, shares.bytes_of_webhook),
            (env, shares.waiting_of_env, shares.bytes_of_env),
            (self._all, shares.waiting, shares.bytes),
        ):
            # One may always wait, however large: else a large one would never have its turn.
            if account.waiting >= most or (account.waiting and account.bytes + size > most_bytes):
                raise FullError
        self._envs[lane.env], self._webhooks[lane] = env, webhook
        self._turns.setdefault(lane.env, {}).setdefault(lane.webhook, deque()).append(_Waiting(item, size))
        for account in (self._all, env, webhook):
            account.waiting += 1
            account.bytes += size

    def take(self) -> Item | None:
        """Whose turn it is; None where nobody waits who may run now. Its turn lasts until `end`."""
        shares = self._shares
        if self._all.running >= shares.running:
            return None
        for env, webhooks in self._turns.items():
            if self._envs[env].running >= shares.running_of_env:
                continue
            for webhook, queue in webhooks.items():
                lane = Lane(env, webhook)
                if self._webhooks[lane].running < shares.running_of_webhook:
                    waiting = queue[0]
                    self._leave(lane, waiting)
                    for account in (self._all, self._envs[env], self._webhooks[lane]):
                        account.running += 1
                    return waiting.item
        return None

    def end(self, lane: Lane) -> None:
        """One of the lane has had its turn."""
        for account in (self._all, self._envs[lane.env], self._webhooks[lane]):
            account.running -= 1
        self._forget(lane)

    def withdraw(self, lane: Lane, item: Item) -> None:
        """`item` does not wait any more; nothing happens where it does not wait (it may have its turn)."""
        for waiting in self._turns.get(lane.env, {}).get(lane.webhook, ()):
            if waiting.item is item:
                self._leave(lane, waiting)
                self._forget(lane)
                return

    def _leave(self, lane: Lane, waiting: _Waiting[Item]) -> None:
        webhooks = self._turns.pop(lane.env)
        queue = webhooks.pop(lane.webhook)
        queue.remove(waiting)
        if queue:
            webhooks[lane.webhook] = queue
        if webhooks:
            self._turns[lane.env] = webhooks
        for account in (self._all, self._envs[lane.env], self._webhooks[lane]):
            account.waiting -= 1
            account.bytes -= waiting.size

    def _forget(self, lane: Lane) -> None:
        if self._webhooks[lane].idle:
            del self._webhooks[lane]
        if self._envs[lane.env].idle:
            del self._envs[lane.env]
