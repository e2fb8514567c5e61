"""`POST /e/{key}`: the way in for events, and the hot path. Plain ASGI; nothing of a framework in between."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

import orjson
import structlog

from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_gateway.bodies import BodyError, ClientGoneError, Header, Receive, read_body
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import RETRY_AFTER_S, store_trouble
from innkeeper_gateway.ingest import IngestError, parse_events, read_seed

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PREFIX: Final = "/e/"

_JSON: Final[Header] = (b"content-type", b"application/json")
_ANY_ORIGIN: Final[Header] = (b"access-control-allow-origin", b"*")
_RETRY_AFTER: Final[Header] = (b"retry-after", str(RETRY_AFTER_S).encode())
_NOTHING_SENT: Final = b'{"ids":[""],"status":200}'

_log = structlog.get_logger(__name__)


class EventsRoute:
    """Takes events from whoever knows an event key, from browsers too.

    A reply 200 says that all events of the request are stored, as durably as Redis stores them; every other reply
    that the sender did nothing wrong but may try again (503), or that nothing of the request was taken (4xx).
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._keys = tuple(key.encode() for key in core.settings.event_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request whose path begins with `/e/`."""
        method = scope["method"]
        if method == "POST":
            await self._post(scope, receive, send)
        elif method == "OPTIONS":
            await _reply(send, 204, b"", _preflight(scope["headers"]))
        else:
            await _refuse(send, 405, "events are sent with POST", ((b"allow", b"POST, OPTIONS"),))

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._knows(scope["path"][len(PREFIX) :]):
            # This shape, and no other, is what senders know for a wrong key.
            await _reply(send, 401, b'{"status":401,"message":"","error":"Event key not found"}', (_JSON,))
            return
        limits = self._core.settings.limits
        content_type, seed_header = "", None
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value.decode("latin-1")
            elif name == b"x-inngest-event-id-seed":
                seed_header = value.decode("latin-1")
        try:
            body = await read_body(scope["headers"], receive, limits.request_bytes)
            now_ms = self._core.clock.now_ms()
            given = read_seed(seed_header)
            seed = given or self._core.draw_seed(now_ms)
            events = parse_events(body, content_type, limits, now_ms, seed)
        except ClientGoneError:
            return
        except (BodyError, IngestError) as error:
            await _refuse(send, error.status, error.message)
            return
        if not events:
            await _reply(send, 200, _NOTHING_SENT, (_JSON,))
            return
        try:
            async with asyncio.timeout(self._core.settings.store_timeout_s):
                await self._core.store.append(self._core.settings.env, events, seeded=given is not None)
        except (StoreError, StoreUnavailableError, TimeoutError) as error:
            trouble = store_trouble(error)
            if trouble is None:
                raise
            _log.warning("events were not taken", count=len(events), why=trouble)
            await _refuse(send, 503, f"{trouble}; send the events again", (_RETRY_AFTER,))
            return
        ids = '","'.join([event_id for event_id, _, _ in events])
        await _reply(send, 200, f'{{"ids":["{ids}"],"status":200}}'.encode(), (_JSON,))

    def _knows(self, key: str) -> bool:
        if self._core.settings.dev:
            return bool(key)
        given = key.encode("utf-8", "surrogateescape")
        known = False
        for each in self._keys:
            known |= hmac.compare_digest(given, each)
        return known


def _preflight(headers: list[Header]) -> tuple[Header, ...]:
    asked = next((value for name, value in headers if name == b"access-control-request-headers"), b"*")
    return (
        (b"access-control-allow-methods", b"POST, OPTIONS"),
        (b"access-control-allow-headers", asked),
        (b"access-control-max-age", b"86400"),
    )


async def _refuse(send: Send, status: int, message: str, headers: tuple[Header, ...] = ()) -> None:
    # `ids` has one empty entry where nothing was taken: what senders know.
    body = orjson.dumps({"ids": [""], "status": status, "error": message})
    await _reply(send, status, body, (_JSON, *headers))


async def _reply(send: Send, status: int, body: bytes, headers: tuple[Header, ...]) -> None:
    length = (b"content-length", str(len(body)).encode())
    all_headers = [*headers, length, _ANY_ORIGIN] if status != 204 else [*headers, _ANY_ORIGIN]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
