"""Starts the runs of debounces and batches that are due."""

import asyncio
from collections.abc import Sequence

import structlog

from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.gathered import fire_gathered
from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.guards import GatherGuard
from innkeeper_engine.model.state import Gathered, StoredEvent
from innkeeper_engine.store.store import Store
from innkeeper_executor.applying import Apply, apply_decided
from innkeeper_executor.surroundings import Surroundings

log = structlog.get_logger("innkeeper.executor")


class Gatherings:
    """Decides on gatherings that are closed. One that is decided on twice starts one run."""

    def __init__(self, store: Store, surroundings: Surroundings, apply: Apply) -> None:
        self._store = store
        self._surroundings = surroundings
        self._apply = apply

    async def fire(self, gathered: Gathered) -> None:
        """Start the run of a gathering, as the registry says now.

        While its function is gone and may come back, nothing is done: the gathering comes up again by itself. Of one that
        does not come back it is dropped. Two round trips at least, none where it waits.

        Raises:
            StoreError, StoreUnavailableError: the store did not do it, or nobody knows; it comes up again.
        """
        if self._waits(gathered, await self._surroundings.context(gathered.env)):
            return
        found = await asyncio.gather(
            *(self._store.event(gathered.env, event_id) for event_id in gathered.events)
        )
        events = [event for event in found if event is not None]
        effects: Sequence[Effect] = []

        def decide(context: Context) -> Sequence[Effect] | None:
            nonlocal effects
            if self._waits(gathered, context):
                return None
            entry = context.registry.functions.get(gathered.slug)
            effects = [] if entry is None else fire_gathered(entry, gathered, events, context)
            return effects

        guard = GatherGuard(gathered.id)
        applied = await apply_decided(self._surroundings, self._apply, gathered.env, guard, decide)
        if applied is not None and applied.status == "ok" and not effects:
            self._tell(gathered, events)

    def _waits(self, gathered: Gathered, context: Context) -> bool:
        if not context.registry.may_come_back(gathered.slug):
            return False
        log.debug(
            "gathered events wait for their function",
            kind=gathered.kind,
            env=gathered.env,
            function=gathered.slug,
        )
        return True

    def _tell(self, gathered: Gathered, events: Sequence[StoredEvent]) -> None:
        log.warning(
            "gathered events were dropped: "
            + ("their function is gone" if events else "none of them is kept"),
            kind=gathered.kind,
            env=gathered.env,
            function=gathered.slug,
            events=len(gathered.events),
        )
