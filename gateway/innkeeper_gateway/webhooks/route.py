"""`POST /w/{token}`: the way in for providers. Plain ASGI, as the route of events.

What is answered, as providers understand it: 2xx says that the request is kept, as events or as a dead letter, and need
not come again; 4xx that it is not taken; 503 that it shall come again.
"""

import asyncio
import math
from collections.abc import Hashable
from time import perf_counter
from typing import Any, Final, Protocol

import orjson
import structlog
from structlog.contextvars import bind_contextvars

from innkeeper_apps.sandbox.pool import MIB, Sandbox
from innkeeper_engine.exposition import shown
from innkeeper_engine.model.environments import key_digest
from innkeeper_engine.model.webhooks import DeadLetter
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_gateway.bodies import BodyError, ClientGoneError, Header, Receive, read_body
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import RETRY_AFTER_S, close_unless, store_trouble
from innkeeper_gateway.events_route import Scope, Send
from innkeeper_gateway.places import BranchError
from innkeeper_gateway.rates import REFUSED_BYTES
from innkeeper_gateway.tracing import current_trace
from innkeeper_gateway.webhooks.handling import (
    Busy,
    Challenged,
    Failed,
    Outcome,
    Refused,
    Taken,
    WebhookRequest,
    handle,
)
from innkeeper_gateway.webhooks.source import OpenedWebhook, SealedError, WebhookSource

PREFIX: Final = "/w/"

BODY_BYTES: Final = 4 * MIB
"""What a provider may send, before and after decompression: more than an event may hold, since transforms leave out."""

FAILURES_PER_S: Final = 50
"""Requests of a webhook whose transform fails, a second, where rates are limited. They are kept as they came, and nothing
begins with them: beyond that its senders are told when to come again."""

TOLD_PER_S: Final = 1
"""Failures of a webhook that are logged as warnings, a second, where rates are limited: one sender shall not fill
everybody's log."""

SEALED_RETRY_S: Final = 60
"""What a sender is told to wait where somebody has to give the gateway its key first."""

_JSON: Final[Header] = (b"content-type", b"application/json")
_TEXT: Final[Header] = (b"content-type", b"text/plain; charset=utf-8")

_log = structlog.get_logger(__name__)


class Letters(Protocol):
    """Where dead letters are kept."""

    async def keep(self, letter: DeadLetter) -> None:
        """Keep a letter, as durably as events.

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: it is not kept.
        """
        ...


class WebhooksRoute:
    """Takes requests of providers, and answers when what became of them is stored."""

    def __init__(self, core: Core, source: WebhookSource, letters: Letters, sandbox: Sandbox) -> None:
        self._core = core
        self._source = source
        self._letters = letters
        self._sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request whose path begins with `/w/`."""
        if scope["method"] != "POST":
            await _refuse(send, 405, "webhooks are sent with POST", ((b"allow", b"POST"),))
            return
        patience, who = self._core.patience, None
        try:
            opened = await self._source.by_digest(key_digest(scope["path"][len(PREFIX) :]))
            if opened is None:
                self._count("unknown")
                stays = await patience.hold(self._core.sender(scope))
                await _refuse(send, 404, "there is no such webhook: look at its URL", close_unless(stays))
                return
            who = opened.webhook.digest
            wait_s = self._wait_s(opened)
            if wait_s:
                self._count("limited")
                self._core.metrics.rate_limited.add(shown(opened.environment.name))
                await _slow_down(send, wait_s, close_unless(await patience.hold(who)))
                return
            request = await self._read(opened, scope, receive)
            bind_contextvars(env=request.env)
            outcome = await self._outcome(opened, request)
            await self._store(outcome, request.env)
        except ClientGoneError:
            return
        except BranchError as error:
            self._count("refused")
            await _refuse(send, 400, str(error), close_unless(await patience.hold(who)))
        except BodyError as error:
            self._count("refused")
            await _refuse(send, error.status, error.message, close_unless(await patience.hold(who)))
        except SealedError as error:
            self._count("sealed")
            _log.error("a webhook's request was not taken", webhook=error.webhook, why=str(error))
            await _busy(send, "this webhook cannot check proofs now: see the server's log", SEALED_RETRY_S)
        except (StoreError, StoreUnavailableError, TimeoutError) as error:
            trouble = store_trouble(error)
            if trouble is None:
                raise
            self._count("store")
            _log.warning("a webhook's request was not taken", why=trouble)
            await _busy(send, f"{trouble}; send the request again", RETRY_AFTER_S)
        else:
            self._count(type(outcome).__name__.lower())
            if isinstance(outcome, Taken | Failed | Challenged):
                self._core.taken.note(opened.webhook, request.received_ms)
            stays = not isinstance(outcome, Refused | Busy) or await patience.hold(who)
            await _answer(send, outcome, close_unless(stays))

    def _wait_s(self, opened: OpenedWebhook) -> float:
        """How long the sender has to wait; 0 where the request is taken, and counted."""
        rates, rate, who = self._core.event_rates, self._rate(opened), opened.webhook.digest
        wait_s = max(rates.wait_s(who, rate), rates.wait_s(_failed(who), FAILURES_PER_S if rate else 0))
        if not wait_s:
            rates.take(who, rate, 1)
        return wait_s

    def _rate(self, opened: OpenedWebhook) -> int:
        return self._core.settings.events_rate(opened.environment.policy)

    def _count(self, outcome: str) -> None:
        self._core.metrics.webhook_requests.add(outcome)

    async def _read(self, opened: OpenedWebhook, scope: Scope, receive: Receive) -> WebhookRequest:
        core = self._core
        headers, query = scope["headers"], scope["query_string"]
        return WebhookRequest(
            env=core.place(opened.environment, headers, query).env,
            received_ms=core.clock.now_ms(),
            headers=headers,
            query=query,
            body=await self._body(opened, headers, receive),
            address=core.sender(scope),
        )

    async def _body(self, opened: OpenedWebhook, headers: list[Header], receive: Receive) -> bytes:
        core, who = self._core, opened.webhook.digest
        try:
            return await read_body(headers, receive, BODY_BYTES, turn=core.turns.of(who))
        except BodyError as error:
            core.event_rates.take(who, self._rate(opened), error.unpacked // REFUSED_BYTES)
            raise

    async def _outcome(self, opened: OpenedWebhook, request: WebhookRequest) -> Outcome:
        core, webhook = self._core, opened.webhook
        seed = core.draw_seed(request.received_ms)
        started = perf_counter()
        outcome = await handle(webhook, opened.secrets, request, self._sandbox, core.settings.limits, seed)
        if isinstance(outcome, Taken | Failed):
            core.metrics.webhook_transform_seconds.add(perf_counter() - started)
        if isinstance(outcome, Refused):
            _log.info("a webhook's request was refused", webhook=webhook.name, why=outcome.code)
        elif isinstance(outcome, Failed):
            letter, is_limited = outcome.letter, self._rate(opened) > 0
            core.event_rates.take(_failed(webhook.digest), FAILURES_PER_S if is_limited else 0, 1)
            # That it is suspended the failures before it have said, five times. The letters tell of all.
            is_told = letter.code == "suspended" or core.event_rates.admit(
                _told(webhook.digest), TOLD_PER_S if is_limited else 0, 1
            )
            say = _log.debug if is_told else _log.warning
            say(
                "a webhook's transform failed",
                webhook=webhook.name,
                env=request.env,
                why=letter.code,
                line=letter.line,
                column=letter.column,
            )
        return outcome

    async def _store(self, outcome: Outcome, env: str) -> None:
        async with asyncio.timeout(self._core.settings.store_timeout_s):
            if isinstance(outcome, Taken) and outcome.events:
                await self._core.store.append(env, outcome.events, trace=current_trace())
            elif isinstance(outcome, Failed):
                await self._letters.keep(outcome.letter)


def _failed(who: str) -> Hashable:
    """Under which name the failures of a webhook are counted."""
    return "failed", who


def _told(who: str) -> Hashable:
    """Under which name those are counted that are logged."""
    return "told", who


async def _answer(send: Send, outcome: Outcome, more: tuple[Header, ...]) -> None:
    match outcome:
        case Taken(events):
            ids = [event_id for event_id, _, _ in events]
            await _reply(send, 200, orjson.dumps({"ids": ids, "status": 200}), (_JSON,))
        case Challenged(challenge):
            await _reply(send, 200, challenge.encode("utf-8", "replace"), (_TEXT,))
        case Failed(letter):
            # What was thrown is not the provider's business.
            message = f"no event was made of it ({letter.code}); the request is kept"
            await _reply(send, 202, orjson.dumps({"ids": [], "status": 202, "message": message}), (_JSON,))
        case Refused():
            await _refuse(send, outcome.status, outcome.message, more)
        case Busy(message, retry_after_s):
            await _busy(send, f"{message}; send the request again", retry_after_s, more)


async def _slow_down(send: Send, wait_s: float, more: tuple[Header, ...]) -> None:
    why = "more requests come to this webhook than it may take; send the request again"
    await _refuse(send, 429, why, ((b"retry-after", b"%d" % math.ceil(wait_s)), *more))


async def _busy(send: Send, message: str, retry_after_s: int, more: tuple[Header, ...] = ()) -> None:
    await _refuse(send, 503, message, ((b"retry-after", str(retry_after_s).encode()), *more))


async def _refuse(send: Send, status: int, message: str, headers: tuple[Header, ...] = ()) -> None:
    await _reply(send, status, orjson.dumps({"error": message, "status": status}), (_JSON, *headers))


async def _reply(send: Send, status: int, body: bytes, headers: tuple[Header, ...]) -> None:
    start: dict[str, Any] = {
        "type": "http.response.start",
        "status": status,
        "headers": [*headers, (b"content-length", str(len(body)).encode())],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})
