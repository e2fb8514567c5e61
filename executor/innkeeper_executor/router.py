"""Routes events to what they cancel, resume and start, in the order in which they were accepted."""

from collections.abc import Sequence

import structlog

from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.route import (
    Arrival,
    Skipped,
    batch_of,
    start_effects,
    waiter_effects,
    waiter_queries,
)
from innkeeper_engine.model.effects import MAX_EFFECTS, Cancel, Effect, Note, Single, Start
from innkeeper_engine.model.guards import CursorGuard
from innkeeper_engine.model.state import Peeked, Waiter, WaiterQuery
from innkeeper_engine.store.store import Store
from innkeeper_executor.applying import Apply
from innkeeper_executor.surroundings import Surroundings

WAITERS_AT_ONCE = 200

FROM_THE_START = "w::"

_TAKING_OVER = MAX_EFFECTS // 16

log = structlog.get_logger("innkeeper.router")


class Router:
    """Moves the cursor of an environment's stream.

    Another router's interference, and a change of the registry, show as a refusal: then what is there is looked at anew.
    """

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
                await self._route_large(peeked, Arrival(peeked.events[0]), context, FROM_THE_START)
                return True
        await self._route_batch(peeked, arrivals, found, context)
        return True

    async def _route_batch(
        self, peeked: Peeked, arrivals: list[Arrival], found: list[list[list[Waiter]]], context: Context
    ) -> None:
        effects: list[Effect] = []
        routed, at, load = 0, peeked.cursor, 0
        for arrival, waiters in zip(arrivals, found, strict=False):
            flat = [waiter for group in waiters for waiter in group]
            own = self._meets(arrival, flat, context) + self._starts(arrival, context)
            own_load = sum(map(weight, own))
            if load + own_load > MAX_EFFECTS:
                if routed and not await self._move(context, at, "", routed, "", effects):
                    return
                at, routed, effects, load = at + routed, 0, [], 0
                if own_load > MAX_EFFECTS:
                    pieces = Peeked(peeked.registry, peeked.env, at, "", [arrival.queued])
                    await self._route_large(pieces, arrival, context, FROM_THE_START)
                    return
            effects += own
            load += own_load
            routed += 1
        await self._move(context, at, "", routed, "", effects)

    async def _route_large(self, peeked: Peeked, arrival: Arrival, context: Context, position: str) -> None:
        """One event in pieces, from a position on that another router may have left.

        It is `w:<path>:<last pause of this index that did not match>`, then `s:<next start>:<registry version>`. Paths
        and not their numbers, since an index whose waiters are all resumed is no more. Starts are numbered in the
        order of one version of the registry: under another all are decided again, and those that are there stay.
        """
        at, within = peeked.cursor, peeked.within
        version = context.registry.version
        phase, _, rest = position.partition(":")
        where, _, after = rest.rpartition(":")
        if phase == "w":
            queries = [query for query in waiter_queries(arrival) if query.path >= where]
            for n, query in enumerate(queries):
                then = f"w:{queries[n + 1].path}:" if n + 1 < len(queries) else f"s:0:{version}"
                reached = await self._meet_waiters(
                    peeked, within, arrival, context, _page(query, after if query.path == where else ""), then
                )
                if reached is None:
                    return
                within = reached
        starts = self._starts(arrival, context)
        first = int(where) if phase == "s" and after == str(version) else 0
        while (end := _end_of_piece(starts, first)) < len(starts):
            then = f"s:{end}:{version}"
            if not await self._move(context, at, within, 0, then, starts[first:end]):
                return
            first, within = end, then
        await self._move(context, at, within, 1, "", starts[first:])

    async def _meet_waiters(
        self, peeked: Peeked, within: str, arrival: Arrival, context: Context, query: WaiterQuery, done: str
    ) -> str | None:
        """Cancel and resume who waits under one index; returns the position after it, None if the guard refused."""
        while True:
            waiters = (await self._store.waiters(peeked.env, [query]))[0]
            effects = self._meets(arrival, waiters, context)
            touched = {getattr(effect, "pause", "") for effect in effects}
            kept = [waiter.pause for waiter in waiters if waiter.pause not in touched]
            query = _page(query, kept[-1] if kept else query.after)
            is_last = len(waiters) < WAITERS_AT_ONCE
            then = done if is_last else f"w:{query.path}:{query.after}"
            if not await self._move(context, peeked.cursor, within, 0, then, effects):
                return None
            if is_last:
                return then
            within = then

    def _meets(self, arrival: Arrival, waiters: Sequence[Waiter], context: Context) -> list[Effect]:
        skipped: list[Skipped] = []
        effects = waiter_effects(arrival, waiters, context, skipped)
        _tell(arrival, skipped)
        return effects

    def _starts(self, arrival: Arrival, context: Context) -> list[Effect]:
        skipped: list[Skipped] = []
        effects = start_effects(arrival, context, skipped)
        _tell(arrival, skipped)
        return effects

    async def _move(
        self, context: Context, at: int, within: str, routed: int, then: str, effects: Sequence[Effect]
    ) -> bool:
        env, version = context.registry.env, context.registry.version
        guard = CursorGuard(env, at, within, routed, then)
        applied = await self._apply(guard, effects, registry=version)
        if applied.status == "ok":
            return True
        if self._surroundings.outdated(version, applied):
            log.info("the registry has changed; events are decided on again", env=env, at=at)
        else:
            log.info("another router moved the cursor", env=env, at=at)
        return False


def weight(effect: Effect) -> int:
    """As how many of the effects that one script may do this one counts.

    A run that takes a singleton over ends another one, with all that it waits for: sixteen such fill a script.
    """
    if isinstance(effect, Start) and any(isinstance(r, Single) and r.ids[0] for r in effect.rights):
        return _TAKING_OVER
    return 1


def _end_of_piece(effects: Sequence[Effect], first: int) -> int:
    """Where one script's share of the effects from `first` on ends: a run and what goes with it are not parted."""
    end, load = first, 0
    while end < len(effects) and (load := load + weight(effects[end])) <= MAX_EFFECTS:
        end += 1
    if end == len(effects):
        return end
    while end > first + 1 and isinstance(effects[end], Cancel | Note):
        end -= 1
    return end


def _tell(arrival: Arrival, skipped: list[Skipped]) -> None:
    """One event that cannot be decided on must not hold up those behind it; what it would have done is lost, loudly."""
    for what, error in skipped:
        log.error(
            "an event met something that could not be decided and was left out",
            event_id=arrival.queued.id,
            name=arrival.queued.name,
            what=what,
            exc_info=error,
        )
    skipped.clear()


def _page(query: WaiterQuery, after: str) -> WaiterQuery:
    return query._replace(after=after, limit=WAITERS_AT_ONCE)
