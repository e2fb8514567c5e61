"""Asking an app what functions it serves.

A signed *in-band* sync gets the functions in the reply. Where there are no keys, or the SDK does not do that, the
same request makes the app register by itself (*out of band*): it then calls `POST /fn/register`.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

import httpx
import msgspec

from innkeeper_apps.http1 import Reply
from innkeeper_apps.transport import Transport, TransportError
from innkeeper_apps.wire.canonical import NotJsonError, canonical, parse
from innkeeper_apps.wire.keys import MAX_SKEW_S, bearer_hash, sign, verify_response
from innkeeper_apps.wire.request import USER_AGENT
from innkeeper_engine.model.clock import Clock
from innkeeper_engine.model.reach import Reach

SYNC_TIMEOUT_S = 10.0
MAX_SYNC_BYTES = 8 * 1024 * 1024

_PLATFORMS = Reach()
_SHOWN_CHARS = 300
_SAID_CHARS = 8_000
"""Of what an SDK says in words: it repeats all that this server found wrong in a registration."""
_HASH_SHOWN = 12
_PHRASES = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), code)
    for pattern, code in (
        (r"server kind|dev server.*expected cloud|cloud.*expected dev", "server_kind_mismatch"),
        (r"(no|missing|not find).{0,20}signing key", "missing_signing_key"),
        (r"signing key.{0,30}(required|missing|not set)", "missing_signing_key"),
        (r"signing key|authentication failed|unauthori[sz]ed", "invalid_signing_key"),
        (r"no functions", "no_functions"),
        (r"function.{0,30}invalid|invalid function", "invalid_function"),
        (r"branch env", "missing_branch_env_name"),
    )
)
"""What SDKs, and this server through them, say when a registration fails."""


class SyncError(Exception):
    """An app could not be synced. `code` is for machines, the message a sentence that says what to do.

    Codes: unauthorized, forbidden, url_not_found, internal_server_error, invalid_signing_key, no_functions,
    invalid_function, missing_signing_key, missing_branch_env_name, unreachable, unsupported_protocol,
    server_kind_mismatch, invalid_response.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """A successful sync."""

    in_band: bool
    body: bytes = b""
    """In band: what the app declared, for `parse_in_band`; its signature was checked."""
    modified: bool | None = None
    """Out of band: whether the app says that its registration changed something."""


class Introspection(msgspec.Struct, frozen=True, kw_only=True):
    """What an app says about itself. Without authentication most of it is empty."""

    function_count: int = 0
    mode: str = ""
    """`dev` or `cloud`; empty from SDKs that do not say."""
    authenticated: bool = False
    app_id: str = ""
    framework: str = ""
    sdk_language: str = ""
    sdk_version: str = ""
    has_signing_key: bool | None = None
    signing_key_hash: str = ""
    """Hex, possibly only its beginning: compare with `knows_key`."""
    capabilities: dict[str, str] = {}

    def knows_key(self, key: str) -> bool | None:
        """Whether the app's signing key is `key`; None if it does not say."""
        return bearer_hash(key).startswith(self.signing_key_hash) if self.signing_key_hash else None


class Syncer:
    """Talks to serve endpoints through one transport. `server_kind`: what this server says it is."""

    def __init__(self, transport: Transport, clock: Clock, *, server_kind: Literal["dev", "cloud"]) -> None:
        self._transport = transport
        self._clock = clock
        self._kind = server_kind

    async def sync_app(
        self,
        url: str,
        *,
        keys: Sequence[str] = (),
        deploy_id: str = "",
        at: str = "",
        reach: Reach = _PLATFORMS,
        timeout_s: float = SYNC_TIMEOUT_S,
    ) -> Synced:
        """Ask the app at `url` to describe or register itself.

        With `keys` (the signing key, then its fallback) in band; the SDK may still answer out of band. Without,
        out of band and unsigned. `at`, a `host:port`, is dialled in place of the URL's: one pod behind a Service.
        `reach`: where the app may be.

        Raises:
            SyncError: the app was not reached or did not register.
        """
        body = canonical({"url": url})
        asked = str(httpx.URL(url).copy_merge_params({"deployId": deploy_id})) if deploy_id else url
        headers = {"Content-Type": "application/json"}
        if keys:
            headers["X-Inngest-Sync-Kind"] = "in_band"
        reply = await self._send("PUT", asked, headers, body, keys, timeout_s, at, reach)
        names = dict(reply.headers)
        if names.get("x-inngest-sync-kind", "").replace("-", "_") == "in_band" and reply.status == 200:
            if not self._verified(reply, keys):
                raise SyncError(
                    "invalid_signing_key",
                    f"the reply of {_where(url)} to the in-band sync is not signed with the app's signing key",
                )
            return Synced(in_band=True, body=reply.body)
        return self._out_of_band(url, reply)

    def _out_of_band(self, url: str, reply: Reply) -> Synced:
        if not _is_an_sdks(reply):
            raise _not_an_sdk(url, reply)
        answer = _object(reply.body)
        message = _message(answer, reply.body)
        done = answer.get("ok") is True or "successfully registered" in message.lower()
        if reply.status == 200 and done:
            modified = answer.get("modified")
            return Synced(in_band=False, modified=modified if isinstance(modified, bool) else None)
        raise _refused(url, reply.status, message)

    async def introspect(
        self,
        url: str,
        *,
        keys: Sequence[str] = (),
        at: str = "",
        reach: Reach = _PLATFORMS,
        timeout_s: float = SYNC_TIMEOUT_S,
    ) -> Introspection:
        """What the app at `url` says about itself; in cloud mode only to a request signed with its key.

        `at` and `reach` as for `sync_app`.

        Raises:
            SyncError: the app was not reached, refused, or is no Inngest app.
        """
        reply = await self._send("GET", url, {}, b"", keys, timeout_s, at, reach)
        answer = _object(reply.body)
        if reply.status != 200:
            raise _refused(url, reply.status, _message(answer, reply.body), quote=_is_an_sdks(reply))
        count = answer.get("function_count", answer.get("functionsFound"))
        if not isinstance(count, int):
            raise _not_an_sdk(url, reply)
        has_key = answer.get("has_signing_key", answer.get("hasSigningKey"))
        capabilities = answer.get("capabilities")
        texts = ("mode", "app_id", "framework", "sdk_language", "sdk_version", "signing_key_hash")
        return Introspection(
            function_count=count,
            authenticated=answer.get("authentication_succeeded") is True,
            has_signing_key=has_key if isinstance(has_key, bool) else None,
            capabilities={k: v for k, v in capabilities.items() if isinstance(v, str)}
            if isinstance(capabilities, dict)
            else {},
            **{key: answer[key] for key in texts if isinstance(answer.get(key), str)},
        )

    async def _send(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes,
        keys: Sequence[str],
        timeout_s: float,
        at: str,
        reach: Reach,
    ) -> Reply:
        """The reply to the request, signed with the first key that the app does not refuse."""
        headers = headers | {"User-Agent": USER_AGENT, "X-Inngest-Server-Kind": self._kind}
        for key in keys or ("",):
            if key:
                headers["X-Inngest-Signature"] = sign(body, key, self._clock.now_ms() // 1000)
            try:
                reply = await self._transport.send(
                    method,
                    url,
                    headers,
                    body,
                    timeout_s=timeout_s,
                    limit=MAX_SYNC_BYTES,
                    redirects="repeat",
                    at=at,
                    reach=reach,
                )
            except TransportError as e:
                raise _unreachable(url, e) from None
            if reply.status != 401:
                return reply
        raise _unauthorized(url, reply, keys)

    def _verified(self, reply: Reply, keys: Sequence[str]) -> bool:
        header = dict(reply.headers).get("x-inngest-signature")
        return verify_response(header, reply.body, keys, self._clock.now_ms() // 1000, MAX_SKEW_S)


def _where(url: str) -> str:
    """The URL without credentials and query."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "the app"
    return f"{parsed.scheme}://{parsed.netloc.decode().rpartition('@')[2]}{parsed.path}"


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = parse(body)
    except NotJsonError:
        return {}
    return value if isinstance(value, dict) else {}


def _message(answer: dict[str, Any], body: bytes) -> str:
    for key in ("message", "error"):
        if isinstance(answer.get(key), str) and answer[key]:
            return _cut(str(answer[key]), _SAID_CHARS)
    return _cut(" ".join(body[: 8 * _SHOWN_CHARS].decode(errors="replace").split()), _SHOWN_CHARS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _unreachable(url: str, error: TransportError) -> SyncError:
    if error.code == "BadRequest":
        return SyncError("url_not_found", f"cannot sync {_where(url)}: {error}")
    if error.code in ("BadResponse", "ResponseTooLarge", "BadRedirect"):
        return SyncError("invalid_response", f"{_where(url)} answered what cannot be used: {error}")
    if error.code == "TlsFailed" and "http instead of https" in str(error):
        return SyncError("unsupported_protocol", f"{_where(url)} speaks http, not https: {error}")
    return SyncError("unreachable", f"{_where(url)} was not reached: {error}")


def _unauthorized(url: str, reply: Reply, keys: Sequence[str]) -> SyncError:
    if "x-inngest-sdk-handled" not in dict(reply.headers):
        why = "not from an Inngest SDK: is there a login before it?"
        return SyncError("unauthorized", f"{_where(url)} answered 401, {why}")
    if not keys:
        return SyncError(
            "missing_signing_key",
            f"the app at {_where(url)} is in cloud mode and wants signed requests (401): "
            "give this server its signing key, or set INNGEST_DEV=1 in the app",
        )
    return SyncError(
        "unauthorized",
        f"the app at {_where(url)} refused the signature (401) made with {' and with '.join(map(_shown, keys))}: "
        "its INNGEST_SIGNING_KEY is another one, or its clock is more than 5 minutes off",
    )


def _shown(key: str) -> str:
    """A key as it may be shown: the beginning of its hash, which introspection shows too."""
    try:
        return f"the key of hash {bearer_hash(key)[:_HASH_SHOWN]}"
    except ValueError:
        return "a key that is not of the form signkey-<env>-<hex digits>"


def _not_an_sdk(url: str, reply: Reply) -> SyncError:
    if reply.status == 200:
        return SyncError(
            "url_not_found",
            f"{_where(url)} answered 200, but is no Inngest serve endpoint: is the path right (usually /api/inngest)?",
        )
    return _refused(url, reply.status, _message(_object(reply.body), reply.body), quote=False)


def _is_an_sdks(reply: Reply) -> bool:
    """Whether a reply comes from an SDK: it names itself."""
    return bool({"x-inngest-sdk", "x-inngest-sdk-handled"} & dict(reply.headers).keys())


def _refused(url: str, status: int, message: str, *, quote: bool = True) -> SyncError:
    """Why an app that was reached did not register, by status and by the words that SDKs use.

    Only what an SDK says is quoted: whoever may name a URL must not read through this what answers there.
    """
    where, quoted = _where(url), f": {message}" if message and quote else ""
    if status in (404, 405):
        return SyncError(
            "url_not_found",
            f"{where} answered {status}: there is no Inngest serve endpoint (usually /api/inngest){quoted}",
        )
    if status == 400 and "https port" in message.lower():
        return SyncError("unsupported_protocol", f"{where} speaks https, not http{quoted}")
    for pattern, code in _PHRASES:
        if status in (200, 400, 401, 403, 500) and pattern.search(message[:_SHOWN_CHARS]):
            # With 200 the app is fine, and repeats why this server refused it.
            answered = "" if status == 200 else f" (status {status})"
            return SyncError(code, f"the app at {where} did not register{answered}{quoted}{_advice(code)}")
    if status == 403:
        return SyncError("forbidden", f"{where} answered 403{quoted}")
    if status >= 500:
        return SyncError("internal_server_error", f"{where} answered {status}{quoted}")
    return SyncError("invalid_response", f"{where} answered {status} to a sync{quoted}")


def _advice(code: str) -> str:
    if code == "server_kind_mismatch":
        return "; in the app, INNGEST_DEV must be set for a dev server and unset for any other"
    if code in ("invalid_signing_key", "missing_signing_key"):
        return "; INNGEST_SIGNING_KEY must be the same in the app and here"
    return ""
