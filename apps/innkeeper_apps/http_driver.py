"""The driver for apps that are called over HTTP."""

import asyncio
import ssl
from collections.abc import Mapping

import msgspec

from innkeeper_apps.classes import Routes, routes_of
from innkeeper_apps.egress import EgressPolicy, Resolver
from innkeeper_apps.http1 import Reply
from innkeeper_apps.transport import Transport, TransportError
from innkeeper_apps.wire.keys import verify_response
from innkeeper_apps.wire.request import call_body, call_headers, call_url, needs_api
from innkeeper_apps.wire.response import MAX_RESPONSE_BYTES, OUTPUT_TOO_LARGE, failure, read_answer
from innkeeper_engine.model.calls import Answer, Call, Target
from innkeeper_engine.model.clock import Clock
from innkeeper_engine.model.reach import Reach

CALL_TIMEOUT_S = 2 * 60 * 60.0
"""The longest that one call may take."""

_READ_BYTES = 2 * MAX_RESPONSE_BYTES
"""A streamed reply holds its body as JSON text inside JSON: up to twice the size on the wire."""


class HttpDriver:
    """Carries calls to apps by POST, one connection pool for all of them."""

    def __init__(
        self,
        egress: EgressPolicy | Routes,
        clock: Clock,
        *,
        tls: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
        dial: Mapping[str, str] | None = None,
    ) -> None:
        """`egress`: one policy for all apps, or which rules the `reach` of an app goes by.

        `tls`: which certificates are trusted, by default those that httpx trusts (SSL_CERT_FILE counts).

        `dial`: for tests, see `Transport`.
        """
        self._clock = clock
        self._transport = Transport(resolver or routes_of(egress), tls=tls, dial=dial)

    async def call(self, call: Call, target: Target, *, timeout_s: float = CALL_TIMEOUT_S) -> Answer:
        """Send one call and read its answer.

        Never raises for what the app or the network did: that comes back as an `Answer` of kind `error`, its
        `reason` a sentence, its error's `name` one word such as `ConnectionRefused`. Cancelling the task closes
        the connection. The call is sent once; only where the app refuses the signature (401, before anything
        runs), and there is a second key, it is sent again signed with that. Where its state is too large to send,
        it goes out with `use_api`.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        if not call.use_api and needs_api(call):
            call = msgspec.structs.replace(call, use_api=True)
        url, body = call_url(call), call_body(call)
        try:
            reply = await self._post(call, url, body, target.signing_key, target.reach, timeout_s)
            if reply.status == 401 and target.signing_key and target.signing_key_fallback:
                left_s = max(deadline_s - loop.time(), 0.0)
                reply = await self._post(call, url, body, target.signing_key_fallback, target.reach, left_s)
        except TransportError as e:
            if e.code == "ResponseTooLarge":
                return failure(f"{OUTPUT_TOO_LARGE}: {e}", name=OUTPUT_TOO_LARGE)
            return failure(str(e), name=e.code)
        if not self._trusted(reply, target):
            return failure(
                "the response is signed, but not with this app's signing key: something between changed or made it",
                name="BadSignature",
            )
        return read_answer(reply.status, dict(reply.headers), reply.body, self._clock.now_ms())

    def _trusted(self, reply: Reply, target: Target) -> bool:
        """Whether a signature, where there is one, is the app's. What comes before an SDK (proxies) signs nothing."""
        header = dict(reply.headers).get("x-inngest-signature")
        keys = [key for key in (target.signing_key, target.signing_key_fallback) if key]
        # A streamed reply is signed, if at all, before its body is known. Its age says nothing: a call may be long.
        if header is None or not keys or reply.status == 201:
            return True
        now_s = self._clock.now_ms() // 1000
        return verify_response(header, reply.body, keys, now_s, max_skew_s=now_s)

    async def _post(
        self, call: Call, url: str, body: bytes, key: str | None, reach: Reach, timeout_s: float
    ) -> Reply:
        headers = call_headers(call, body, key, self._clock.now_ms() // 1000)
        return await self._transport.send(
            "POST",
            url,
            headers,
            body,
            timeout_s=timeout_s,
            limit=_READ_BYTES,
            redirects="repeat",
            reach=reach,
        )

    async def close(self) -> None:
        """Close idle connections."""
        await self._transport.close()
