"""Commits what came of leased items: decided on, in pieces that one script may do, until the store has answered."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.outcomes import outcome_of
from innkeeper_engine.decide.respond import respond
from innkeeper_engine.model.calls import Answer
from innkeeper_engine.model.effects import MAX_EFFECTS, Effect, Finish, Retry
from innkeeper_engine.model.guards import Guard, KeepGuard, LeaseGuard
from innkeeper_engine.model.state import Applied, Lease
from innkeeper_executor.asking import Outcome, error_answer
from innkeeper_executor.patience import until_answered
from innkeeper_executor.surroundings import Surroundings
from innkeeper_executor.tracing import RunTraces

log = structlog.get_logger("innkeeper.worker")


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """One run that ended, for people who watch."""

    run: str
    slug: str
    status: str
    queued_ms: int
    ended_ms: int
    why: str = ""
    """Why it was skipped; empty for a run that began or might have."""


class Committer:
    """Ends leases with what came of them."""

    def __init__(
        self,
        surroundings: Surroundings,
        apply: Callable[[Guard, Sequence[Effect]], Awaitable[Applied]],
        on_run: Callable[[RunLine], None] | None = None,
        traces: RunTraces | None = None,
    ) -> None:
        """`apply` may take further work with it; `on_run` and `traces` are told each run that a commit has ended."""
        self._traces = traces or RunTraces(None)
        self._surroundings = surroundings
        self._apply = apply
        self._on_run = on_run

    async def commit(self, lease: Lease, outcome: Outcome) -> None:
        """Make true what came of a leased item.

        Raises:
            StoreError: the server refused it, and not for now only.
        """
        while True:
            context = await until_answered(lambda: self._surroundings.context(lease.env), "a read")
            effects = _decide(lease, outcome, context) if isinstance(outcome, Answer) else outcome
            status = await self._apply_all(lease, effects)
            if status is None:
                return
            # Checkpoints of this request came in between: decide again on what is true now.
            lease.seen, lease.attempt = status.seen, status.attempt
            lease.step_count, lease.state_bytes = status.step_count, status.state_bytes

    async def give_back(self, lease: Lease) -> None:
        """End the lease of a run that has ended."""
        await self._patiently(LeaseGuard(lease.item, lease.token, lease.seen, "failed"), [])

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
            LeaseGuard(lease.item, lease.token, lease.seen, outcome_of(effects)),
            effects[done:] if done + last == len(effects) else [],
        )
        if applied.status == "ok":
            self._tell(lease, effects)
        elif applied.status == "lost":
            log.info("a lease was lost before its commit", item=lease.item)
        return applied if applied.status == "stale" else None

    async def _patiently(self, guard: Guard, effects: Sequence[Effect]) -> Applied:
        """Until there is an answer. A commit that took effect already is refused the second time by its guard."""
        return await until_answered(lambda: self._apply(guard, effects), "a commit")

    def _tell(self, lease: Lease, effects: Sequence[Effect]) -> None:
        if self._on_run is None and not lease.trace:
            return
        for effect in effects:
            if not isinstance(effect, Finish):
                continue
            now_ms = self._surroundings.clock.now_ms()
            self._traces.ended(lease, effect.status, now_ms)
            if self._on_run is not None:
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
        log.exception("an answer could not be decided on", item=lease.item)
        return respond(
            lease, error_answer("the server could not process the app's answer; its log says why"), context
        )


def _last_piece(effects: Sequence[Effect]) -> int:
    """How many of the last effects must go with the end of the lease: all that fit, or those that end or retry."""
    if len(effects) <= MAX_EFFECTS:
        return len(effects)
    ending = next((n for n, effect in enumerate(effects) if isinstance(effect, Finish | Retry)), len(effects))
    return min(len(effects) - ending, MAX_EFFECTS)
