"""Works leased items: calls apps, decides what their answers mean, commits, and takes the next item with it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import msgspec
import orjson
import structlog

from innkeeper_apps.driver import Driver
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.fetches import fetched
from innkeeper_engine.decide.respond import attempts_of, respond
from innkeeper_engine.model.calls import DISCOVER, Answer, Call, Target
from innkeeper_engine.model.effects import (
    MAX_EFFECTS,
    Effect,
    Finish,
    Guard,
    KeepGuard,
    LeaseGuard,
    Retry,
)
from innkeeper_engine.model.environments import wire_name
from innkeeper_engine.model.state import FETCH, PLANNED, Applied, Lease
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_engine.store.store import Store
from innkeeper_executor.fetching import Fetcher
from innkeeper_executor.surroundings import Surroundings

MAX_SENT_BYTES = 4 * 1024 * 1024 - 1024
"""State above this is not sent: the SDK asks for it (`use_api`)."""

TOKENS_A_COMMIT = 4
"""How many items one commit may bring: its own successor, and some more while there is room."""

_PASSING = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "NOREPLICAS",
    "MISCONF",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "OOM",
    "BUSY",
)

T = TypeVar("T")

log = structlog.get_logger("innkeeper.worker")


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """One run that ended, for people who watch."""

    run: str
    slug: str
    status: str
    queued_ms: int
    ended_ms: int


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
    ) -> None:
        self._store = store
        self._surroundings = surroundings
        self._driver = driver
        self._fetcher = fetcher
        self._target = target
        self.id = executor_id
        self._on_run = on_run
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

    async def apply(self, guard: Guard, effects: Sequence[Effect], most: int = TOKENS_A_COMMIT) -> Applied:
        """Apply, and begin whatever work the answer brings.

        Raises:
            StoreUnavailableError: no answer came; a lease that it brought goes back with the next hello.
        """
        # The request of a commit is over: its place is its successor's.
        tokens = self.take_tokens(most, leaving=1 if isinstance(guard, LeaseGuard) else 0)
        applied = None
        try:
            applied = await self._store.apply(guard, effects, executor=self.id, tokens=tokens)
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
        try:
            answer = await self._ask(work)
            if answer is not None:
                await self._commit(lease, answer)
            elif work.ended:
                await self._patiently(LeaseGuard(lease.item, lease.token, lease.seen), [])
        except Exception:
            # The lease runs out by itself and the item is tried again, three times at most per attempt.
            log.exception("an item could not be worked", run=lease.run, function=lease.slug, item=lease.item)

    async def _ask(self, work: _Work) -> "Answer | list[Effect] | None":
        """What the app says; None when the request was called off."""
        if work.called_off:
            return None
        work.asking = True
        try:
            return await self._perform(work.lease)
        except asyncio.CancelledError:
            if self._aborting or not work.called_off:
                raise
            return None
        finally:
            work.asking = False

    async def _perform(self, lease: Lease) -> "Answer | list[Effect]":
        context = await self._context(lease)
        if lease.expiries >= self._surroundings.settings.lost_leases:
            return _lost_too_often(lease, context)
        if lease.kind == FETCH:
            return await self._fetcher.fetch(lease, context, attempts_of(lease, context))
        entry = context.registry.functions.get(lease.slug)
        if entry is None:
            return _error(f"function {lease.slug!r} is not registered any more")
        try:
            target = self._surroundings.target(entry.app, self._target)
        except ValueError as error:
            return _error(f"the signing keys of the app {entry.app.id!r} cannot be used: {error}")
        state, use_api = await self._until_answered(lambda: self._state(lease), "a read")
        call = Call(
            url=entry.config.url,
            slug=lease.slug,
            fn_uuid=entry.uuid,
            run_id=lease.run,
            step_id=lease.step if lease.kind == PLANNED else DISCOVER,
            attempt=lease.attempt,
            max_attempts=attempts_of(lease, context),
            item_id=lease.item,
            request_id=lease.token,
            generation=lease.generation,
            version=lease.version,
            plan_only=lease.plan_only,
            use_api=use_api,
            stack=lease.stack,
            steps={} if use_api else {step: state[step] for step in lease.stack if step in state},
            events=tuple(state[f"e:{n}"] for n in range(lease.event_count) if f"e:{n}" in state),
            env=wire_name(lease.env),
        )
        # All that a decision reads of it; a call may take hours, and there are many.
        lease.payload = {"e:0": state.get("e:0", b"{}")}
        del state
        timeout_s = self._surroundings.settings.request_timeout_s
        return await self._driver.call(call, target, timeout_s=timeout_s)

    async def _state(self, lease: Lease) -> tuple[dict[str, bytes], bool]:
        if lease.payload is not None:
            return lease.payload, False
        if lease.state_bytes <= MAX_SENT_BYTES:
            return await self._store.run_state(lease.run), False
        first = (await self._store.run_payload(lease.run, "e:0"))[0]
        return {"e:0": first or b"{}"}, True

    async def _commit(self, lease: Lease, answer: "Answer | list[Effect]") -> None:
        while True:
            context = await self._context(lease)
            effects = _decide(lease, answer, context) if isinstance(answer, Answer) else answer
            status = await self._apply_all(lease, effects)
            if status is None:
                return
            # Checkpoints of this request came in between: decide again on what is true now.
            lease.seen, lease.attempt = status.seen, status.attempt
            lease.step_count, lease.state_bytes = status.step_count, status.state_bytes

    async def _apply_all(self, lease: Lease, effects: list[Effect]) -> Applied | None:
        """Commit in pieces of what one script may do; the lease ends with the last. Returns the answer if stale."""
        last = _last_piece(effects)
        done = 0
        while len(effects) - done > last:
            piece = effects[done : done + min(MAX_EFFECTS, len(effects) - done - last)]
            applied = await self._patiently(KeepGuard(lease.item, lease.token), piece)
            if applied.status != "ok":
                break
            done += len(piece)
        applied = await self._patiently(
            LeaseGuard(lease.item, lease.token, lease.seen),
            effects[done:] if done + last == len(effects) else [],
        )
        if applied.status == "ok":
            self._tell(lease, effects)
        elif applied.status == "lost":
            log.info("a lease was lost before its commit", run=lease.run, item=lease.item)
        return applied if applied.status == "stale" else None

    async def _context(self, lease: Lease) -> Context:
        return await self._until_answered(lambda: self._surroundings.context(lease.env), "a read")

    async def _patiently(self, guard: Guard, effects: Sequence[Effect]) -> Applied:
        """Until there is an answer. A commit that took effect already is refused the second time by its guard."""
        return await self._until_answered(lambda: self.apply(guard, effects), "a commit")

    async def _until_answered(self, ask: Callable[[], Awaitable[T]], what: str) -> T:
        """What the store says, asked again while it does not answer: an outage costs an item only time."""
        delay_s = 0.02
        while True:
            try:
                return await ask()
            except StoreUnavailableError as error:
                log.warning("the store did not answer; it is asked again", what=what, reason=str(error))
            except StoreError as error:
                if not _passing(error):
                    raise
                log.warning("the store refused for now; it is asked again", what=what, reason=str(error))
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 1.0)

    def _tell(self, lease: Lease, effects: Sequence[Effect]) -> None:
        if self._on_run is None:
            return
        for effect in effects:
            if isinstance(effect, Finish):
                now_ms = self._surroundings.clock.now_ms()
                self._on_run(
                    RunLine(
                        run=lease.run,
                        slug=lease.slug,
                        status=effect.status,
                        queued_ms=lease.queued_ms,
                        ended_ms=now_ms,
                    )
                )


def _decide(lease: Lease, answer: Answer, context: Context) -> list[Effect]:
    """What the answer means. One that cannot be decided on costs an attempt; asked at once, the app would repeat it."""
    try:
        return respond(lease, answer, context)
    except Exception:
        log.exception(
            "an answer could not be decided on", run=lease.run, function=lease.slug, item=lease.item
        )
        return respond(
            lease, _error("the server could not process the app's answer; its log says why"), context
        )


def _last_piece(effects: Sequence[Effect]) -> int:
    """How many of the last effects must go with the end of the lease: all that fit, or those that end or retry."""
    if len(effects) <= MAX_EFFECTS:
        return len(effects)
    ending = next((n for n, effect in enumerate(effects) if isinstance(effect, Finish | Retry)), len(effects))
    return min(len(effects) - ending, MAX_EFFECTS)


def _passing(error: StoreError) -> bool:
    """Whether the server refuses for now only (starting, failing over, without replicas, memory or disk)."""
    return str(error).startswith(_PASSING)


def _lost_too_often(lease: Lease, context: Context) -> "Answer | list[Effect]":
    """A request that seems to end executors has used up an attempt; it is not made this time."""
    reason = f"the executor that made this request was lost {lease.expiries} times in a row"
    if lease.kind != FETCH:
        return _error(reason)
    memo = context.canonical({"error": {"message": reason, "name": "Error"}})
    return fetched(lease, None, memo, reason, attempts_of(lease, context), context)


def _error(reason: str) -> Answer:
    return Answer(kind="error", error=orjson.dumps({"message": reason, "name": "Error"}), reason=reason)
