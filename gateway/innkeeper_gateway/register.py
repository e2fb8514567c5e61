"""`POST /fn/register`: an app says which functions it has."""

import uuid
from typing import Any

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from innkeeper_apps.wire.fields import Problem
from innkeeper_apps.wire.register import Registration, RegistrationError, parse_registration, shown_url
from innkeeper_engine.compiled import app_uuid
from innkeeper_engine.registering import FunctionTakenError, register_app
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError, json_response
from innkeeper_gateway.requests import AUTHENTICATED, CoreOf, body_of

router = APIRouter(dependencies=AUTHENTICATED)

_log = structlog.get_logger(__name__)


@router.post("/fn/register")
async def register(request: Request, core: CoreOf) -> Response:
    """Register an app with all its functions, or refuse it with everything that is wrong.

    Both SDKs' spellings of the body are read. `deployId` in the query, with which an SDK repeats what started its
    sync, changes nothing. Replies `{"ok", "modified", "sync_id", "app_id"}`, and `warnings` where there are some;
    `modified` is false where the app has declared just this before. Refusals: 400 with `problems`
    (`[{function, field, message}]`) or for another kind of server than the app was told of, 403 where the policy does
    not let the app register itself.
    """
    expected = request.headers.get("x-inngest-expected-server-kind")
    kind = core.settings.server_kind
    if expected and expected != kind:
        raise ApiError(400, f"Expected server kind {expected[:20]}, got {kind}")
    body = await body_of(request, core.settings.limits.request_bytes)
    now_ms = core.clock.now_ms()
    try:
        registration = parse_registration(body)
    except RegistrationError as error:
        return _refused(str(error), error.problems)
    await _check_policy(core, registration)
    env = core.settings.env
    async with core.in_time():
        try:
            done = await register_app(core.store, env, registration.as_app(now_ms, 1), now_ms=now_ms)
        except FunctionTakenError as error:
            problem = Problem(error.slug, "id", str(error))
            return _refused(f"At least one function is invalid: {problem}", (problem,))
    _tell(registration, modified=done.modified)
    app_id = app_uuid(env, registration.app_id)
    reply: dict[str, Any] = {
        "ok": True,
        "modified": done.modified,
        # A sync that changed nothing shows the id of the one that brought this version.
        "sync_id": str(uuid.uuid5(uuid.UUID(app_id), f"sync\0{done.app_version}")),
        "app_id": app_id,
    }
    if registration.warnings:
        reply["warnings"] = _shown(registration.warnings)
    return json_response(reply)


def _refused(why: str, problems: tuple[Problem, ...]) -> Response:
    _log.warning("refused a registration", why=why)
    return json_response({"error": why, "problems": _shown(problems), "data": None, "status": 400}, 400)


async def _check_policy(core: Core, registration: Registration) -> None:
    policy = core.settings.auto_register
    if policy == "Always":
        return
    if policy == "Existing" and registration.app_id in (await core.registry()).apps:
        return
    _log.warning("refused a registration", app=registration.app_id, why=f"autoRegister is {policy}")
    which = "only apps that are known already" if policy == "Existing" else "apps"
    may = "may register themselves" if policy == "Existing" else "may not register themselves"
    raise ApiError(
        403, f"{which} {may} with this server (autoRegister is {policy}): declare the app to it first"
    )


def _tell(registration: Registration, *, modified: bool) -> None:
    # Apps register again and again: what is odd is said once.
    for warning in registration.warnings if modified else ():
        function, field, message = warning.function, warning.field, warning.message
        _log.warning("odd registration", app=registration.app_id, function=function, field=field, why=message)
    say = _log.info if modified else _log.debug
    say(
        "app registered",
        app=registration.app_id,
        url=shown_url(registration.url),
        functions=len(registration.functions),
        sdk=f"{registration.sdk_language} {registration.sdk_version}",
        modified=modified,
    )


def _shown(problems: tuple[Problem, ...]) -> list[dict[str, str | None]]:
    return [{"function": p.function, "field": p.field, "message": p.message} for p in problems]
