"""Works leased items: what is under way, how much more may be, and how it is called off."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import structlog
from structlog.contextvars import bind_contextvars

from innkeeper_apps.driver import Driver
from innkeeper_engine.model.calls import Target
from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.guards import Guard, LeaseGuard
from innkeeper_engine.model.state import Applied, Lease
from innkeeper_engine.store.store import Store
from innkeeper_executor.asking import Asker, Outcome
from innkeeper_executor.commits import Committer, RunLine
from innkeeper_executor.fetching import Fetcher
from innkeeper_executor.surroundings import Surroundings
from innkeeper_executor.tracing import RunTraces

__all__ = ["RunLine", "Worker"]

TOKENS_A_COMMIT = 4
"""How many items one commit may bring: its own successor, and some more while there is room."""

log = structlog.get_logger("innkeeper.worker")


class _Work:
    """One leased item under way."""

    __slots__ = ("asking", "ended", "lease", "lost", "task")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.task: asyncio.Task[None] | None = None
        self.asking = False
        """The request is under way, and may be aborted. A commit never is: its reply may bring leases."""
        self.ended = False
        """Its run has ended: nothing that the app says counts."""
        self.lost = False
        """The lease is another's."""

    @property
    def called_off(self) -> bool:
        """Whether there is no point in asking."""
        return self.ended or self.lost

    def call_off(self) -> None:
        """Abort the request, if it is under way."""
        if self.asking and self.task is not None:
            self.asking = False
            self.task.cancel()


class Worker:
    """The requests in flight of one executor."""

    def __init__(
        self,
        store: Store,
        surroundings: Surroundings,
        driver: Driver,
        fetcher: Fetcher,
        target: Target,
        executor_id: str,
        on_run: Callable[[RunLine], None] | None = None,
        traces: RunTraces | None = None,
    ) -> None:
        self._store = store
        self._traces = traces or RunTraces(None)
        self._surroundings = surroundings
        self._asker = Asker(store, surroundings, driver, fetcher, target, store.metrics)
        self._committer = Committer(surroundings, self.apply, on_run, self._traces)
        self.id = executor_id
        self._working: dict[str, _Work] = {}
        self._reserved = 0
        self._spare: deque[str] = deque()
        self._accepting = True
        self._aborting = False
        self._changed = asyncio.Event()

    # ---- capacity

    @property
    def free(self) -> int:
        """How many more items may be taken now."""
        return self._room(0)

    def _room(self, leaving: int) -> int:
        if not self._accepting:
            return 0
        taken = len(self._working) - leaving + self._reserved
        return max(0, self._surroundings.settings.capacity - taken)

    @property
    def leases(self) -> list[tuple[str, str]]:
        """(item, token) of what is under way."""
        return [(work.lease.item, token) for token, work in self._working.items()]

    @property
    def tokens(self) -> list[str]:
        """Tokens of what is under way."""
        return list(self._working)

    async def wait_for_room(self) -> None:
        """Until something may be taken."""
        while self.free == 0:
            self._changed.clear()
            await self._changed.wait()

    async def wait_until_idle(self) -> None:
        """Until nothing is under way."""
        while self._working:
            self._changed.clear()
            await self._changed.wait()

    def stop_accepting(self) -> None:
        """Take no new item; what is under way goes on."""
        self._accepting = False
        self._changed.set()

    def take_tokens(self, most: int, *, leaving: int = 0) -> list[str]:
        """Reserve room for up to `most` items and give their tokens; `settle_tokens` must follow.

        `leaving`: how many of those under way end with the command that the tokens are for.
        """
        count = min(most, self._room(leaving))
        self._reserved += count
        return [self._spare.popleft() if self._spare else self._surroundings.new_id() for _ in range(count)]

    def settle_tokens(self, tokens: Sequence[str], leases: Iterable[Lease] | None) -> None:
        """Begin what was leased under these tokens. None: no answer came, so no token may be used again."""
        self._reserved -= len(tokens)
        self._changed.set()
        if leases is None:
            return
        used = set()
        for lease in leases:
            used.add(lease.token)
            self._begin(lease)
        self._spare.extend(token for token in tokens if token not in used)

    async def apply(self, guard: Guard, effects: Sequence[Effect], *, registry: int | None = None) -> Applied:
        """Apply, and begin whatever work the answer brings. `registry`: as `Store.apply`.

        Raises:
            StoreUnavailableError: no answer came; a lease that it brought goes back with the next hello.
        """
        # The request of a commit is over: its place is its successor's.
        tokens = self.take_tokens(TOKENS_A_COMMIT, leaving=1 if isinstance(guard, LeaseGuard) else 0)
        applied = None
        try:
            applied = await self._store.apply(
                guard, effects, executor=self.id, tokens=tokens, registry=registry
            )
        finally:
            self.settle_tokens(tokens, applied.leases if applied else None)
        self._surroundings.saw_version(applied.registry)
        return applied

    # ---- what others say about our work

    def run_ended(self, token: str) -> None:
        """The run of this lease has ended: abort the request, then give the slot back."""
        work = self._working.get(token)
        if work is not None:
            work.ended = True
            work.call_off()

    def lease_lost(self, token: str) -> None:
        """The lease is another's now: abort the request and forget it."""
        work = self._working.get(token)
        if work is not None:
            work.lost = True
            work.call_off()

    async def abort_all(self) -> None:
        """Abort everything, for good; the leases are not given back here."""
        self._aborting = True
        tasks = [work.task for work in self._working.values() if work.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- one item

    def _begin(self, lease: Lease) -> None:
        work = _Work(lease)
        self._working[lease.token] = work
        work.task = asyncio.create_task(self._work(work))
        work.task.add_done_callback(lambda _: self._forget(lease))

    def _forget(self, lease: Lease) -> None:
        self._working.pop(lease.token, None)
        self._changed.set()

    async def _work(self, work: _Work) -> None:
        lease = work.lease
        # Of this task alone: whatever is logged on the way says which run it is about.
        bind_contextvars(env=lease.env, function=lease.slug, run=lease.run)
        try:
            began_ns = self._traces.begin(lease)
            outcome = await self._ask(work)
            if outcome is not None and began_ns:
                self._traces.worked(lease, outcome, began_ns)
            if outcome is not None:
                await self._committer.commit(lease, outcome)
            elif work.ended:
                await self._committer.give_back(lease)
        except Exception:
            # The lease runs out by itself and the item is tried again, three times at most per attempt.
            log.exception("an item could not be worked", item=lease.item)

    async def _ask(self, work: _Work) -> Outcome | None:
        """What came of the item; None when it was called off."""
        if work.called_off:
            return None
        work.asking = True
        try:
            return await self._asker.ask(work.lease)
        except asyncio.CancelledError:
            if self._aborting or not work.called_off:
                raise
            return None
        finally:
            work.asking = False
