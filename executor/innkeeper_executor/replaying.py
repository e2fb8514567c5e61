"""Runs once more what somebody wants of many runs at once, page by page.

What a few runs come to, and how far that is, are one commit: whoever works on a replay may end at any time, and another
one goes on from there, with no run replayed twice and none left out.
"""

from collections.abc import Sequence
from typing import Final

import structlog

from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.replaying import (
    MOST_QUEUED,
    CompiledReplay,
    Portion,
    read_replay,
    replay_effects,
    waits_for,
)
from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.guards import Guard, ReplayGuard
from innkeeper_engine.model.replays import FoundRun, Replay, Replayed, ReplayPage, ReplayProgress, SetReplay
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store
from innkeeper_executor.applying import Apply, apply_decided
from innkeeper_executor.surroundings import Surroundings

PAGE = 256
"""Runs that one script looks at."""
AT_ONCE: Final = 16
"""Runs that one commit makes at most: each is a start, perhaps a cancellation, and a note per key that gave nothing."""
HELD_MS: Final = 5_000
"""After this long it is looked again whether a function that starts nothing does so by now."""
QUEUE_MS: Final = 1_000
"""The same where many of its runs have not begun."""
UNFINISHED_MS: Final = 5_000
"""After this long another executor goes on where this one is not at the end of its page."""

log = structlog.get_logger("innkeeper.executor")


class Replays:
    """Goes through the runs that replays are about. Of two who do so, one is refused."""

    def __init__(self, store: Store, surroundings: Surroundings, apply: Apply) -> None:
        self._store = store
        self._environments = EnvironmentStore(store)
        self._surroundings = surroundings
        self._apply = apply

    async def go_on(self, env: str, replay_id: str) -> None:
        """The next page of a replay's runs, or what comes after the last.

        Raises:
            StoreError, StoreUnavailableError: the store did not do it, or nobody knows; it comes up again.
        """
        body = await self._store.replay(env, replay_id)
        replay = None if body is None else read_replay(body)
        if replay is None:
            return  # Stopped a moment ago, or of a later version, whose executors see to it.
        progress = await self._store.replay_progress(env, replay_id)
        context = await self._surroundings.context(env)
        if progress.phase == "done":
            await self._end(env, replay.config, progress, context)
        elif held := await self._held(env, replay.config, context):
            wait_ms = QUEUE_MS if held == "queue" else HELD_MS
            await self._put_off(env, replay.config, progress, "waiting", held, context.now_ms + wait_ms)
        else:
            await self._page(env, replay, progress)

    async def _held(self, env: str, replay: Replay, context: Context) -> str:
        """Why no run is to be made now; empty where some are."""
        held = waits_for(context.registry, replay.slug)
        if held:
            return held
        counts = await self._store.function_counts(env, [replay.slug])
        return "queue" if counts[replay.slug].queued >= MOST_QUEUED else ""

    async def _page(self, env: str, replay: CompiledReplay, progress: ReplayProgress) -> None:
        page = await self._store.replay_page(env, replay.config, progress, most=PAGE)
        # From its end on, however long it took.
        shown_ms = await self._environments.runs_keep_s(env) * 1000 if page.is_last else 0
        # One portion more than there are runs: it says how far the page went.
        for first in range(0, len(page.found) + 1, AT_ONCE):
            some = page.found[first : first + AT_ONCE]
            is_end = first + AT_ONCE > len(page.found)
            looked = page.found[first - 1].looked if first else 0
            upto = _after(page, some, is_end, shown_ms)
            guard = ReplayGuard(env, replay.config.id, progress.revision + first // AT_ONCE)
            if not await self._portion(env, replay, guard, some, upto._replace(looked=upto.looked - looked)):
                return

    async def _portion(
        self, env: str, replay: CompiledReplay, guard: Guard, some: Sequence[FoundRun], upto: Replayed
    ) -> bool:
        """Make one more of each of these runs; False where nothing more is to be done of the page."""
        seq = await self._store.last_event(env)

        def decide(context: Context) -> Sequence[Effect] | None:
            if waits_for(context.registry, replay.config.slug):
                return None
            entry = context.registry.functions[replay.config.slug]
            made = replay_effects(replay, entry, some, seq=seq, context=context)
            due_ms = 0 if upto.due_ms == 0 else context.now_ms + upto.due_ms
            return [*made.effects, _counted(upto, env, replay.config.id, made, due_ms)]

        applied = await apply_decided(self._surroundings, self._apply, env, guard, decide)
        if applied is not None and applied.status != "ok":
            log.info("a replay was stopped, or is another executor's", env=env, replay=replay.config.id)
        return applied is not None and applied.status == "ok"

    async def _end(self, env: str, replay: Replay, progress: ReplayProgress, context: Context) -> None:
        """It is shown for as long as runs are kept."""
        shown_until_ms = replay.created_ms + await self._environments.runs_keep_s(env) * 1000
        if context.now_ms < shown_until_ms:
            await self._put_off(env, replay, progress, "done", "", shown_until_ms)
        else:
            await self._write(env, replay.id, progress, [SetReplay(env, replay.id, b"", 0)])

    async def _put_off(
        self, env: str, replay: Replay, progress: ReplayProgress, phase: str, why: str, due_ms: int
    ) -> None:
        at = (progress.at_ms, progress.last)
        later = Replayed(env, replay.id, phase, why, *at, 0, 0, 0, due_ms)
        await self._write(env, replay.id, progress, [later])

    async def _write(
        self, env: str, replay_id: str, progress: ReplayProgress, effects: Sequence[Effect]
    ) -> None:
        await self._apply(ReplayGuard(env, replay_id, progress.revision), effects)


def _after(page: ReplayPage, some: Sequence[FoundRun], is_end: bool, shown_ms: int) -> Replayed:
    """How far a replay is after these runs of a page; `looked` counts from the page's beginning, `due_ms` from now.

    `shown_ms`: for how long it is shown once it is done.
    """
    if is_end:
        phase = "done" if page.is_last else "running"
        return Replayed("", "", phase, "", page.at_ms, page.last, page.looked, 0, 0, shown_ms)
    last = some[-1]
    return Replayed("", "", "running", "", last.at_ms, last.run, last.looked, 0, 0, UNFINISHED_MS)


def _counted(upto: Replayed, env: str, replay_id: str, made: Portion, due_ms: int) -> Replayed:
    return upto._replace(
        env=env, id=replay_id, replayed=made.replayed, unavailable=made.unavailable, due_ms=due_ms
    )
