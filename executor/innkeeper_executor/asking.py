"""What is done for one leased item: the app is called, a request is made in its place, or the item is keyed again."""

from time import perf_counter
from typing import TypeAlias

import orjson

from innkeeper_apps.driver import Driver
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.fetches import fetched
from innkeeper_engine.decide.keying import rekey
from innkeeper_engine.decide.payloads import EDITED, input_to_send
from innkeeper_engine.decide.respond import attempts_of
from innkeeper_engine.metrics import Metrics
from innkeeper_engine.model.calls import DISCOVER, Answer, Call, Target
from innkeeper_engine.model.effects import Effect, Retry
from innkeeper_engine.model.environments import wire_name
from innkeeper_engine.model.state import FETCH, PLANNED, START, Lease
from innkeeper_engine.registry import FunctionEntry
from innkeeper_engine.store.store import Store
from innkeeper_executor.fetching import Fetcher
from innkeeper_executor.limiting import Limits
from innkeeper_executor.patience import until_answered
from innkeeper_executor.surroundings import Surroundings
from innkeeper_executor.tracing import onward

MAX_SENT_BYTES = 4 * 1024 * 1024 - 1024
"""State above this is not sent: the SDK asks for it (`use_api`)."""

AWAY_MS = 1_000
"""How long an item is put off that was leased in the moment in which its function went."""

Outcome: TypeAlias = Answer | list[Effect]
"""What the app said, still to be decided on; or what is decided already."""


class Asker:
    """Does what an item wants. May be cancelled at any time: nothing of a run is committed here."""

    def __init__(
        self,
        store: Store,
        surroundings: Surroundings,
        driver: Driver,
        fetcher: Fetcher,
        target: Target,
        metrics: Metrics,
    ) -> None:
        """`target`: how apps without keys of their own are called."""
        self._metrics = metrics
        self._store = store
        self._surroundings = surroundings
        self._driver = driver
        self._fetcher = fetcher
        self._target = target
        self._limits = Limits(store)

    async def ask(self, lease: Lease) -> Outcome:
        """Do what the leased item wants; its payload is less afterwards: all that a decision reads of it."""
        context = await until_answered(lambda: self._surroundings.context(lease.env), "a read")
        entry = context.registry.functions.get(lease.slug)
        if lease.rekey:
            # Under no limit: it may not be called, not even where there is nothing to key it by.
            if entry is None:
                return _without_function(lease, context)
            return await self._rekey(lease, entry, context)
        if lease.expiries >= self._surroundings.settings.lost_leases:
            return _lost_too_often(lease, context)
        if lease.kind == FETCH:
            return await self._fetcher.fetch(lease, context, attempts_of(lease, context))
        if entry is None:
            return _without_function(lease, context)
        return await self._call(lease, entry, context)

    async def _rekey(self, lease: Lease, entry: FunctionEntry, context: Context) -> list[Effect]:
        """The item back into the queue: nobody is called, no attempt counted."""
        if lease.payload is None:
            (first,) = await until_answered(lambda: self._store.run_payload(lease.run, "e:0"), "a read")
            lease.payload = {"e:0": first or b"{}"}
        await until_answered(lambda: self._limits.see_to(entry, context), "a write of limits")
        return rekey(lease, entry, context.now_ms)

    async def _call(self, lease: Lease, entry: FunctionEntry, context: Context) -> Answer:
        try:
            reach = context.registry.reach_of(entry.app)
            target = self._surroundings.target(entry.app, self._target, reach)
        except ValueError as error:
            return error_answer(f"the signing keys of the app {entry.app.id!r} cannot be used: {error}")
        state, use_api = await until_answered(lambda: self._state(lease), "a read")
        call = Call(
            url=entry.config.url,
            slug=lease.slug,
            fn_uuid=entry.uuid,
            run_id=lease.run,
            step_id=lease.step if lease.kind in (START, PLANNED) else DISCOVER,
            attempt=lease.attempt,
            max_attempts=attempts_of(lease, context),
            item_id=lease.item,
            request_id=lease.token,
            generation=lease.generation,
            version=lease.version,
            plan_only=lease.plan_only,
            use_api=use_api,
            stack=lease.stack,
            steps={} if use_api else _steps(lease, state),
            events=tuple(state[f"e:{n}"] for n in range(lease.event_count) if f"e:{n}" in state),
            env=wire_name(lease.env),
            traceparent=onward(lease) if lease.trace else "",
        )
        # All that a decision reads of it; a call may take hours, and there are many.
        lease.payload = {"e:0": state.get("e:0", b"{}")}
        if EDITED in state:
            lease.payload[EDITED] = state[EDITED]
        del state
        timeout_s = self._surroundings.settings.request_timeout_s
        if lease.kind == START and lease.generation == 1:
            wait_ms = max(0.0, lease.started_ms - lease.wanted_ms)
            self._metrics.queue_wait_seconds.add(wait_ms / 1000)
        started = perf_counter()
        outcome = "aborted"
        try:
            answer = await self._driver.call(call, target, timeout_s=timeout_s)
            outcome = answer.kind
            return answer
        finally:
            self._metrics.app_seconds.add(perf_counter() - started, outcome)

    async def _state(self, lease: Lease) -> tuple[dict[str, bytes], bool]:
        if lease.payload is not None:
            return lease.payload, False
        if lease.state_bytes <= MAX_SENT_BYTES:
            return await self._store.run_state(lease.run), False
        first, edited = await self._store.run_payload(lease.run, "e:0", EDITED)
        return {"e:0": first or b"{}"} | ({} if edited is None else {EDITED: edited}), True


def _steps(lease: Lease, state: dict[str, bytes]) -> dict[str, bytes]:
    """What the SDK is told of the run's steps. Only the run's first request brings edited input: it is for that step."""
    steps = {step: state[step] for step in lease.stack if step in state}
    return steps | input_to_send(state) if lease.kind == START else steps


def error_answer(reason: str) -> Answer:
    """A request that failed before the app was reached."""
    return Answer(kind="error", error=orjson.dumps({"message": reason, "name": "Error"}), reason=reason)


def _without_function(lease: Lease, context: Context) -> Outcome:
    """Back into the queue while the function may come back; what waits there is not called meanwhile."""
    if context.registry.may_come_back(lease.slug):
        return [Retry(lease.item, lease.attempt, context.now_ms + AWAY_MS)]
    return error_answer(f"function {lease.slug!r} is not registered any more")


def _lost_too_often(lease: Lease, context: Context) -> Outcome:
    """A request that seems to end executors has used up an attempt; it is not made this time."""
    reason = f"the executor that made this request was lost {lease.expiries} times in a row"
    if lease.kind != FETCH:
        return error_answer(reason)
    memo = context.canonical({"error": {"message": reason, "name": "Error"}})
    return fetched(lease, None, memo, reason, attempts_of(lease, context), context)
