"""A run once more, at somebody's wish: of what was skipped, or went wrong."""

from collections.abc import Sequence

from innkeeper_apps.wire.canonical import canonical
from innkeeper_engine.compiled import FunctionEntry, Registry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.rerunning import rerun
from innkeeper_engine.model.calls import Op
from innkeeper_engine.model.effects import NoGuard
from innkeeper_engine.model.state import RunSummary
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.tracing import in_current_trace


async def run_again(core: Core, run: RunSummary) -> str:
    """Make a run of the same function with the same events; returns its id.

    Raises:
        ApiError: 404, the function is gone; 409, it starts nothing now; 410, an event of the run is not kept any more.
        StoreError, StoreUnavailableError, TimeoutError: the store does not answer.
    """
    events = await _events(core, run)
    new = core.ids.ulid(core.clock.now_ms())
    while True:
        registry = await core.registry(run.env)
        context = _context(core, registry)
        entry = _startable(registry, run)
        async with core.in_time():
            seq = await core.store.last_event(run.env)
            effects = in_current_trace(
                rerun(entry, run.id, new, events, seq=seq, cron=run.cron, context=context)
            )
            applied = await core.store.apply(NoGuard(), effects, registry=registry.version)
        if applied.status == "ok":
            return new


def _startable(registry: Registry, run: RunSummary) -> FunctionEntry:
    entry = registry.functions.get(run.slug)
    if entry is None:
        raise ApiError(404, f"the function {run.slug!r} is not registered any more: register it first")
    if entry.app.draining:
        raise ApiError(409, f"the app {entry.app.id!r} is being removed and starts nothing")
    config = entry.config
    if config.paused and config.new_runs == "Skip" and not entry.app.paused:
        raise ApiError(409, f"the function {run.slug!r} is paused and starts nothing: resume it first")
    return entry


async def _events(core: Core, run: RunSummary) -> Sequence[tuple[str, bytes]]:
    """The run's events: those that it was started with or, where it never was, as they are kept themselves."""
    fields = [f"e:{n}" for n in range(len(run.event_ids))]
    async with core.in_time():
        bodies = await core.store.run_payload(run.id, *fields) if fields else []
        kept: list[tuple[str, bytes]] = []
        for event_id, given in zip(run.event_ids, bodies, strict=True):
            event = await core.store.event(run.env, event_id) if given is None else None
            body = given if event is None else event.body
            if body:
                kept.append((event_id, body))
    if not kept or len(kept) < len(run.event_ids):
        raise ApiError(410, "an event of this run is not kept any more: send the event again")
    return kept


def _context(core: Core, registry: Registry) -> Context:
    now_ms = core.clock.now_ms()
    return Context(
        now_ms=now_ms,
        chance=0.0,
        new_id=lambda: core.ids.ulid(now_ms),
        canonical=canonical,
        seal=_no_fetches,
        registry=registry,
    )


def _no_fetches(op: Op) -> bytes:
    """A run begins without any request of its own."""
    raise ValueError(f"{op.kind} is for executors")
