"""Cancels the runs that were there when somebody cancelled all of a kind, page by page.

What begins later is cancelled as it starts, by whoever decides on it. A page takes seconds at most and its end is
written down: whoever works on a cancellation may end at any time, and another one goes on from there.
"""

from collections.abc import Sequence
from typing import Literal

import structlog

from innkeeper_engine.compiled import CompiledCancellation
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.sweeping import LiveRun, in_force, needs_events, sweep_effects
from innkeeper_engine.model.cancellations import Cancellation, Sweep
from innkeeper_engine.model.effects import Effect, Swept
from innkeeper_engine.model.guards import NoGuard, SweepGuard
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store
from innkeeper_executor.applying import Apply, apply_decided
from innkeeper_executor.surroundings import Surroundings

PAGE = 256
"""About so many runs are looked at before it is written down how far that is."""
CANCELLED_AT_ONCE = 64
"""Runs that one script cancels at most: each ends its requests and waits, and tells of its end."""

log = structlog.get_logger("innkeeper.executor")


class Sweeps:
    """Goes through the runs that cancellations of many runs are about. Two who do so do the same."""

    def __init__(self, store: Store, surroundings: Surroundings, apply: Apply) -> None:
        self._store = store
        self._environments = EnvironmentStore(store)
        self._surroundings = surroundings
        self._apply = apply

    async def go_on(self, env: str, cancellation_id: str) -> None:
        """The next page of a cancellation's runs, or what comes after the last.

        Raises:
            StoreError, StoreUnavailableError: the store did not do it, or nobody knows; it comes up again.
        """
        context = await self._surroundings.context(env)
        config = context.registry.cancellations.get(cancellation_id)
        if config is None:
            return  # Deleted a moment ago, or of a later version, whose executors see to it.
        sweep = await self._store.sweep(env, cancellation_id)
        cancellation = in_force(context.registry, cancellation_id)
        if cancellation is None:
            await self._forget(env, config, sweep)
        elif sweep.phase == "done":
            await self._end(env, config, sweep, context)
        else:
            await self._page(env, cancellation, sweep, sweep.phase)

    async def _page(
        self,
        env: str,
        cancellation: CompiledCancellation,
        sweep: Sweep,
        phase: Literal["queued", "begun"],
    ) -> None:
        config = cancellation.config
        cursor, runs = await self._store.scan_live_runs(env, config.slug, phase, sweep.cursor, PAGE)
        looked = cancelled = 0
        while runs:
            # No more at once than a few megabytes of events.
            heads = await self._store.run_heads(runs, events=needs_events(cancellation))
            live = [LiveRun(*head) for head in heads if head is not None]
            over = [run for run, head in zip(runs, heads, strict=False) if head is None]
            if over:
                await self._store.forget_live_runs(env, config.slug, over)
            ended = await self._cancel(env, config.id, live)
            if ended is None:
                return
            looked, cancelled, runs = looked + len(live), cancelled + ended, runs[len(heads) :]
        after = phase if cursor != "0" else "begun" if phase == "queued" else "done"
        await self._write(env, config.id, sweep, Swept(env, config.id, after, cursor, looked, cancelled, 0))

    async def _cancel(self, env: str, cancellation_id: str, runs: Sequence[LiveRun]) -> int | None:
        """Cancel those of the runs that are covered; how many, None where the cancellation holds no more."""
        covered: list[Effect] = []
        cancelled = 0
        for first in range(0, len(runs), CANCELLED_AT_ONCE):
            some = runs[first : first + CANCELLED_AT_ONCE]

            def decide(context: Context, some: Sequence[LiveRun] = some) -> Sequence[Effect] | None:
                nonlocal covered
                cancellation = in_force(context.registry, cancellation_id)
                covered = [] if cancellation is None else sweep_effects(cancellation, some, context)
                return None if cancellation is None else covered

            if await apply_decided(self._surroundings, self._apply, env, NoGuard(), decide) is None:
                return None
            cancelled += len(covered)
        return cancelled

    async def _end(self, env: str, config: Cancellation, sweep: Sweep, context: Context) -> None:
        """All runs have been looked at: it is shown for a while, where somebody has asked for it."""
        if config.why == "function":
            # Nothing of the function is left to wait for it. Where it comes back just now, nothing is done.
            await self._store.configure(
                env,
                gone=[f"{env}/{config.slug}"],
                cancellations=[(config.id, b"", 0)],
                expect=context.registry.version,
            )
            log.info("what a function that is gone had begun is cancelled", env=env, function=config.slug)
            return
        keep_ms = await self._environments.runs_keep_s(env) * 1000
        shown_until_ms = max(config.before_ms, config.created_ms) + keep_ms
        if context.now_ms < shown_until_ms:
            later = Swept(env, config.id, "done", "0", 0, 0, shown_until_ms)
            await self._write(env, config.id, sweep, later)
        else:
            await self._forget(env, config, sweep)

    async def _forget(self, env: str, config: Cancellation, sweep: Sweep) -> None:
        await self._write(env, config.id, sweep, Swept(env, config.id, "forgotten", "", 0, 0, 0))

    async def _write(self, env: str, cancellation_id: str, sweep: Sweep, swept: Swept) -> None:
        applied = await self._apply(SweepGuard(env, cancellation_id, sweep.revision), [swept])
        if applied.status != "ok":
            log.info("another executor swept the same page", env=env, cancellation=cancellation_id)
