"""`POST /e/{key}`: the way in for events, and the hot path. Plain ASGI; nothing of a framework in between."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeAlias

import orjson
import structlog
from structlog.contextvars import bind_contextvars

from innkeeper_engine.exposition import shown
from innkeeper_engine.model.environments import Environment, EventKey, shown_name
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_engine.store.store import NewEvent
from innkeeper_engine.triggers import patterns_for
from innkeeper_gateway.bodies import (
    REQUEST_SETTING,
    BodyError,
    ClientGoneError,
    Header,
    Receive,
    Turns,
    read_body,
)
from innkeeper_gateway.core import Core
from innkeeper_gateway.counting import env_label
from innkeeper_gateway.errors import RETRY_AFTER_S, close_unless, store_trouble
from innkeeper_gateway.ingest import IngestError, parse_events, read_seed
from innkeeper_gateway.places import BranchError, may_come_from
from innkeeper_gateway.rates import REFUSED_BYTES, Rates
from innkeeper_gateway.tracing import current_trace

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PREFIX: Final = "/e/"

_JSON: Final[Header] = (b"content-type", b"application/json")
_ANY_ORIGIN: Final[Header] = (b"access-control-allow-origin", b"*")
_RETRY_AFTER: Final[Header] = (b"retry-after", str(RETRY_AFTER_S).encode())

_REASONS: Final = {403: "forbidden", 413: "size"}
"""Why events were refused, in a word for metrics; anything else is wrong with the event."""

_STRAYS: Final = 1_000

_log = structlog.get_logger(__name__)


class EventsRoute:
    """Takes events from whoever knows an event key, from browsers too.

    A reply 200 says that all events of the request are stored, as durably as Redis stores them; every other reply
    that the sender did nothing wrong but may try again (503), or that nothing of the request was taken (4xx).
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._dev = EventKey(name="any", digest="")
        self._strays: set[str] = set()

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
        core = self._core
        who: Hashable = None
        env = ""
        try:
            opened = await self._open(scope["path"][len(PREFIX) :])
            if opened is None:
                core.metrics.events_refused.add("key")
                # This shape, and no other, is what senders know for a wrong key.
                unknown = b'{"status":401,"message":"","error":"Event key not found"}'
                stays = await core.patience.hold(core.sender(scope))
                await _reply(send, 401, unknown, (_JSON, *close_unless(stays)))
                return
            environment, key = opened
            who = key.digest
            if key.cidrs and not may_come_from(core.sender(scope), key.cidrs):
                raise IngestError("this event key may not be used from this address", status=403)
            env = core.place(environment, scope["headers"], scope["query_string"]).env
            rate = core.settings.events_rate(environment.policy)
            turn = _Turn(core.event_rates, who, rate, core.turns)
            turn.begin()
            events, seeded = await self._read(scope["headers"], receive, turn)
            if len(events) != 1:
                core.event_rates.take(who, rate, len(events) - 1)
            if key.events:
                _check_names(events, key)
            if events:
                async with asyncio.timeout(core.settings.store_timeout_s):
                    await core.store.append(env, events, seeded=seeded, trace=current_trace())
        except ClientGoneError:
            return
        except _TooManyError as error:
            core.metrics.events_refused.add("rate")
            core.metrics.rate_limited.add(shown(environment.name))
            wait = (b"retry-after", b"%d" % math.ceil(error.wait_s))
            await _refuse(send, 429, str(error), (wait, *close_unless(await core.patience.hold(who))))
        except BranchError as error:
            core.metrics.events_refused.add("branch")
            await _refuse(send, 400, str(error), close_unless(await core.patience.hold(who)))
        except (BodyError, IngestError) as error:
            core.metrics.events_refused.add(_REASONS.get(error.status, "event"))
            await _refuse(send, error.status, error.message, close_unless(await core.patience.hold(who)))
        except (StoreError, StoreUnavailableError, TimeoutError) as error:
            trouble = store_trouble(error)
            if trouble is None:
                raise
            core.metrics.events_refused.add("store")
            _log.warning("events were not taken", env=env, why=trouble)
            await _refuse(send, 503, f"{trouble}; send the events again", (_RETRY_AFTER,))
        except Exception:
            # Only now: what goes well is not logged, and is to cost little.
            bind_contextvars(env=env)
            raise
        else:
            if env != environment.name:
                self._tell_stray(environment, env)
            core.metrics.events_accepted.add(env_label(environment, env), amount=len(events))
            # No event has the id "", which senders know for that.
            ids = '","'.join([event_id for event_id, _, _ in events])
            await _reply(send, 200, f'{{"ids":["{ids}"],"status":200}}'.encode(), (_JSON,))

    def _tell_stray(self, environment: Environment, env: str) -> None:
        """Say once that events go where no app is: some SDKs take a branch from variables that a platform sets."""
        branch = shown_name(env)
        if branch not in environment.branches and env not in self._strays and len(self._strays) < _STRAYS:
            self._strays.add(env)
            _log.warning(
                "events are sent to a branch that no app declares: they start nothing",
                env=environment.name,
                branch=branch,
            )

    async def _open(self, key: str) -> tuple[Environment, EventKey] | None:
        core = self._core
        if core.settings.dev:
            return (core.own, self._dev) if key else None
        return await core.environments.by_event_key(key)

    async def _read(
        self, headers: list[Header], receive: Receive, turn: "_Turn"
    ) -> tuple[list[NewEvent], bool]:
        """The events of a request, and whether the sender gave their seed."""
        limits = self._core.settings.limits
        content_type, seed_header = "", None
        for name, value in headers:
            if name == b"content-type":
                content_type = value.decode("latin-1")
            elif name == b"x-inngest-event-id-seed":
                seed_header = value.decode("latin-1")
        size = 0
        try:
            body = await read_body(headers, receive, limits.request_bytes, REQUEST_SETTING, turn)
            size = len(body)
            now_ms = self._core.clock.now_ms()
            given = read_seed(seed_header)
            seed = given or self._core.draw_seed(now_ms)
            return parse_events(body, content_type, limits, now_ms, seed), given is not None
        except (BodyError, IngestError) as error:
            turn.pay(error.unpacked if isinstance(error, BodyError) else size)
            raise


class _TooManyError(Exception):
    """A key has sent more than it may."""

    def __init__(self, rate: int, wait_s: float) -> None:
        super().__init__(
            f"this event key may send {rate} events a second to a gateway, and has sent more; send the events again"
        )
        self.wait_s = wait_s


class _Turn:
    """One body of a key is unpacked at a time, and none where the last one was more than it may send."""

    def __init__(self, rates: Rates, who: Hashable, rate: int, turns: Turns) -> None:
        self._rates, self._who, self._rate, self._turns = rates, who, rate, turns
        self._lock: AbstractAsyncContextManager[Any] | None = None

    def begin(self) -> None:
        """Take one event, as much as a refusal costs; raise _TooManyError where the key has to wait."""
        wait_s = self._rates.admit(self._who, self._rate, 1)
        if wait_s:
            raise _TooManyError(self._rate, wait_s)

    def pay(self, size: int) -> None:
        """Something was read in vain: that has cost the more, the larger it was."""
        self._rates.take(self._who, self._rate, size // REFUSED_BYTES)

    async def __aenter__(self) -> None:
        lock = self._turns.of(self._who)
        await lock.__aenter__()
        wait_s = self._rates.wait_s(self._who, self._rate, taken=1)
        if wait_s:
            await lock.__aexit__(None, None, None)
            raise _TooManyError(self._rate, wait_s)
        self._lock = lock

    async def __aexit__(self, *error: Any) -> None:
        assert self._lock is not None
        await self._lock.__aexit__(*error)


def _check_names(events: list[NewEvent], key: EventKey) -> None:
    """Raise IngestError where one of the events may not be sent with this key."""
    for index, (_, name, _) in enumerate(events):
        if not any(pattern in key.events for pattern in patterns_for(name)):
            raise IngestError(
                f"events[{index}]: this event key may not send {name!r}", status=403, index=index
            )


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
