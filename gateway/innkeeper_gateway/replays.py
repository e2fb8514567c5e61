"""`/v1/replays`: run once more what many runs of a function were about, those of a window that ended in some way.

A replay is a job: executors go through the runs of the window, page by page, and make one more of each that is meant.
"""

import asyncio
from typing import Any, Final, NamedTuple

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from innkeeper_apps.wire.fields import Fields
from innkeeper_engine.model.guards import NoGuard
from innkeeper_engine.model.replays import Replay, ReplayProgress, SetReplay
from innkeeper_engine.model.times import rfc3339
from innkeeper_gateway.access.callers import Caller, audit
from innkeeper_gateway.access.permissions import RERUN, SEE_PAYLOADS, SEE_RUNS
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError, json_response
from innkeeper_gateway.requests import KNOWN_CALLER, CallerOf, CoreOf, checked_ulid, json_of, needs
from innkeeper_gateway.reruns import startable
from innkeeper_gateway.views import envelope, object_name
from innkeeper_gateway.windows import expression_of, fields_of, instant, named, permitted_function, refused

MOST_ACTIVE: Final = 100
"""Replays of an environment that are not done."""
MOST_KEPT: Final = 1_000
"""Those that are done are listed for a while; beyond so many the oldest of them go at once."""

ENDED: Final = ("Completed", "Failed", "Cancelled", "Skipped")
"""How runs end: what goes on is not run again."""

_FIELDS: Final = ("app_id", "function_id", "from", "until", "statuses", "if")
_REFUSAL: Final = "Invalid replay"
_WAITS_FOR: Final = {
    "gone": "the function is not registered",
    "draining": "the app is being removed",
    "paused": "the function is paused",
    "queue": "many runs of the function have not begun",
}

router = APIRouter(prefix="/v1", dependencies=KNOWN_CALLER)


@router.post("/replays")
async def create_replay(request: Request, core: CoreOf, caller: CallerOf) -> Response:
    """Run all runs of a function once more that were made in a window of time, and ended so.

    `{"app_id", "function_id", "from"?, "until"?, "statuses"?, "if"?}`: `function_id` is the function's own id (the slug
    is understood too), the window begins at `from` (without it: at any time) and ends before `until` (now, at the
    latest), `statuses` are of Completed, Failed, Cancelled and Skipped (without them: Failed), and `if` is an expression
    over `event`, the run's first event, for who may see payloads. Each new run is as `POST /v1/runs/{id}/rerun` makes
    one, and made once whatever dies. Replies as `GET /v1/replays/{id}` does.
    """
    body = await json_of(request, core.settings.limits.request_bytes, _REFUSAL)
    now_ms = core.clock.now_ms()
    wanted = read_wanted(body, now_ms)
    env = caller.place.env
    registry = await core.registry(env)
    entry = await permitted_function(core, caller, RERUN, registry, wanted)
    slug = startable(registry, entry.config.slug).config.slug
    async with core.in_time():
        gone = await _room(core, env)
        made = Replay(
            id=core.ids.ulid(now_ms),
            slug=slug,
            created_ms=now_ms,
            total=await core.store.runs_between(env, wanted.from_ms, wanted.until_ms),
            **wanted._asdict(),
        )
        effects = [SetReplay(env, replay_id, b"", 0) for replay_id in gone]
        effects.append(SetReplay(env, made.id, msgspec.json.encode(made), now_ms))
        await core.store.apply(NoGuard(), effects)
    audit(caller, "replay runs", replay=made.id, function=slug)
    return json_response(envelope(_view(made, ReplayProgress(), payloads=True), now_ms))


@router.get("/replays", dependencies=[needs(SEE_RUNS)])
async def list_replays(core: CoreOf, caller: CallerOf) -> Response:
    """The environment's replays, newest first, each as `GET /v1/replays/{id}` shows it."""
    async with core.in_time():
        known = await _known(core, caller.place.env)
    payloads = await core.access.may(caller, SEE_PAYLOADS)
    views = [_view(*each, payloads=payloads) for each in known]
    return json_response(envelope(views, core.clock.now_ms()))


@router.get("/replays/{replay_id}", dependencies=[needs(SEE_RUNS)])
async def get_replay(replay_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """What was asked for, and how far it is.

    `status`: Running, Waiting (`waiting_for` says why) or Completed. `total`: runs of the environment in the window,
    whatever their function, when it was made; `looked`: at how many of them it has looked; `replayed`: how many it has
    run once more; `unavailable`: how many were meant of which an event is not kept any more. `if` is null for who may
    not see payloads.
    """
    found = await _one(core, caller, replay_id)
    async with core.in_time():
        progress = await core.store.replay_progress(caller.place.env, found.id)
    name = object_name(await core.registry(caller.place.env), found.slug)
    payloads = await core.access.may(caller, SEE_PAYLOADS, name)
    return json_response(envelope(_view(found, progress, payloads=payloads), core.clock.now_ms()))


@router.delete("/replays/{replay_id}")
async def delete_replay(replay_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """Stop a replay and forget it: 200 with an empty body. The runs that it has made go on."""
    found = await _one(core, caller, replay_id)
    env = caller.place.env
    await core.access.require(caller, RERUN, object_name(await core.registry(env), found.slug))
    async with core.in_time():
        await core.store.apply(NoGuard(), [SetReplay(env, found.id, b"", 0)])
    audit(caller, "stop replaying runs", replay=found.id, function=found.slug)
    return Response(media_type="application/json")


# ---- what is asked for


class Wanted(NamedTuple):
    """A replay as it was asked for, valid by itself."""

    app_id: str
    function_id: str
    from_ms: int
    """0: nothing was said."""
    until_ms: int
    statuses: tuple[str, ...]
    expression: str | None


def read_wanted(body: Any, now_ms: int) -> Wanted:
    """What a decoded body asks for.

    Raises:
        ApiError: 400, with everything that is wrong with it.
    """
    example = '{"app_id": "...", "function_id": "...", "statuses": ["Failed"]}'
    fields, findings = fields_of(body, _FIELDS, _REFUSAL, example)
    app_id, function_id = named(fields)
    from_ms, until_ms = instant(fields, "from") or 0, instant(fields, "until")
    # A clock that is ahead means now; and what this replay makes is none of its own.
    until_ms = now_ms if until_ms is None else min(until_ms, now_ms)
    if from_ms >= until_ms:
        fields.problem("from", "is not before until, or lies ahead: no run was made in between")
    statuses = _statuses(fields, body)
    expression = expression_of(fields, "replay")
    if findings.problems or app_id is None or function_id is None:
        raise refused(findings, _REFUSAL)
    return Wanted(app_id, function_id, from_ms, until_ms, statuses, expression)


def _statuses(fields: Fields, body: dict[str, Any]) -> tuple[str, ...]:
    given = body.get("statuses")
    if given is None:
        return ("Failed",)
    if not isinstance(given, list) or not given or not all(status in ENDED for status in given):
        fields.problem("statuses", f"write a list of {', '.join(ENDED)}: what goes on is not run again")
        return ()
    return tuple(dict.fromkeys(given))


# ---- what is there


async def _known(core: Core, env: str) -> list[tuple[Replay, ReplayProgress]]:
    """All of an environment, newest first."""
    bodies = await core.store.replays(env)
    found = [
        msgspec.json.decode(bodies[replay_id], type=Replay) for replay_id in sorted(bodies, reverse=True)
    ]
    progress = await asyncio.gather(*(core.store.replay_progress(env, each.id) for each in found))
    return list(zip(found, progress, strict=True))


async def _room(core: Core, env: str) -> list[str]:
    """Ids of old replays that make room for another one.

    Raises:
        ApiError: 429, too many are not done.
    """
    known = await _known(core, env)
    done = [replay.id for replay, progress in known if progress.phase == "done"]
    if len(known) - len(done) >= MOST_ACTIVE:
        raise ApiError(
            429,
            f"{MOST_ACTIVE} replays of this environment are not done, more are not kept: wait for some or delete them",
        )
    spare = len(known) + 1 - MOST_KEPT
    return done[-spare:] if spare > 0 else []


async def _one(core: Core, caller: Caller, replay_id: str) -> Replay:
    replay_id = checked_ulid(replay_id, "replay")
    async with core.in_time():
        body = await core.store.replay(caller.place.env, replay_id)
    if body is None:
        raise ApiError(404, f"Replay not found: {replay_id}")
    return msgspec.json.decode(body, type=Replay)


def _view(each: Replay, progress: ReplayProgress, *, payloads: bool) -> dict[str, Any]:
    status = {"done": "Completed", "waiting": "Waiting"}.get(progress.phase, "Running")
    view: dict[str, Any] = {
        "id": each.id,
        "app_id": each.app_id,
        "function_id": each.function_id,
        "function_slug": each.slug,
        "from": rfc3339(each.from_ms) if each.from_ms else None,
        "until": rfc3339(each.until_ms),
        "statuses": list(each.statuses),
        "created_at": rfc3339(each.created_ms),
        "status": status,
        "total": each.total,
        "looked": progress.looked,
        "replayed": progress.replayed,
        "unavailable": progress.unavailable,
        "done": progress.phase == "done",
    }
    if each.expression is not None:
        view["if"] = each.expression if payloads else None
    if status == "Waiting":
        view["waiting_for"] = _WAITS_FOR.get(progress.why, progress.why)
    return view
