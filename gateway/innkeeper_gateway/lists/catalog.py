"""`GET /v1/functions`, `GET /v1/functions/{slug}`, `GET /v1/apps`, `GET /v1/apps/{id}`, `GET /v1/backlog`."""

from collections.abc import Iterable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from starlette.responses import Response

from innkeeper_engine.compiled import FunctionEntry, Registry, app_uuid
from innkeeper_engine.model.functions import App
from innkeeper_engine.model.state import FunctionCounts
from innkeeper_engine.model.times import rfc3339
from innkeeper_engine.store.lists import Backlog, Lists
from innkeeper_gateway.access.permissions import SEE_APPS, SEE_FUNCTIONS
from innkeeper_gateway.errors import ApiError, json_response
from innkeeper_gateway.lists.runs import is_known_app, slugs_of
from innkeeper_gateway.requests import KNOWN_CALLER, KNOWN_PARAMETERS, CallerOf, CoreOf, needs
from innkeeper_gateway.views import env_uuid, envelope, pause_view, slug_of

router = APIRouter(prefix="/v1", dependencies=[*KNOWN_CALLER, KNOWN_PARAMETERS])


@router.get("/functions", dependencies=[needs(SEE_FUNCTIONS)])
async def list_functions(
    core: CoreOf,
    caller: CallerOf,
    app_id: Annotated[str, Query(max_length=512, description="Only functions of this app.")] = "",
) -> Response:
    """The environment's functions, by their slugs, without what they declared."""
    registry = await core.registry(caller.place.env)
    if app_id and not await is_known_app(core, registry, app_id):
        raise ApiError(404, f"no app {app_id[:200]!r} is registered; `GET /v1/apps` has those that are")
    entries = [each for _, each in sorted(registry.functions.items()) if app_id in ("", each.app.id)]
    async with core.in_time():
        counts = await core.store.function_counts(registry.env, [each.config.slug for each in entries])
    views = [_function(registry, each, counts[each.config.slug]) for each in entries]
    return json_response(envelope(views, core.clock.now_ms()))


@router.get("/functions/{slug:path}", dependencies=[needs(SEE_FUNCTIONS)])
async def get_function(slug: str, core: CoreOf, caller: CallerOf) -> Response:
    """A function, by its slug `<app id>-<function id>` or its UUID, with what it declared (`config`)."""
    registry = await core.registry(caller.place.env)
    entry = registry.functions.get(slug_of(registry, slug))
    if entry is None:
        raise ApiError(
            404, f"no function {slug[:200]!r} is registered; `GET /v1/functions` has those that are"
        )
    async with core.in_time():
        counts = await core.store.function_counts(registry.env, [entry.config.slug])
    view = _function(registry, entry, counts[entry.config.slug])
    view["config"] = orjson.Fragment(bytes(entry.config.declared))
    return json_response(envelope(view, core.clock.now_ms()))


@router.get("/apps", dependencies=[needs(SEE_APPS)])
async def list_apps(core: CoreOf, caller: CallerOf) -> Response:
    """The environment's apps, by their ids."""
    registry = await core.registry(caller.place.env)
    views = [_app(registry, app) for _, app in sorted(registry.apps.items())]
    return json_response(envelope(views, core.clock.now_ms()))


@router.get("/apps/{app_id:path}", dependencies=[needs(SEE_APPS)])
async def get_app(app_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """An app with the slugs of its functions."""
    registry = await core.registry(caller.place.env)
    app = registry.apps.get(app_id)
    if app is None:
        raise ApiError(404, f"no app {app_id[:200]!r} is registered; `GET /v1/apps` has those that are")
    view = _app(registry, app) | {"functions": sorted(function.slug for function in app.functions)}
    return json_response(envelope(view, core.clock.now_ms()))


@router.get("/backlog", dependencies=[needs(SEE_FUNCTIONS)])
async def get_backlog(
    core: CoreOf,
    caller: CallerOf,
    app_id: Annotated[str, Query(max_length=512, description="Only this app's functions.")] = "",
    function_id: Annotated[
        str,
        Query(
            max_length=512, description="Only this function: its slug, UUID or, with `app_id`, its own id."
        ),
    ] = "",
) -> Response:
    """How much waits and runs: in all, by app and by function. For autoscalers, plain numbers at fixed places.

    `{"data": {"queued", "running", "oldest_age_s", "apps": [{"app_id", ..., "functions": [{"function_id", ...}]}]}}`.
    `queued`: runs that have not begun; `running`: those that have and not ended, sleeping ones included;
    `oldest_age_s`: how long ago the oldest that has not begun was made, 0 where none waits.
    404 for an app or function that is not registered, and had no runs that are kept.
    """
    registry = await core.registry(caller.place.env)
    async with core.in_time():
        wanted = await slugs_of(core, registry, app_id, function_id, wanted=True)
        found = await Lists(core.store).backlog(registry.env, wanted or ())
    now_ms = core.clock.now_ms()
    return json_response(envelope(backlog_view(registry, found, now_ms), now_ms))


def backlog_view(registry: Registry, found: dict[str, Backlog], now_ms: int) -> dict[str, Any]:
    """The sums. Functions that are gone are shown while they have something to do, with the app null."""
    apps: dict[str | None, list[str]] = {}
    for slug in sorted(found):
        entry = registry.functions.get(slug)
        if entry is not None:
            apps.setdefault(entry.app.id, []).append(slug)
        elif found[slug].queued or found[slug].running:
            apps.setdefault(None, []).append(slug)
    return _sum(found.values(), now_ms) | {
        "apps": [
            {"app_id": app_id}
            | _sum((found[slug] for slug in slugs), now_ms)
            | {"functions": [{"function_id": slug} | _sum([found[slug]], now_ms) for slug in slugs]}
            for app_id, slugs in apps.items()
        ]
    }


def _sum(parts: Iterable[Backlog], now_ms: int) -> dict[str, Any]:
    queued = running = 0
    oldest_ms = now_ms
    for part in parts:
        queued, running = queued + part.queued, running + part.running
        oldest_ms = min(oldest_ms, now_ms if part.oldest_ms is None else part.oldest_ms)
    return {"queued": queued, "running": running, "oldest_age_s": (now_ms - oldest_ms) / 1000}


def _function(registry: Registry, entry: FunctionEntry, counts: FunctionCounts) -> dict[str, Any]:
    config = entry.config
    return {
        "internal_id": entry.uuid,
        "environment_id": env_uuid(entry.env),
        "app_id": entry.app.id,
        "id": config.slug,
        "name": config.name,
        "url": config.url,
        "object_name": config.object_name or None,
        "triggers": [
            {"cron": trigger.cron}
            if trigger.cron
            else {"event": trigger.event, "expression": trigger.expression}
            for trigger in config.triggers
        ],
        "not_enforced": config.not_enforced,
        "paused": pause_view(registry.function_pause(config.slug)),
        "app_paused": pause_view(registry.app_pause(entry.app.id)),
        "runs": {
            "queued": counts.queued,
            "running": counts.running,
            "completed_24h": counts.completed24h,
            "failed_24h": counts.failed24h,
            "last_run_at": None if counts.last_run_ms is None else rfc3339(counts.last_run_ms),
        },
        "synced_at": rfc3339(entry.app.synced_at_ms),
    }


def _app(registry: Registry, app: App) -> dict[str, Any]:
    return {
        "internal_id": app_uuid(registry.env, app.id),
        "environment_id": env_uuid(registry.env),
        "id": app.id,
        "url": app.url,
        "sdk": {"language": app.sdk_language, "version": app.sdk_version, "framework": app.framework},
        "app_version": app.app_version,
        "version": app.version,
        "function_count": len(app.functions),
        "paused": pause_view(registry.app_pause(app.id)),
        "draining": app.draining,
        "orphaned": app.orphaned,
        "synced_at": rfc3339(app.synced_at_ms),
    }
