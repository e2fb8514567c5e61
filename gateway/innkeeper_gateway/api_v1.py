"""`/v1`: events, runs, signals and functions, for SDKs, scripts and people."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from innkeeper_apps.wire.canonical import canonical_parsed
from innkeeper_apps.wire.response import MAX_OUTPUT_BYTES
from innkeeper_engine.compiled import Registry
from innkeeper_engine.decide.notes import cancel_note
from innkeeper_engine.model.effects import Cancel, Resolve
from innkeeper_engine.model.guards import LiveGuard
from innkeeper_engine.model.state import RunSummary
from innkeeper_gateway.access.callers import audit
from innkeeper_gateway.access.permissions import (
    CANCEL,
    RERUN,
    SEE_EVENTS,
    SEE_FUNCTIONS,
    SEE_PAYLOADS,
    SEE_RUN,
    SEE_RUNS,
    SEND_EVENTS,
)
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError, json_response
from innkeeper_gateway.reading import known_run, until_folded
from innkeeper_gateway.requests import KNOWN_CALLER, CallerOf, CoreOf, checked_ulid, json_of, needs
from innkeeper_gateway.reruns import read_rerun, run_again
from innkeeper_gateway.steps import fold_steps, run_notes, step_views
from innkeeper_gateway.views import (
    ENDED,
    envelope,
    event_view,
    function_view,
    object_name,
    output_of,
    pause_view,
    run_view,
    withhold_data,
    withhold_payloads,
)

router = APIRouter(prefix="/v1", dependencies=KNOWN_CALLER)


@router.get("/events/{event_id}", dependencies=[needs(SEE_EVENTS)])
async def get_event(event_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """One accepted event, by the id that `POST /e` gave; `data` is null for who may not see payloads."""
    event_id = checked_ulid(event_id, "event")
    async with core.in_time():
        event = await core.store.event(caller.place.env, event_id)
    if event is None:
        raise ApiError(404, "Event not found")
    view = event_view(event, caller.place.env)
    if not await core.access.may(caller, SEE_PAYLOADS):
        withhold_data(view)
    return json_response(envelope(view, core.clock.now_ms()))


@router.get("/events/{event_id}/runs", dependencies=[needs(SEE_RUNS)])
async def get_event_runs(event_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """The runs that an event started, oldest first; `[]` for an event that started none, or is not known.

    Waits until the event is routed, so that a client that asks right after sending never sees a list that is only
    empty because nobody has looked at the event yet.
    """
    event_id = checked_ulid(event_id, "event")
    env = caller.place.env
    async with core.in_time():
        event = await core.store.event(env, event_id)
    if event is not None:

        async def routed() -> bool:
            return await core.store.is_routed(env, event.seq)

        await core.notices.wait(f"rw:{env}", routed, core.settings.routed_wait_s)
    payloads = await core.access.may(caller, SEE_PAYLOADS)
    async with core.in_time():
        runs = await core.store.event_runs(env, event_id)
        registry = await core.registries.current(env)
        views = await asyncio.gather(*(_view(core, registry, run, payloads) for run in runs))
    return json_response(envelope(views, core.clock.now_ms()))


@router.get("/runs/{run_id}")
async def get_run(run_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """A run with its `steps`: `[{id, name, op, status, attempts, started_at, ended_at, output?, error?}]`.

    A step's status is Waiting, Retrying, Completed, Failed, or Cancelled where its run ended before it. `notes` say what
    concerns the run itself: why it was skipped or cancelled, keys that its event had no value for, requests that failed.
    What had happened when the request came is in the answer: the recorder is waited for, for a second at most.
    Outputs and errors are left out for who may not see payloads.
    """
    run = await known_run(core, caller, run_id, SEE_RUN)
    await until_folded(core)
    async with core.in_time():
        history = await core.store.history(run.id)
        steps = fold_steps(history)
        ids = [step.id for step in steps]
        output, error, *results = await core.store.run_payload(run.id, "o", "x", *ids)
        registry = await core.registries.current(run.env)
    payloads = await core.access.may(caller, SEE_PAYLOADS, object_name(registry, run.slug))
    view = run_view(run, registry, output_of(run.status, output, error) if payloads else None)
    by_id = dict(zip(ids, results, strict=True))
    view["steps"] = step_views(steps, by_id, run_ended=run.status in ENDED)
    view["notes"] = run_notes(history)
    if not payloads:
        withhold_payloads(view)
    return json_response(envelope(view, core.clock.now_ms()))


@router.delete("/runs/{run_id}")
async def cancel_run(run_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """Cancel a run: 200 with an empty body, also where it has ended already."""
    run = await known_run(core, caller, run_id, CANCEL)
    note = cancel_note("api", core.clock.now_ms())
    async with core.in_time():
        await core.store.apply(LiveGuard(run.id), [Cancel(run.id, core.end_ids(), note)])
    audit(caller, "cancel run", run.env, run_id=run.id, function=run.slug)
    return Response(media_type="application/json")


@router.post("/runs/{run_id}/rerun")
async def rerun_run(run_id: str, request: Request, core: CoreOf, caller: CallerOf) -> Response:
    """Run a function once more with the events of a run, whatever became of that one.

    Without a body it runs from the top. `{"from_step": {"step_id", "input"?}}` begins at a step, by its id in
    `GET /v1/runs/{id}`: the new run has the results of those that had one before it, and this one runs, with `input` in
    place of its own: the list of arguments that `step.run` or `step.ai.wrap` of the TypeScript SDK gives its function,
    or the object that is laid over the `body` of `step.ai.infer`.
    Replies `{"data": {"run_id", "status"}}`. The new run is of the function as it is registered now, and stands behind
    its limits as any other. Its idempotency and rate limit do not count; where it is a singleton and another run goes
    on, the new one is recorded as Skipped.
    """
    run = await known_run(core, caller, run_id, RERUN)
    wanted = read_rerun(await json_of(request, core.settings.limits.request_bytes, "Invalid rerun"))
    made = await run_again(core, run, wanted)
    step = {} if wanted is None else {"from_step": wanted.step_id}
    audit(caller, "rerun", run.env, run_id=run.id, function=run.slug, new_run_id=made, **step)
    async with core.in_time():
        new = await core.store.run(made)
    status = new.status if new is not None else "Scheduled"
    return json_response(envelope({"run_id": made, "status": status}, core.clock.now_ms()))


@router.post("/signals", dependencies=[needs(SEND_EVENTS)])
async def send_signal(request: Request, core: CoreOf, caller: CallerOf) -> Response:
    """Give `{"signal": name, "data": any}` to the run that waits for it; replies `{"data": {"run_id"}}`.

    404 where none waits: SDKs take that for "nobody was there". A signal is never kept for later. Its data may be as
    large as the output of a step.
    """
    body = await json_of(request, core.settings.limits.request_bytes, "Invalid signal data")
    signal = body.get("signal") if isinstance(body, dict) else None
    if not isinstance(signal, str) or not signal:
        raise ApiError(400, "Invalid signal data: `signal` must be a text and not empty")
    if not signal.isascii() and any("\ud800" <= letter <= "\udfff" for letter in signal):
        raise ApiError(400, "Invalid signal data: `signal` holds half a character (a lone surrogate)")
    unknown = sorted(set(body) - {"signal", "data"})
    if unknown:
        raise ApiError(
            400, f"Invalid signal data: {unknown[0][:100]}: there is no such field; there are signal, data"
        )
    result = canonical_parsed({"data": {"data": body.get("data"), "signal": signal}})
    if len(result) > MAX_OUTPUT_BYTES:
        raise ApiError(
            413,
            f"the signal has {len(result)} bytes: it becomes a step's output, {MAX_OUTPUT_BYTES} are the most",
        )
    async with core.in_time():
        run_id = await _resolve(core, caller.place.env, signal, result)
    if run_id is None:
        raise ApiError(404, "No signal found")
    audit(caller, "send signal", run_id=run_id)
    return json_response(envelope({"run_id": run_id}, core.clock.now_ms()))


async def _resolve(core: Core, env: str, signal: str, result: bytes) -> str | None:
    """The run that the signal has resumed; None where none waits, or another signal was quicker."""
    store = core.store
    pause = await store.signal_waiter(env, signal)
    if pause is None:
        return None
    run, step = await store.command("HMGET", store.key(f"w:{pause}"), "r", "s")
    if run is None or step is None:
        return None
    run_id, step_id = run.decode(), step.decode()
    if (await store.apply(LiveGuard(run_id), [Resolve(pause, result)])).status != "ok":
        return None
    # First wins: what the step has now tells whether this signal did.
    (stored,) = await store.run_payload(run_id, step_id)
    return run_id if stored == result else None


@router.get("/apps/{app_id:path}/functions", dependencies=[needs(SEE_FUNCTIONS)])
async def get_app_functions(app_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """The functions of an app, as a bare array; `[]` for an app that is not known."""
    registry = await core.registry(caller.place.env)
    views = [
        function_view(f)
        | {
            "paused": pause_view(registry.function_pause(f.config.slug)),
            "app_paused": pause_view(registry.app_pause(app_id)),
        }
        for f in registry.functions.values()
        if f.app.id == app_id
    ]
    return json_response(views)


async def _view(core: Core, registry: Registry, run: RunSummary, payloads: bool) -> dict[str, Any]:
    if run.status not in ENDED or not payloads:
        return run_view(run, registry, None)
    output, error = await core.store.run_payload(run.id, "o", "x")
    return run_view(run, registry, output_of(run.status, output, error))
