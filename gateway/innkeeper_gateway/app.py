"""The gateway as one ASGI app: events, webhooks and checkpoints in front, FastAPI for everything else."""

import logging
import re
import time
from collections.abc import MutableMapping
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from structlog.contextvars import clear_contextvars

from innkeeper_apps.sync import Syncer
from innkeeper_engine.model.clock import Clock, Ids
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_engine.store.store import Store
from innkeeper_engine.tracing import Tracer
from innkeeper_gateway import (
    api_v0,
    api_v1,
    cancellations,
    deadletters,
    health,
    invoke,
    prometheus,
    register,
    replays,
    switches,
)
from innkeeper_gateway.access.reviews import Reviews
from innkeeper_gateway.bodies import BodyError, ClientGoneError, Header, Receive
from innkeeper_gateway.browsers import refusal
from innkeeper_gateway.checkpoint import CheckpointRoute, run_of
from innkeeper_gateway.core import Core, RegistrySource
from innkeeper_gateway.counting import count_request, route_of
from innkeeper_gateway.errors import ApiError, error_response, store_trouble, trouble_response
from innkeeper_gateway.events_route import PREFIX, EventsRoute, Scope, Send
from innkeeper_gateway.intents import route as intents
from innkeeper_gateway.lists import catalog, events, runs
from innkeeper_gateway.openapi import route as openapi
from innkeeper_gateway.registrars import Registrar
from innkeeper_gateway.settings import GatewaySettings
from innkeeper_gateway.tracing import begin_trace, end_trace
from innkeeper_gateway.webhooks import route as webhooks

_QUIET = ("/live", "/ready", "/health", "/v1/checkpoint/")
"""Requests of machines, which come all the time: they are logged at the level debug."""

_WITH_KEY = re.compile(r"((?:^|/)[ew]/).*", re.IGNORECASE | re.DOTALL)
"""Paths that begin with a key of events or of a webhook, also below a prefix that somebody has put before them."""

ROUTERS: Final = tuple(
    module.router
    for module in (
        invoke,
        register,
        api_v1,
        events,
        runs,
        # Before the catalog, whose slugs may hold slashes.
        switches,
        catalog,
        cancellations,
        replays,
        deadletters,
        api_v0,
        health,
        intents,
        prometheus,
        openapi,
    )
)

_log = structlog.get_logger(__name__)


class GatewayApp:
    """The ASGI app. `open` and `close` bracket its life where a server does not send lifespan messages."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.api = make_api(core)
        self._events = EventsRoute(core)
        self._checkpoints = CheckpointRoute(core)
        self._webhooks = webhooks.WebhooksRoute(core, core.webhooks, core.letters, core.sandbox)
        self._kind = (b"x-inngest-server-kind", core.settings.server_kind.encode())
        self._tells_all = _is_told(logging.DEBUG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every answer says what kind of server this is."""
        if scope["type"] != "http":
            # WebSockets are refused by FastAPI, which has no route for them; lifespan needs nothing.
            await self.api(scope, receive, send)
            return
        # Requests of one connection may share a context: nothing of the one before is told of this one.
        clear_contextvars()
        path: str = scope["path"]
        started = time.perf_counter()
        status = 0

        async def send_marked(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), self._kind]
            await send(message)

        is_events = path.startswith(PREFIX)
        is_webhook = path.startswith(webhooks.PREFIX)
        checkpointed = None if is_events or is_webhook else run_of(path)
        tracer = self.core.tracer
        traced = None
        if tracer is not None and scope["method"] == "POST" and not checkpointed:
            traced = begin_trace(tracer, scope["headers"])
        # A path with a key in it is not for the log; nor is one that was meant to be such a path.
        if is_events:
            shown, route = "/e/***", "/e/{key}"
        elif is_webhook:
            shown, route = "/w/***", "/w/{token}"
        else:
            shown, route = _WITH_KEY.sub(r"\1***", path), ""
        try:
            if is_events:
                await self._events(scope, receive, send_marked)
            elif is_webhook:
                await self._webhooks(scope, receive, send_marked)
            elif (said := self._not_for_pages(scope["headers"])) is not None:
                await error_response(403, said)(scope, receive, send_marked)
            elif checkpointed:
                route = "/v1/checkpoint/{run_id}/async"
                answer = await self._checkpoints.answer(
                    checkpointed, scope["method"], scope["headers"], scope["query_string"], receive
                )
                if answer is not None:
                    await answer(scope, receive, send_marked)
            else:
                await self.api(scope, receive, send_marked)
        except Exception:
            _log.exception("a request ended in an error of the server's own", path=shown)
            if status == 0:
                await internal_error()(scope, receive, send_marked)
        if tracer is not None and traced is not None:
            end_trace(tracer, traced, scope, "" if checkpointed else route, status)
        seconds = time.perf_counter() - started
        count_request(self.core.metrics, route or route_of(scope), scope["method"], status, seconds)
        quiet = is_events or is_webhook or path.startswith(_QUIET)
        self._tell(scope["method"], shown, status, seconds, quiet=quiet)

    def _not_for_pages(self, headers: list[Header]) -> str | None:
        """Why a request may be some web page's, which this server does not listen to; None: it is not."""
        settings = self.core.settings
        return refusal(headers, settings.dev_hosts) if settings.dev else None

    def drain(self) -> None:
        """Say in `/ready` that this server stops soon, so that balancers send nobody here."""
        self.core.draining = True
        self.core.patience.end()

    async def close(self) -> None:
        """End waits, the subscription behind them and the sandbox. The store is its owner's to close."""
        self.core.draining = True
        self.core.patience.end()
        await self.core.notices.close()
        await self.core.environments.close()
        await self.core.webhooks.close()
        await self.core.taken.end()
        await self.core.sandbox.close()
        await self.core.access.close()
        self.core.filters.close()

    async def finish(self) -> None:
        """Write what waits to be written, once nobody is answered any more."""
        await self.core.taken.write_rest()

    def _tell(self, method: str, path: str, status: int, seconds: float, *, quiet: bool) -> None:
        # Why Redis cannot be reached is told by itself; a busy sandbox may be somebody's flood.
        quiet = quiet and (status < 500 or status == 503)
        if quiet and not self._tells_all:
            # Asking a logger costs as much as the rest of all this.
            return
        level = _log.debug if quiet else _log.info
        level(
            "request",
            method=method,
            path=path,
            status=status,
            ms=round(seconds * 1e3, 2),
        )


def _is_told(level: int) -> bool:
    """Whether lines of this level go anywhere, as logging is set up now."""
    logger = _log.bind()
    asked = getattr(logger, "is_enabled_for", None) or logger.isEnabledFor
    return bool(asked(level))


def create_app(
    settings: GatewaySettings,
    store: Store,
    registries: RegistrySource,
    clock: Clock,
    ids: Ids,
    *,
    registrar: Registrar | None = None,
    reviews: Reviews | None = None,
    syncer: Syncer | None = None,
    tracer: Tracer | None = None,
) -> GatewayApp:
    """The gateway's ASGI app. `store` must be open, and stays its owner's.

    `registrar`: what becomes of registrations; None: a managed gateway leaves them for the operator, any other one
    writes them. `reviews`: asks the API server about people with Kubernetes tokens; None: there are none.
    `syncer`: how apps are asked for their functions where no operator does that; None: they are not.
    `tracer`: None where nothing is told of traces.
    """
    return GatewayApp(Core(settings, store, registries, clock, ids, registrar, reviews, syncer, tracer))


def make_api(core: Core) -> FastAPI:
    """All routes but those in front."""
    # A redirect would say where to go by the Host that the client named.
    api = FastAPI(title="Innkeeper", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    api.state.core = core
    # The routes are what they are wherever they are served: FastAPI's `include_router` would make each of them anew, with
    # the first request that looks at it.
    for router in ROUTERS:
        api.router.routes.extend(router.routes)
    api.add_exception_handler(ApiError, _on_api_error)
    api.add_exception_handler(BodyError, _on_body_error)
    api.add_exception_handler(ClientGoneError, _on_client_gone)
    api.add_exception_handler(HTTPException, _on_http_exception)
    api.add_exception_handler(RequestValidationError, _on_invalid)
    for trouble in (StoreError, StoreUnavailableError, TimeoutError):
        api.add_exception_handler(trouble, _on_store_trouble)
    api.add_exception_handler(Exception, _on_error)
    return api


def internal_error() -> Response:
    """What a client learns of an error that is the server's own."""
    return error_response(500, "the server failed to answer this request; its log says why")


async def _on_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error.status, error.message, error.headers, error.data)


async def _on_body_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BodyError)
    return error_response(error.status, error.message)


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    return error_response(400, "the request ended before its body was complete")


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404:
        message = f"nothing is served at {request.url.path}"
    elif error.status_code == 405:
        allowed = ", ".join(_methods_at(request))
        message = f"{request.method} is not served at {request.url.path}, but {allowed}"
        return error_response(405, message, {"Allow": allowed})
    return error_response(error.status_code, message, dict(error.headers or {}))


def _methods_at(request: Request) -> list[str]:
    """All that is served at a path (RFC 9110, 10.2.1), by several routes perhaps."""
    methods: set[str] = set()
    for route in (route for router in ROUTERS for route in router.routes):
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    said = "; ".join(
        f"{'.'.join(str(part) for part in e['loc'])}: {e['msg'].removeprefix('Value error, ')}"
        for e in error.errors()
    )
    return error_response(400, said)


async def _on_store_trouble(request: Request, error: Exception) -> Response:
    trouble = store_trouble(error)
    if trouble is None:
        try:
            raise error
        finally:
            del error  # else it and this frame, and what the request brought, hold each other
    _log.warning("a request was not served", path=request.url.path, why=trouble)
    return trouble_response(trouble)


async def _on_error(_request: Request, _error: Exception) -> Response:
    # Starlette raises the error again once this is sent, and `GatewayApp` logs it.
    return internal_error()
