"""Routes events to what they cancel, resume and start, in the order in which they were accepted."""

from collections.abc import Awaitable, Callable, Sequence

import structlog

from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.route import Arrival, batch_of, start_effects, waiter_effects, waiter_queries
from innkeeper_engine.model.effects import MAX_EFFECTS, CursorGuard, Effect, Guard
from innkeeper_engine.model.state import Applied, Peeked, Waiter, WaiterQuery
from innkeeper_engine.store.store import Store
from innkeeper_executor.surroundings import Surroundings

Apply = Callable[[Guard, Sequence[Effect]], Awaitable[Applied]]
"""Applies effects and takes whatever work the answer leases."""

WAITERS_AT_ONCE = 200

log = structlog.get_logger("innkeeper.router")


class Router:
    """Moves the cursor of an environment's stream. Another router's interference shows as a refused guard."""

    def __init__(self, store: Store, surroundings: Surroundings, apply: Apply) -> None:
        self._store = store
        self._surroundings = surroundings
        self._apply = apply

    async def route_once(self) -> bool:
        """Route what one environment has waiting; False when no environment has anything."""
        peeked = await self._store.peek(self._surroundings.settings.route_batch)
        if peeked is None:
            return False
        self._surroundings.saw_version(peeked.registry)
        context = await self._surroundings.context(peeked.env)
        arrivals = [Arrival(event) for event in peeked.events]
        if peeked.within:
            await self._route_large(peeked, arrivals[0], context, peeked.within)
            return True
        arrivals = arrivals[: batch_of(arrivals, context.registry)]
        queries = [(n, query) for n, arrival in enumerate(arrivals) for query in waiter_queries(arrival)]
        found: list[list[list[Waiter]]] = [[] for _ in arrivals]
        if queries:
            answers = await self._store.waiters(peeked.env, [query for _, query in queries])
            for (n, query), waiters in zip(queries, answers, strict=True):
                if len(waiters) >= query.limit:
                    # Too many for one script: what comes before goes first, then this event in pieces.
                    arrivals = arrivals[:n]
                    break
                found[n].append(waiters)
            if not arrivals:
                await self._route_large(peeked, Arrival(peeked.events[0]), context, "w:0:")
                return True
        await self._route_batch(peeked, arrivals, found, context)
        return True

    async def _route_batch(
        self, peeked: Peeked, arrivals: list[Arrival], found: list[list[list[Waiter]]], context: Context
    ) -> None:
        effects: list[Effect] = []
        routed, at = 0, peeked.cursor
        for arrival, waiters in zip(arrivals, found, strict=False):
            flat = [waiter for group in waiters for waiter in group]
            own = waiter_effects(arrival, flat, context) + start_effects(arrival, context)
            if len(effects) + len(own) > MAX_EFFECTS:
                if routed and not await self._move(peeked.env, at, "", routed, "", effects):
                    return
                at, routed, effects = at + routed, 0, []
                if len(own) > MAX_EFFECTS:
                    pieces = Peeked(peeked.registry, peeked.env, at, "", [arrival.queued])
                    await self._route_large(pieces, arrival, context, "w:0:")
                    return
            effects += own
            routed += 1
        await self._move(peeked.env, at, "", routed, "", effects)

    async def _route_large(self, peeked: Peeked, arrival: Arrival, context: Context, position: str) -> None:
        """One event in pieces. The position is `w:<query>:<last pause that did not match>` or `s:<next start>`."""
        env, at, within = peeked.env, peeked.cursor, peeked.within
        queries = waiter_queries(arrival)
        phase, _, rest = position.partition(":")
        index, _, after = rest.partition(":")
        n = int(index)
        while phase == "w" and n < len(queries):
            waiters = (await self._store.waiters(env, [_page(queries[n], after)]))[0]
            effects = waiter_effects(arrival, waiters, context)
            touched = {getattr(effect, "pause", "") for effect in effects}
            kept = [waiter.pause for waiter in waiters if waiter.pause not in touched]
            after = kept[-1] if kept else after
            if len(waiters) < WAITERS_AT_ONCE:
                n, after = n + 1, ""
            then = f"w:{n}:{after}"
            if not await self._move(env, at, within, 0, then, effects):
                return
            within = then
        starts = start_effects(arrival, context)
        first = n if phase == "s" else 0
        while len(starts) - first > MAX_EFFECTS:
            then = f"s:{first + MAX_EFFECTS}:"
            if not await self._move(env, at, within, 0, then, starts[first : first + MAX_EFFECTS]):
                return
            first, within = first + MAX_EFFECTS, then
        await self._move(env, at, within, 1, "", starts[first:])

    async def _move(
        self, env: str, at: int, within: str, routed: int, then: str, effects: Sequence[Effect]
    ) -> bool:
        applied = await self._apply(CursorGuard(env, at, within, routed, then), effects)
        if applied.status != "ok":
            log.info("another router moved the cursor", env=env, at=at)
        return applied.status == "ok"


def _page(query: WaiterQuery, after: str) -> WaiterQuery:
    return query._replace(after=after, limit=WAITERS_AT_ONCE)
