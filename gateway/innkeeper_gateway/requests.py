"""What the API's routes share in reading a request."""

import math
from collections.abc import Hashable
from typing import Annotated, Any, Final, cast

from fastapi import Depends, Request, params
from fastapi.routing import APIRoute
from structlog.contextvars import bind_contextvars

from innkeeper_apps.wire.canonical import NotJsonError, parse
from innkeeper_engine.exposition import shown
from innkeeper_engine.model.clock import ULID_LENGTH, is_ulid
from innkeeper_engine.model.environments import parent_name
from innkeeper_gateway.access.callers import Caller
from innkeeper_gateway.access.permissions import Permission
from innkeeper_gateway.bodies import REQUEST_SETTING, Header, read_body
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.places import ENV_HEADER, Place, wanted_branch


def core_of(request: Request) -> Core:
    """The core that the app was made with."""
    return cast(Core, request.app.state.core)


CoreOf = Annotated[Core, Depends(core_of)]


async def admitted(request: Request, core: CoreOf) -> Place:
    """Where the request may work; refuses who shows no signing key (see `Core.admit`)."""
    try:
        place = await core.admit(request.scope["headers"], request.scope["query_string"])
    except ApiError as error:
        raise await _in_time(error, core, request) from None
    _bind(place, request)
    return place


AUTHENTICATED = [Depends(admitted)]
"""For routers: also what a route does not ask for is checked, and before anything else of the request."""

PlaceOf = Annotated[Place, Depends(admitted)]


async def caller_of(request: Request, core: CoreOf) -> Caller:
    """Who sends the request: see `known_caller`.

    Raises:
        ApiError: 400, it names a branch where there are none; and as `known_caller`.
    """
    headers, query = request.scope["headers"], request.scope["query_string"]
    caller = await known_caller(request, core, headers, query)
    named = wanted_branch(headers, query).strip()
    is_heard = caller.place.chosen or named in ("", core.own.name)
    if not is_heard and _path_of(request) not in _OF_SDKS:
        raise ApiError(
            400,
            f"{ENV_HEADER} names {named[:100]!r}, and there are no branches without an operator: everything is in "
            f"{core.own.name!r}; leave it out",
        )
    return caller


async def known_caller(request: Request, core: Core, headers: list[Header], query: bytes) -> Caller:
    """Who shows what is in `headers`; refuses whoever shows nothing that opens anything, or asks too often.

    Raises:
        ApiError: 429, more requests than one caller may make; and as `Core.caller`.
    """
    try:
        caller = await core.caller(headers, query, core.sender(request.scope))
    except ApiError as error:
        raise await _in_time(error, core, request) from None
    _bind(caller.place, request)
    # Whatever branch it names, it is one caller.
    who = (caller.kind, caller.name, parent_name(caller.place.env))
    rate = core.settings.requests_rate
    wait_s = core.rates.wait_s(who, rate)
    if wait_s:
        core.metrics.rate_limited.add(shown(parent_name(caller.place.env)))
        refusal = ApiError(
            429,
            f"{caller.name} may make {rate} requests a second, and has made more: wait, then try again",
            headers={"Retry-After": str(math.ceil(wait_s))},
        )
        raise await _in_time(refusal, core, request, who)
    core.rates.take(who, rate, 1)
    return caller


_OF_SDKS: Final = frozenset({"/v1/signals"})
"""Routes of callers that SDKs use too. What they say of branches is not looked at where there are none: their events and
registrations are all in one environment as well."""


def _path_of(request: Request) -> str:
    return getattr(request.scope.get("route"), "path", "")


async def _in_time(error: ApiError, core: Core, request: Request, who: Hashable | None = None) -> ApiError:
    """The refusal, when it is time for it: of somebody who is known, or of whoever sends from that address."""
    if not await core.patience.hold(who or core.sender(request.scope)):
        error.headers = {**error.headers, "Connection": "close"}
    return error


def _bind(place: Place, request: Request) -> None:
    """Let all that is logged of this request say where it works, and on which run. For the request's own task alone."""
    run = request.path_params.get("run_id")
    bind_contextvars(env=place.env, **({"run": run[:ULID_LENGTH]} if run is not None else {}))


KNOWN_CALLER = [Depends(caller_of)]
"""As `AUTHENTICATED`, for routers that are not for SDKs alone."""

CallerOf = Annotated[Caller, Depends(caller_of)]


async def known_parameters(request: Request) -> None:
    """Refuse parameters of the query that a route does not know: a filter that is not read would give too much.

    Raises:
        ApiError: 400, there is no such parameter, or it is given more than once.
    """
    route = request.scope.get("route")
    fields = route.dependant.query_params if isinstance(route, APIRoute) else []
    known = {field.alias: field.field_info.annotation for field in fields}
    seen = set()
    for name, _ in request.query_params.multi_items() if known else ():
        if name not in known and name != ENV_HEADER:
            raise ApiError(
                400, f"query.{name[:100]}: there is no such parameter; there are {', '.join(known)}"
            )
        if name in seen and "list" not in str(known.get(name)):
            raise ApiError(400, f"query.{name}: is given more than once")
        seen.add(name)


KNOWN_PARAMETERS = Depends(known_parameters)
"""For routers of lists."""


def needs(permission: Permission) -> params.Depends:
    """For a route that takes the same permission whatever it is about."""

    async def check(core: CoreOf, caller: CallerOf) -> None:
        await core.access.require(caller, permission)

    return cast(params.Depends, Depends(check))


async def body_of(request: Request, limit: int, setting: str = "") -> bytes:
    """The request's body within bounds.

    Raises:
        BodyError, ClientGoneError: see `read_body`.
    """
    return await read_body(request.scope["headers"], request.receive, limit, setting)


async def json_of(request: Request, limit: int, refusal: str) -> Any:
    """The request's JSON body, parsed; None for an empty one.

    Raises:
        ApiError: it is not JSON; `refusal` is how the sentence begins.
    """
    body = await body_of(request, limit, REQUEST_SETTING)
    try:
        return parse(body) if body.strip() else None
    except NotJsonError as error:
        raise ApiError(400, f"{refusal}: {error}") from None


def checked_ulid(text: str, what: str) -> str:
    """An id from a path, in the spelling in which it is stored.

    Raises:
        ApiError: 400, it cannot be one.
    """
    if not text.isascii() or not is_ulid(text):
        raise ApiError(400, f"Invalid {what} ID: {text[:100]}; an ID is 26 letters and digits")
    return text.upper()
