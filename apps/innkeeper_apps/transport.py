"""Requests that leave the house: resolved once, checked, dialled at the checked address, kept alive.

The only way out for calls to apps, `step.fetch`, `step.ai` and syncs. Proxies named in the environment are not
used: what they would dial could not be checked.
"""

import asyncio
import base64
import errno
import re
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote

import httpx
import msgspec

from innkeeper_apps.classes import OneRoute, Routes
from innkeeper_apps.egress import EgressError, Resolver
from innkeeper_apps.http1 import Connection, ConnectionFailedError, Reply
from innkeeper_engine.model.reach import Reach

Redirects = Literal["none", "repeat", "browser"]
"""`repeat`: the same request again (a 303 is an error); `browser`: POST turns into GET as browsers do it."""

MAX_REDIRECTS = 10
CONNECT_TIMEOUT_S = 10.0
IDLE_S = 4.0
"""Below the 5 s after which Node.js and uvicorn close idle connections."""

_MAX_IDLE_PER_HOST = 128
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer"}
)
_HOP = frozenset({"upgrade", "expect", "proxy-authorization", "proxy-connection", "accept-encoding"})
_CREDENTIALS = frozenset({"authorization", "cookie", "cookie2", "www-authenticate", "x-api-key"})
_REDIRECTING = frozenset({301, 302, 303, 307, 308})
_ANYWHERE = Reach()
_KEEP_ALIVE = re.compile(r"timeout\s*=\s*(\d{1,5})")


class TransportError(Exception):
    """No response came. `code` is one CamelCase word for it, the message a sentence without secrets.

    Codes: BadRequest, DnsFailed, AddressDenied, ConnectionRefused, ConnectTimeout, Unreachable, TlsFailed,
    ConnectionReset, Timeout, BadResponse, ResponseTooLarge, BadRedirect.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Target(msgspec.Struct, frozen=True):
    scheme: str
    host: str
    port: int
    netloc: str
    """`Host` header: the port only where it is not the scheme's."""
    path: str
    authorization: str

    @property
    def at(self) -> str:
        return f"{self.host}:{self.port}"


class _Dial(msgspec.Struct, frozen=True):
    """Where a connection goes: mostly, but not always, to what the URL names."""

    host: str
    port: int

    def shown_for(self, target: _Target) -> str:
        """For messages."""
        if (self.host, self.port) == (target.host, target.port):
            return target.at
        return f"{target.at} (dialled at {self.host}:{self.port})"


@lru_cache(maxsize=4096)
def _target(url: str) -> _Target:
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode()
    except (httpx.InvalidURL, UnicodeError) as e:
        raise TransportError("BadRequest", f"not a URL: {e}") from None
    if parsed.scheme not in ("http", "https") or not host:
        raise TransportError("BadRequest", "the URL must begin with http:// or https:// and name a host")
    user = parsed.userinfo.decode()
    basic = f"Basic {base64.b64encode(unquote(user).encode()).decode()}" if user else ""
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    if not 0 < port < 65536:
        raise TransportError("BadRequest", f"not a URL: {port} is no port")
    netloc = parsed.netloc.decode().rpartition("@")[2]
    return _Target(parsed.scheme, host, port, netloc, parsed.raw_path.decode(), basic)


def place_of(url: str) -> tuple[str, int]:
    """The host and port that a request for this URL is dialled at.

    Raises:
        TransportError: it is no URL that can be called.
    """
    target = _target(url)
    return target.host, target.port


@lru_cache(maxsize=4096)
def _place(at: str) -> _Dial:
    host, colon, port = at.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise TransportError("BadRequest", f"{at[:300]!r} is no address to dial: write host:port")
    return _Dial(host.removeprefix("[").removesuffix("]"), int(port))


class Transport:
    """A pool of connections behind the egress rules. Belongs to the event loop that it is first used in."""

    def __init__(
        self,
        rules: Resolver | Routes,
        *,
        tls: ssl.SSLContext | None = None,
        idle_s: float = IDLE_S,
        dial: Mapping[str, str] | None = None,
    ) -> None:
        """`rules`: one resolver for all requests, or which one a request goes by.

        `dial`: for tests, what to dial instead, `host:port` by `host:port`; the policy sees what is dialled."""
        self._routes = OneRoute(rules) if isinstance(rules, Resolver) else rules
        self._tls = tls
        self._idle_s = idle_s
        self._instead = dict(dial or {})
        self._idle: dict[tuple[str, str, _Dial], list[tuple[str, Connection]]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        timeout_s: float,
        limit: int,
        redirects: Redirects = "none",
        at: str = "",
        reach: Reach = _ANYWHERE,
    ) -> Reply:
        """Send a request and read its whole response, with gzip undone, `limit` bytes at most.

        `at`, a `host:port`, is dialled in place of what the URL names; it is checked against the policy like any other
        address, while the Host header and the name in TLS stay the URL's. `reach` says which rules the request goes by.
        Every redirect is resolved and checked anew: to the same host and port by the same rules, elsewhere as a person's
        URL.
        No request is sent twice but for a redirect: when a connection breaks after the first byte went out, that is
        an error. Cancelling closes the connection.

        Raises:
            TransportError: no complete response came.
        """
        where = self._dialled(_target(url), at).shown_for(_target(url))
        try:
            async with asyncio.timeout(timeout_s):
                return await self._follow(method, url, dict(headers), body, limit, redirects, at, reach)
        except TimeoutError:
            raise TransportError(
                "Timeout", f"no complete response from {where} within {timeout_s:g} s"
            ) from None

    async def close(self) -> None:
        """Close idle connections; those in use are their users'."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for idle in self._idle.values():
            for _, connection in idle:
                connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # the loop closes aborted sockets in its next turn

    async def _follow(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes,
        limit: int,
        redirects: Redirects,
        at: str,
        reach: Reach,
    ) -> Reply:
        first, resolver = _target(url).at, self._routes.resolver(reach)
        for _ in range(MAX_REDIRECTS + 1):
            target = _target(url)
            reply = await self._once(
                method, target, self._dialled(target, at), resolver, headers, body, limit
            )
            location = next((value for name, value in reply.headers if name == "location"), "")
            if redirects == "none" or reply.status not in _REDIRECTING or not location:
                return reply
            url = _join(url, location, target)
            if _target(url).at != first:
                resolver = self._routes.resolver(reach, elsewhere=True)
            if _target(url).netloc != target.netloc:
                headers = {k: v for k, v in headers.items() if k.lower() not in _CREDENTIALS}
                at = ""
            if redirects == "repeat" and reply.status == 303:
                raise TransportError("BadRedirect", f"{target.at} answered 303, which would lose the request")
            if redirects == "browser" and _becomes_get(reply.status, method):
                method, body = "GET", b""
                headers = {k: v for k, v in headers.items() if not k.lower().startswith("content-")}
        raise TransportError("BadRedirect", f"more than {MAX_REDIRECTS} redirects")

    def _dialled(self, target: _Target, at: str) -> _Dial:
        if not at and not self._instead:
            return _Dial(target.host, target.port)
        wanted = at or target.at
        return _place(self._instead.get(wanted, wanted))

    async def _once(
        self,
        method: str,
        target: _Target,
        dial: _Dial,
        resolver: Resolver,
        headers: Mapping[str, str],
        body: bytes,
        limit: int,
    ) -> Reply:
        head = _head(method, target, headers, body)
        try:
            addresses = await resolver.resolve_checked(dial.host, dial.port)
        except EgressError as e:
            raise TransportError(e.code, str(e)) from None
        pool = (target.scheme, target.host, dial)
        ip, connection = self._pooled(pool, addresses) or await self._dial(target, dial, addresses)
        try:
            reply = await connection.exchange(head, body, limit, head_only=method == "HEAD")
        except ConnectionFailedError as e:
            raise TransportError(e.code, f"{dial.shown_for(target)}: {e}") from None
        self._keep(pool, ip, connection, reply)
        return reply

    def _pooled(
        self, pool: tuple[str, str, _Dial], addresses: tuple[str, ...]
    ) -> tuple[str, Connection] | None:
        idle = self._idle.get(pool)
        now_s = asyncio.get_running_loop().time()
        while idle:
            ip, connection = idle.pop()
            if ip in addresses and now_s < connection.idle_until_s and connection.reusable:
                return ip, connection
            connection.abort()
        return None

    def _keep(self, pool: tuple[str, str, _Dial], ip: str, connection: Connection, reply: Reply) -> None:
        idle = self._idle.setdefault(pool, [])
        if len(idle) >= _MAX_IDLE_PER_HOST or not connection.reusable:
            connection.abort()
            return
        hint = next(
            (_KEEP_ALIVE.search(value) for name, value in reply.headers if name == "keep-alive"), None
        )
        idle_s = min(self._idle_s, int(hint[1]) - 1.0) if hint else self._idle_s
        loop = asyncio.get_running_loop()
        connection.idle_until_s = loop.time() + idle_s
        idle.append((ip, connection))
        if self._sweep is None:
            self._sweep = loop.call_later(self._idle_s, self._drop_old, loop)

    def _drop_old(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = loop.time()
        for key, idle in list(self._idle.items()):
            for _, connection in idle:
                if connection.idle_until_s <= now_s:
                    connection.abort()
            self._idle[key] = [pair for pair in idle if pair[1].idle_until_s > now_s]
            if not self._idle[key]:
                del self._idle[key]
        self._sweep = loop.call_later(self._idle_s, self._drop_old, loop) if self._idle else None

    async def _dial(self, target: _Target, dial: _Dial, addresses: tuple[str, ...]) -> tuple[str, Connection]:
        loop = asyncio.get_running_loop()
        secure = target.scheme == "https"
        if secure and self._tls is None:
            self._tls = httpx.create_ssl_context()
        why = ("DnsFailed", f"the host {target.host} has no address")
        for ip in addresses:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    _, connection = await loop.create_connection(
                        Connection,
                        ip,
                        dial.port,
                        ssl=self._tls if secure else None,
                        server_hostname=target.host if secure else None,
                    )
                return ip, connection
            except (OSError, TimeoutError) as e:
                # Words, no exception: one in a variable would hold this frame by its traceback, and be held by it.
                why = _why(e, dial.shown_for(target))
                # asyncio, too, keeps what a handshake fails with in the frame that raises it.
                e.__traceback__ = None
        raise TransportError(*why)


def _why(error: OSError, where: str) -> tuple[str, str]:
    """Why a connection could not be made: a code and one sentence. (ssl's errors and TimeoutError are OSErrors.)"""
    match error:
        case ssl.SSLCertVerificationError():
            return ("TlsFailed", f"the certificate of {where} is not valid: {error.verify_message}")
        case ssl.SSLError():
            reason = (error.reason or "handshake failed").replace("_", " ").lower()
            hint = " (does it speak http instead of https?)" if "wrong version" in reason else ""
            return ("TlsFailed", f"no TLS connection to {where}: {reason}{hint}")
        case ConnectionRefusedError():
            return ("ConnectionRefused", f"connection refused by {where}")
        case ConnectionResetError():
            return ("ConnectionReset", f"{where} closed the connection while it was made")
        case TimeoutError():
            return ("ConnectTimeout", f"no connection to {where} within {CONNECT_TIMEOUT_S:g} s")
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return ("Unreachable", f"there is no route to {where}")
    return ("Unreachable", f"no connection to {where}: {error.strerror or type(error).__name__}")


def _join(url: str, location: str, target: _Target) -> str:
    try:
        joined = httpx.URL(url).join(location)
    except httpx.InvalidURL as e:
        raise TransportError("BadRedirect", f"{target.at} redirects to what is not a URL: {e}") from None
    if target.scheme == "https" and joined.scheme != "https":
        raise TransportError("BadRedirect", f"{target.at} redirects from https to {joined.scheme}")
    return str(joined)


def _becomes_get(status: int, method: str) -> bool:
    return (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST")


def _head(method: str, target: _Target, headers: Mapping[str, str], body: bytes) -> bytes:
    if not _TOKEN.fullmatch(method):
        raise TransportError("BadRequest", f"{method!r} is not an HTTP method")
    lines = [f"{method} {target.path} HTTP/1.1", f"Host: {target.netloc}", "Accept-Encoding: gzip"]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    authorized = False
    for name, value in headers.items():
        lower = name.lower()
        if lower in _OURS or lower in _HOP:
            continue
        if not _TOKEN.fullmatch(name) or _BAD_VALUE.search(value):
            raise TransportError("BadRequest", f"the header {name!r} has characters that HTTP does not allow")
        authorized |= lower == "authorization"
        lines.append(f"{name}: {value}")
    if target.authorization and not authorized:
        lines.append(f"Authorization: {target.authorization}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
