"""`/v1/functions/{slug}/pause|resume` and `/v1/apps/{id}/pause|resume|sync`: what somebody switches by hand.

A switch lies beside the registry: nobody's spec is written, no registration undoes it, and a resume lifts nothing else.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from innkeeper_apps.sync import SyncError
from innkeeper_apps.wire.fields import Fields, Findings
from innkeeper_apps.wire.register import RegistrationError
from innkeeper_engine.compiled import Registry
from innkeeper_engine.model.functions import NewRuns, RunningRuns
from innkeeper_engine.model.reach import Reach
from innkeeper_engine.model.switches import MAX_REASON_CHARS, Switch, function_switch
from innkeeper_engine.registering import FunctionTakenError
from innkeeper_engine.store.asks import Wish
from innkeeper_engine.switching import NotRegisteredError, Switched, switch_off, switch_on
from innkeeper_gateway.access.callers import Caller, audit
from innkeeper_gateway.access.permissions import CHANGE_APP, CHANGE_FUNCTION
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError, json_response
from innkeeper_gateway.requests import KNOWN_CALLER, CallerOf, CoreOf, json_of
from innkeeper_gateway.views import envelope, object_name, pause_view, slug_of

router = APIRouter(prefix="/v1", dependencies=KNOWN_CALLER)

_POLICY: Final[Mapping[str, tuple[str, ...]]] = {
    "new_runs": ("Skip", "Queue"),
    "running": ("Continue", "Hold"),
}


@router.post("/functions/{slug:path}/pause")
async def pause_function(slug: str, request: Request, core: CoreOf, caller: CallerOf) -> Response:
    """Pause a function until somebody resumes it; `slug` is `<app id>-<function id>`, or the function's UUID.

    The body may be empty, or `{"reason"?, "new_runs"?: "Skip" | "Queue", "running"?: "Continue" | "Hold"}`: what becomes
    of runs that would start, and of those that have begun; without a word as the Function's `spec.pausePolicy` says, by
    default they are recorded as Skipped and go on. Replies `{"data": {"id", "app_id", "paused", "app_paused"}}`;
    `paused` is `{"by": "switch" | "spec" | "both", "who", "since", "reason"?, "new_runs", "running"}` or null. Of one
    that is switched off already, what is said now is changed.
    """
    registry = await core.registry(caller.place.env)
    slug = slug_of(registry, slug)
    entry = registry.functions.get(slug)
    await core.access.require(caller, CHANGE_FUNCTION, object_name(registry, slug))
    said = await _said(request, core, _POLICY)
    if entry is None:
        raise _no_function(slug)
    switch = Switch(
        app_id=entry.app.id,
        slug=slug,
        who=caller.name,
        since_ms=core.clock.now_ms(),
        reason=said.get("reason") or "",
        new_runs=cast(NewRuns | None, said.get("new_runs")),
        running=cast(RunningRuns | None, said.get("running")),
    )
    done = await _switch(core, caller, switch)
    if done.changed:
        audit(caller, "pause function", function=slug)
    return _function_reply(core, slug, entry.app.id, done)


@router.post("/functions/{slug:path}/resume")
async def resume_function(slug: str, request: Request, core: CoreOf, caller: CallerOf) -> Response:
    """Lift the switch of a function. Replies as for a pause: what its Function says of a pause stays.

    409 where nobody has switched it off, and its Function pauses it.
    """
    registry = await core.registry(caller.place.env)
    slug = slug_of(registry, slug)
    name = object_name(registry, slug)
    await core.access.require(caller, CHANGE_FUNCTION, name)
    await _no_body(request, core)
    entry, switch = registry.functions.get(slug), registry.switches.get(function_switch(slug))
    if entry is None and switch is None:
        raise _no_function(slug)
    app_id = entry.app.id if entry is not None else cast(Switch, switch).app_id
    done = await _switch_off(core, caller, app_id, slug)
    if not done.changed and done.pause is not None:
        raise _paused_by_spec(f"the function {slug!r}", "Function", name)
    if done.changed:
        audit(caller, "resume function", function=slug)
    return _function_reply(core, slug, app_id, done)


@router.post("/apps/{app_id:path}/pause")
async def pause_app(app_id: str, request: Request, core: CoreOf, caller: CallerOf) -> Response:
    """Pause an app until somebody resumes it: nobody calls it, everything that it has to do waits in the queue.

    The body may be empty, or `{"reason"}`. Replies `{"data": {"id", "paused"}}`, as for a function.
    """
    registry = await core.registry(caller.place.env)
    await core.access.require(caller, CHANGE_APP, _object_of(registry, app_id))
    said = await _said(request, core, {})
    switch = Switch(
        app_id=app_id, who=caller.name, since_ms=core.clock.now_ms(), reason=said.get("reason") or ""
    )
    done = await _switch(core, caller, switch)
    if done.changed:
        audit(caller, "pause app", app=app_id)
    return _app_reply(core, app_id, done)


@router.post("/apps/{app_id:path}/resume")
async def resume_app(app_id: str, request: Request, core: CoreOf, caller: CallerOf) -> Response:
    """Lift the switch of an app. 409 where nobody has switched it off, and its InngestApp pauses it."""
    registry = await core.registry(caller.place.env)
    name = _object_of(registry, app_id)
    await core.access.require(caller, CHANGE_APP, name)
    await _no_body(request, core)
    done = await _switch_off(core, caller, app_id)
    if not done.changed and done.pause is not None:
        raise _paused_by_spec(f"the app {app_id!r}", "InngestApp", name)
    if done.changed:
        audit(caller, "resume app", app=app_id)
    return _app_reply(core, app_id, done)


@router.post("/apps/{app_id:path}/sync")
async def sync_app(app_id: str, request: Request, core: CoreOf, caller: CallerOf) -> Response:
    """Ask an app for its functions now, whatever has changed or not.

    Under an operator 202 with `{"data": {"id", "sync": "Requested"}}`: it asks the app at once, and the status of the
    InngestApp says what came of it. Without one the app is asked before the answer, 200 with `"sync": "Done"` and whether
    that `modified` anything; 502 where the app does not answer, 422 where what it declares cannot be taken.
    """
    env = caller.place.env
    registry = await core.registry(env)
    await core.access.require(caller, CHANGE_APP, _object_of(registry, app_id))
    await _no_body(request, core)
    if app_id not in registry.apps and not await core.declares(env, app_id):
        raise ApiError(404, f"no app {app_id!r} is registered; its id is what its client is given in code")
    if app_id in registry.apps and registry.apps[app_id].paused:
        raise ApiError(409, f"the app {app_id!r} is paused, so nobody calls it: resume it first")
    if core.settings.managed:
        async with core.in_time():
            token = core.ids.ulid(core.clock.now_ms())
            await core.asks.leave(Wish("sync", env, app_id, token))
        audit(caller, "sync app", app=app_id)
        reply: dict[str, Any] = {"id": app_id, "sync": "Requested"}
        return json_response(envelope(reply, core.clock.now_ms()), 202)
    app = registry.apps[app_id]
    modified = await _sync_directly(core, env, app.url, registry.reach_of(app))
    audit(caller, "sync app", app=app_id)
    reply = {"id": app_id, "sync": "Done", "modified": modified}
    return json_response(envelope(reply, core.clock.now_ms()))


# ---- switching


async def _switch(core: Core, caller: Caller, switch: Switch) -> Switched:
    try:
        async with core.in_time():
            return await switch_on(core.store, caller.place.env, switch, tell=core.settings.managed)
    except NotRegisteredError as error:
        raise ApiError(404, str(error)) from None


async def _switch_off(core: Core, caller: Caller, app_id: str, slug: str = "") -> Switched:
    try:
        async with core.in_time():
            return await switch_off(core.store, caller.place.env, app_id, slug, tell=core.settings.managed)
    except NotRegisteredError as error:
        raise ApiError(404, str(error)) from None


async def _sync_directly(core: Core, env: str, url: str, reach: Reach) -> bool:
    if core.direct_sync is None:
        raise ApiError(
            501, "this gateway cannot ask apps: run `innkeeper sync <url>`, or have the app register itself"
        )
    try:
        return await core.direct_sync.sync(env, url, reach)
    except SyncError as error:
        raise ApiError(502, str(error)) from None
    except (RegistrationError, FunctionTakenError) as error:
        raise ApiError(422, str(error)) from None


# ---- requests


async def _said(
    request: Request, core: Core, choices: Mapping[str, tuple[str, ...]]
) -> dict[str, str | None]:
    """What a body says of a pause: its `reason`, and of each of `choices` one.

    Raises:
        ApiError: 400, with everything that is wrong with it.
    """
    refusal = "Invalid pause"
    body = await json_of(request, core.settings.limits.request_bytes, refusal)
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise ApiError(400, f'{refusal}: write an object, {{"reason": "..."}}, or no body')
    fields = Fields(body, Findings())
    for name in body:
        if name not in ("reason", *choices):
            fields.problem(name[:100], f"there is no such field; there are {', '.join(('reason', *choices))}")
    said = {name: fields.text(name) for name in ("reason", *choices)}
    for name, values in choices.items():
        if said[name] is not None and said[name] not in values:
            fields.problem(name, f"must be {' or '.join(values)}")
    reason = said["reason"]
    if reason is not None and len(reason) > MAX_REASON_CHARS:
        fields.problem("reason", f"has {len(reason)} characters, {MAX_REASON_CHARS} is the most")
    if fields.findings.problems:
        wrong = "; ".join(f"{each.field}: {each.message}" for each in fields.findings.problems)
        raise ApiError(400, f"{refusal}: {wrong}")
    return said


async def _no_body(request: Request, core: Core) -> None:
    if await json_of(request, core.settings.limits.request_bytes, "Invalid request") not in (None, {}):
        raise ApiError(400, "Invalid request: there is nothing to say here; send no body")


def _object_of(registry: Registry, app_id: str) -> str:
    """What the object of an app is called in Kubernetes; empty where it has none, or is not known."""
    app = registry.apps.get(app_id)
    return app.object_name if app is not None else ""


def _no_function(slug: str) -> ApiError:
    return ApiError(
        404, f"no function {slug!r} is registered; its slug is the app id, a dash, the function id"
    )


def _paused_by_spec(what: str, kind: str, name: str) -> ApiError:
    return ApiError(
        409,
        f"{what} is paused by its {kind}{f' {name}' if name else ''}: set spec.paused to false there; a resume over the "
        "API lifts only a pause over the API",
    )


# ---- replies


def _function_reply(core: Core, slug: str, app_id: str, done: Switched) -> Response:
    data = {
        "id": slug,
        "app_id": app_id,
        "paused": pause_view(done.pause),
        "app_paused": pause_view(done.app_pause),
    }
    return json_response(envelope(data, core.clock.now_ms()))


def _app_reply(core: Core, app_id: str, done: Switched) -> Response:
    data = {"id": app_id, "paused": pause_view(done.pause)}
    return json_response(envelope(data, core.clock.now_ms()))
