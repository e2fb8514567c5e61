"""`POST /fn/register`: an app says which functions it has."""

import uuid
from typing import Any

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from innkeeper_apps.wire.canonical import NotJsonError, parse
from innkeeper_apps.wire.fields import Fields, Findings, Problem
from innkeeper_apps.wire.register import Registration, RegistrationError, parse_registration, shown_url
from innkeeper_engine.compiled import app_uuid
from innkeeper_engine.registering import FunctionTakenError
from innkeeper_engine.store.registrations import InboxFullError
from innkeeper_gateway.bodies import REQUEST_SETTING
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import RETRY_AFTER_S, ApiError, json_response
from innkeeper_gateway.requests import AUTHENTICATED, CoreOf, PlaceOf, body_of

router = APIRouter(dependencies=AUTHENTICATED)

_log = structlog.get_logger(__name__)

_APP_CHARS = 255


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
    body = await body_of(request, core.settings.limits.request_bytes, REQUEST_SETTING)
    now_ms, env = core.clock.now_ms(), place.env
    try:
        registration = parse_registration(body)
    except RegistrationError as error:
        app, url = _named(body)
        source = url or (request.client.host if request.client else "")
        return _refused(core, env, app, str(error), error.problems, source=source)
    app = registration.app_id
    await _check_policy(core, env, app)
    async with core.in_time():
        try:
            done = await core.registrar.register(env, registration, body, now_ms)
        except RegistrationError as error:
            return _refused(core, env, app, str(error), error.problems)
        except FunctionTakenError as error:
            problem = Problem(error.slug, "id", str(error))
            return _refused(core, env, app, f"At least one function is invalid: {problem}", (problem,))
        except InboxFullError as error:
            raise ApiError(503, str(error), headers={"Retry-After": str(RETRY_AFTER_S)}) from None
    core.refusals.forget(env, app)
    _tell(registration, modified=done.modified)
    app_id = app_uuid(env, app)
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


def _refused(
    core: Core, env: str, app: str, why: str, problems: tuple[Problem, ...], *, source: str = ""
) -> Response:
    _tell_refusal(core, env, app, why, source=source)
    return json_response({"error": why, "problems": _shown(problems), "data": None, "status": 400}, 400)


def _named(body: bytes) -> tuple[str, str]:
    """The id and the URL of the app in a registration that cannot be taken; empty where it does not say."""
    try:
        document = parse(body)
    except (NotJsonError, RecursionError):
        return "", ""
    if not isinstance(document, dict):
        return "", ""
    fields = Fields(document, Findings())
    return fields.text("appName") or "", fields.text("url") or ""


def _tell_refusal(core: Core, env: str, app: str, why: str, *, source: str = "") -> None:
    """`source` stands for an app that has no id."""
    # An app that is refused asks again every few seconds, and says the same until somebody has changed it.
    say = _log.warning if core.refusals.is_news(env, app or source, why) else _log.debug
    say("refused a registration", app=app[:_APP_CHARS], env=env, why=why)


async def _check_policy(core: Core, env: str, app_id: str) -> None:
    policy = core.settings.auto_register
    if policy == "Always" or (policy == "Existing" and await _is_known(core, env, app_id)):
        return
    _tell_refusal(core, env, app_id, f"autoRegister is {policy}")
    which = "only apps that are known already" if policy == "Existing" else "apps"
    may = "may register themselves" if policy == "Existing" else "may not register themselves"
    raise ApiError(
        403, f"{which} {may} with this server (autoRegister is {policy}): declare the app to it first"
    )


async def _is_known(core: Core, env: str, app_id: str) -> bool:
    """Whether the app has registered before, or is declared."""
    return app_id in (await core.registry(env)).apps or await core.declares(env, app_id)


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
