"""`POST /fn/register`: an app says which functions it has."""

import uuid
from typing import Any

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from innkeeper_apps.wire.fields import Problem
from innkeeper_apps.wire.register import Registration, RegistrationError, parse_registration, shown_url
from innkeeper_engine.compiled import app_uuid
from innkeeper_engine.registering import FunctionTakenError
from innkeeper_engine.store.environments import InboxFullError
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import RETRY_AFTER_S, ApiError, json_response
from innkeeper_gateway.requests import AUTHENTICATED, CoreOf, PlaceOf, body_of

router = APIRouter(dependencies=AUTHENTICATED)

_log = structlog.get_logger(__name__)


@router.post("/fn/register")
async def register(request: Request, core: CoreOf, place: PlaceOf) -> Response:
    """Register an app with all its functions, or refuse it with everything that is wrong.

    Both SDKs' spellings of the body are read. `deployId` in the query, with which an SDK repeats what started its
    sync, changes nothing. Replies `{"ok", "modified", "sync_id", "app_id"}`, and `warnings` where there are some;
    `modified` is false where the app has declared just this before. Refusals: 400 with `problems`
    (`[{function, field, message}]`) or for another kind of server than the app was told of, 403 where the policy does
    not let the app register itself, 503 where the operator has more to take than it can.

    A managed gateway answers 200 when the registration is safe for the operator; `modified` is true then.
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
    env = place.env
    await _check_policy(core, env, registration.app_id)
    async with core.in_time():
        try:
            done = await core.registrar.register(env, registration, body, now_ms)
        except RegistrationError as error:
            return _refused(str(error), error.problems)
        except FunctionTakenError as error:
            problem = Problem(error.slug, "id", str(error))
            return _refused(f"At least one function is invalid: {problem}", (problem,))
        except InboxFullError as error:
            raise ApiError(503, str(error), headers={"Retry-After": str(RETRY_AFTER_S)}) from None
    _tell(registration, modified=done.modified)
    app_id = app_uuid(env, registration.app_id)
    reply: dict[str, Any] = {
        "ok": True,
        "modified": done.modified,
        # A sync that changed nothing shows the id of the one that brought this version.
        "sync_id": str(uuid.uuid5(uuid.UUID(app_id), f"sync\0{done.sync}")),
        "app_id": app_id,
    }
    if registration.warnings:
        reply["warnings"] = _shown(registration.warnings)
    return json_response(reply)


def _refused(why: str, problems: tuple[Problem, ...]) -> Response:
    _log.warning("refused a registration", why=why)
    return json_response({"error": why, "problems": _shown(problems), "data": None, "status": 400}, 400)


async def _check_policy(core: Core, env: str, app_id: str) -> None:
    policy = core.settings.auto_register
    if policy == "Always" or (policy == "Existing" and await _is_known(core, env, app_id)):
        return
    _log.warning("refused a registration", app=app_id, env=env, why=f"autoRegister is {policy}")
    which = "only apps that are known already" if policy == "Existing" else "apps"
    may = "may register themselves" if policy == "Existing" else "may not register themselves"
    raise ApiError(
        403, f"{which} {may} with this server (autoRegister is {policy}): declare the app to it first"
    )


async def _is_known(core: Core, env: str, app_id: str) -> bool:
    """Whether the app has registered before, or is declared."""
    if app_id in (await core.registry(env)).apps:
        return True
    if not core.settings.managed:
        return False
    # It may have been declared a moment ago.
    await core.environments.refresh()
    record = core.environments.by_name(env)
    return record is not None and app_id in record.apps


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
