"""`/v1/cancellations`: cancel many runs of a function at once, those that begin later in the window included.

What is asked for is written into the environment's configuration: routers cancel what starts from then on, and
executors go through the runs that are there already, page by page.
"""

import asyncio
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from innkeeper_apps.wire.fields import Fields
from innkeeper_engine.compiled import FunctionEntry, Registry
from innkeeper_engine.durations import DAY_MS
from innkeeper_engine.model.cancellations import Cancellation, Sweep
from innkeeper_engine.model.times import rfc3339
from innkeeper_gateway.access.callers import Caller, audit
from innkeeper_gateway.access.permissions import CANCEL, SEE_PAYLOADS, SEE_RUNS
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError, json_response
from innkeeper_gateway.requests import KNOWN_CALLER, CallerOf, CoreOf, checked_ulid, json_of, needs
from innkeeper_gateway.views import env_uuid, envelope, object_name
from innkeeper_gateway.windows import expression_of, fields_of, instant, named, permitted_function, refused

MOST_ACTIVE: Final = 1_000
"""Cancellations of an environment that may still cancel something: every run that starts is held against them."""
MOST_KEPT: Final = 2_000
"""Those that are over are listed for a while; beyond so many the oldest of them go at once."""
LONGEST_MS: Final = 366 * DAY_MS
"""How long a window is at most, and how far ahead it may end."""

_FIELDS: Final = ("app_id", "function_id", "started_after", "started_before", "if")

_REFUSAL: Final = "Invalid cancellation"

router = APIRouter(prefix="/v1", dependencies=KNOWN_CALLER)


@router.post("/cancellations")
async def create_cancellation(request: Request, core: CoreOf, caller: CallerOf) -> Response:
    """Cancel all runs of a function that were made, or will be, in a window of time.

    `{"app_id", "function_id", "started_after"?, "started_before", "if"?}`: `function_id` is the function's own id
    (the slug `<app id>-<function id>` is understood too), the window begins at `started_after` (without it: at any
    time) and ends before `started_before`, which may lie ahead, and `if` is an expression over `event`, the run's first
    event, for who may see payloads. Replies with what was asked for, its id and the environment's: the object itself, as
    Inngest's API gives it. Times are ISO 8601. Runs are cancelled soon after the answer, not before it: `GET
    /v1/cancellations/{id}` says how far that is.
    """
    body = await json_of(request, core.settings.limits.request_bytes, _REFUSAL)
    now_ms = core.clock.now_ms()
    wanted = read_cancellation(body, now_ms)
    env = caller.place.env
    registry = await core.registry(env)
    entry = await permitted_function(core, caller, CANCEL, registry, wanted)
    async with core.in_time():
        total = (await core.store.live_runs(env, [entry.config.slug]))[entry.config.slug]
        made = _made(wanted, entry, core.ids.ulid(now_ms), now_ms, total)
        gone = await _room(core, registry, now_ms)
        written = [(made.id, msgspec.json.encode(made), now_ms), *((each, b"", 0) for each in gone)]
        await core.store.configure(env, cancellations=written)
    audit(caller, "cancel runs", cancellation=made.id, function=made.slug)
    return json_response(_asked(made, env, payloads=True))


@router.get("/cancellations", dependencies=[needs(SEE_RUNS)])
async def list_cancellations(core: CoreOf, caller: CallerOf) -> Response:
    """The environment's cancellations, newest first, each as `GET /v1/cancellations/{id}` shows it."""
    registry = await core.registry(caller.place.env)
    async with core.in_time():
        known = await _progress(core, registry)
    payloads = await core.access.may(caller, SEE_PAYLOADS)
    views = [_view(each, sweep, registry.env, payloads=payloads) for each, sweep in known]
    return json_response(envelope(views, core.clock.now_ms()))


@router.get("/cancellations/{cancellation_id}", dependencies=[needs(SEE_RUNS)])
async def get_cancellation(cancellation_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """What was asked for, and how far it is.

    `total` is how many runs of the function went on when it was made, whenever they began; `looked` and `cancelled` count
    those that were there already, those of a page on which an executor died not quite;
    `done` says whether all of them have been looked at. Those that begin later are cancelled as they begin, and not
    counted. `if` is null for who may not see payloads. The answer is the object itself, as Inngest's API gives it.
    """
    found = await _known(core, caller, cancellation_id)
    async with core.in_time():
        sweep = await core.store.sweep(caller.place.env, found.id)
    name = object_name(await core.registry(caller.place.env), found.slug)
    payloads = await core.access.may(caller, SEE_PAYLOADS, name)
    return json_response(_view(found, sweep, caller.place.env, payloads=payloads))


@router.delete("/cancellations/{cancellation_id}")
async def delete_cancellation(cancellation_id: str, core: CoreOf, caller: CallerOf) -> Response:
    """Stop a cancellation: 200 with an empty body. Runs that it has not met go on; those it has cancelled have ended."""
    found = await _known(core, caller, cancellation_id)
    env = caller.place.env
    await core.access.require(caller, CANCEL, object_name(await core.registry(env), found.slug))
    async with core.in_time():
        await core.store.configure(env, cancellations=[(found.id, b"", 0)])
    audit(caller, "stop cancelling runs", cancellation=found.id, function=found.slug)
    return Response(media_type="application/json")


# ---- what is asked for


class Wanted(NamedTuple):
    """A cancellation as it was asked for, valid by itself."""

    app_id: str
    function_id: str
    after_ms: int
    """0: nothing was said."""
    before_ms: int
    expression: str | None


def read_cancellation(body: Any, now_ms: int) -> Wanted:
    """What a decoded body asks for.

    Raises:
        ApiError: 400, with everything that is wrong with it.
    """
    example = f'{{"app_id": "...", "function_id": "...", "started_before": "{rfc3339(now_ms)}"}}'
    fields, findings = fields_of(body, _FIELDS, _REFUSAL, example)
    app_id, function_id = named(fields)
    after_ms = instant(fields, "started_after")
    before_ms = instant(fields, "started_before", "write when the runs were made at the latest")
    expression = expression_of(fields, "cancel")
    if before_ms is not None:
        _check_window(fields, after_ms, before_ms, now_ms)
    if findings.problems or app_id is None or function_id is None or before_ms is None:
        raise refused(findings, _REFUSAL)
    return Wanted(app_id, function_id, after_ms or 0, before_ms, expression)


def _check_window(fields: Fields, after_ms: int | None, before_ms: int, now_ms: int) -> None:
    days = LONGEST_MS // DAY_MS
    if after_ms is not None and after_ms >= before_ms:
        fields.problem("started_before", "is not after started_after: no run was made in between")
    elif after_ms is not None and before_ms - after_ms > LONGEST_MS:
        fields.problem("started_before", f"is more than {days} days after started_after: write several")
    elif before_ms - now_ms > LONGEST_MS:
        fields.problem("started_before", f"lies more than {days} days ahead: write an earlier one")


def _made(wanted: Wanted, entry: FunctionEntry, new_id: str, now_ms: int, total: int) -> Cancellation:
    return Cancellation(
        id=new_id,
        slug=entry.config.slug,
        app_id=wanted.app_id,
        function_id=wanted.function_id,
        after_ms=wanted.after_ms,
        before_ms=wanted.before_ms,
        expression=wanted.expression,
        created_ms=now_ms,
        total=total,
    )


# ---- what is there

Known: TypeAlias = tuple[Cancellation, Sweep]


def _asked_for(registry: Registry) -> list[Cancellation]:
    """What somebody has asked for, newest first. Not what the engine itself cancels: runs of functions that are gone."""
    found = [each for each in registry.cancellations.values() if each.why == "bulk"]
    return sorted(found, key=lambda each: each.id, reverse=True)


async def _progress(core: Core, registry: Registry) -> list[Known]:
    found = _asked_for(registry)
    sweeps = await asyncio.gather(*(core.store.sweep(registry.env, each.id) for each in found))
    return list(zip(found, sweeps, strict=True))


async def _room(core: Core, registry: Registry, now_ms: int) -> list[str]:
    """Ids of old cancellations that make room for another one.

    Raises:
        ApiError: 429, too many are active.
    """
    if len(_asked_for(registry)) < MOST_ACTIVE:
        return []
    known = await _progress(core, registry)
    over = [each.id for each, sweep in known if sweep.phase == "done" and each.before_ms <= now_ms]
    if len(known) - len(over) >= MOST_ACTIVE:
        raise ApiError(
            429,
            f"{MOST_ACTIVE} cancellations of this environment are active already, more are not kept: delete some, or "
            "cancel more runs with one of them (the window and `if` say which)",
        )
    spare = len(known) + 1 - MOST_KEPT
    return over[-spare:] if spare > 0 else []


async def _known(core: Core, caller: Caller, cancellation_id: str) -> Cancellation:
    cancellation_id = checked_ulid(cancellation_id, "cancellation")
    found = (await core.registry(caller.place.env)).cancellations.get(cancellation_id)
    if found is not None and found.why == "bulk":
        return found
    raise ApiError(404, f"Cancellation not found: {cancellation_id}")


def _asked(each: Cancellation, env: str, *, payloads: bool) -> dict[str, Any]:
    view = {
        "id": each.id,
        "environment_id": env_uuid(env),
        "function_id": each.function_id,
        "started_after": rfc3339(each.after_ms) if each.after_ms else None,
        "started_before": rfc3339(each.before_ms),
    }
    return view if each.expression is None else view | {"if": each.expression if payloads else None}


def _view(each: Cancellation, sweep: Sweep, env: str, *, payloads: bool) -> dict[str, Any]:
    return _asked(each, env, payloads=payloads) | {
        "app_id": each.app_id,
        "created_at": rfc3339(each.created_ms),
        "status": "Completed" if sweep.phase == "done" else "Running",
        "total": each.total,
        "looked": sweep.looked,
        "cancelled": sweep.cancelled,
        "done": sweep.phase == "done",
    }
