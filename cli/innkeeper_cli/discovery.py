"""Finds apps on this machine and keeps them registered: what `innkeeper dev` does instead of an operator.

Given URLs are asked to register (PUT) until they have, and again every poll interval, so that an app whose code
changed is noticed; one that has not changed changes nothing. Found apps are treated the same, but forgotten when
they go away: the next scan finds them again. What is reported is news only: an app that is down says so once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol
from urllib.parse import urlsplit

import msgspec
import structlog

from innkeeper_apps.transport import TransportError

PORTS = (*range(3000, 3011), 4321, 5000, 5173, 8000, 8080, 8787, 8788, 8888, 9000)
"""Where development servers listen: Next.js, Express and Remix, Astro, Flask, Vite, FastAPI and Django, Go,
Wrangler, Cloudflare Pages, Netlify, others."""

PATHS = ("/api/inngest", "/x/inngest", "/.netlify/functions/inngest", "/.redwood/functions/inngest")
"""Where the SDKs' guides mount their handler."""

PROBE_TIMEOUT_S = 2.0
FIRST_RETRY_S = 0.25
QUIET_SCANS_S = 60.0
"""A server that is no app is asked again after longer and longer, this long at most: its log is its owner's."""

_SIDE_BY_SIDE = 8

_log = structlog.stdlib.get_logger(__name__)


# ---- rules


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What asking an app to register came to."""

    ok: bool
    reason: str = ""
    """Where not ok: a sentence that says what to do."""
    modified: bool = False
    """Whether the server registered something new."""
    reachable: bool = True
    """Whether anything answered."""


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one app."""

    url: str
    found: bool = False
    """Discovered, not given by a person."""
    synced: bool = False
    failures: int = 0
    """In a row."""
    reason: str = ""


class News(msgspec.Struct, frozen=True):
    """Something about an app that a person wants to know."""

    kind: Literal["found", "synced", "changed", "failing", "gone"]
    url: str
    text: str = ""


def after(watch: Watch, outcome: Outcome) -> tuple[Watch, News | None]:
    """What is known after one more try, and what is new about it."""
    url = watch.url
    if outcome.ok:
        news: News | None = None
        if not watch.synced:
            news = News("synced", url)
        elif outcome.modified:
            news = News("changed", url)
        return msgspec.structs.replace(watch, synced=True, failures=0, reason=""), news
    told = watch.failures and watch.reason == outcome.reason
    failing = msgspec.structs.replace(watch, synced=False, failures=watch.failures + 1, reason=outcome.reason)
    return failing, None if told else News("failing", url, outcome.reason)


def delay_s(watch: Watch, interval_s: float) -> float:
    """Until the next try: soon after a failure, for apps start beside the server, then every `interval_s`."""
    if watch.synced:
        return interval_s
    return min(interval_s, FIRST_RETRY_S * 2.0 ** min(watch.failures, 20))


def candidates(ports: Iterable[int] = PORTS, *, own_port: int) -> list[tuple[int, list[str]]]:
    """For each port of this machine where an app may be, the URLs to try, likeliest first."""
    # By name: some development servers listen on ::1 alone, some on 127.0.0.1 alone.
    return [
        (port, [f"http://localhost:{port}{path}" for path in PATHS]) for port in ports if port != own_port
    ]


def is_app(headers: Mapping[str, str]) -> bool:
    """Whether a response to GET came from an SDK's handler, whatever its status: SDKs name themselves."""
    return any(name.lower() == "x-inngest-sdk" for name in headers)


def where(url: str) -> tuple[str, int, str]:
    """Host, port and path, with all names of the loopback as one: two URLs of one app compare equal."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if host in ("127.0.0.1", "::1", "0.0.0.0"):  # noqa: S104 - compared, not listened on
        host = "localhost"
    return host, parts.port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/") or "/"


def check_url(url: str) -> str:
    """An app URL as a person gave it, with `http://` put before a bare `host:port`, and `/api/inngest` for no path.

    Raises:
        ValueError: it is not an http or https URL.
    """
    full = url.strip() if "://" in url else f"http://{url.strip()}"
    try:
        parts = urlsplit(full)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ValueError(f"{url!r} is not the URL of an app, such as http://localhost:3000/api/inngest")
    return full if parts.path not in ("", "/") else parts._replace(path=PATHS[0]).geturl()


# ---- probing


class _Reply(Protocol):
    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Names and values."""
        ...


class Sends(Protocol):
    """What sends a request: `innkeeper_apps.transport.Transport`."""

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float, limit: int
    ) -> _Reply:
        """Send it and read the response."""
        ...


class Scanner:
    """Looks for apps on the ports of this machine."""

    def __init__(
        self,
        transport: Sends,
        ports: Sequence[tuple[int, list[str]]],
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._ports = list(ports)
        self._monotonic_s = monotonic_s
        self._quiet: dict[int, tuple[float, float]] = {}
        """Port -> (not before, the wait after that): something listens there that is no app."""

    async def scan(self, taken: Iterable[int] = ()) -> list[str]:
        """The URLs of apps found now, one a port at most; `taken` ports are not asked."""
        skip = set(taken)
        gate = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def one(port: int, urls: list[str]) -> str | None:
            async with gate:
                return await self._look(port, urls)

        found = await asyncio.gather(*(one(port, urls) for port, urls in self._ports if port not in skip))
        return [url for url in found if url is not None]

    async def _look(self, port: int, urls: list[str]) -> str | None:
        not_before_s, wait_s = self._quiet.get(port, (0.0, 0.0))
        if self._monotonic_s() < not_before_s:
            return None
        for url in urls:
            try:
                reply = await self._transport.send(
                    "GET", url, {}, b"", timeout_s=PROBE_TIMEOUT_S, limit=1 << 20
                )
            except TransportError as error:
                if error.code in ("ConnectionRefused", "Unreachable"):
                    self._quiet.pop(port, None)
                    return None
                break
            if is_app(dict(reply.headers)):
                self._quiet.pop(port, None)
                return url
        wait_s = min(max(wait_s * 2, 5.0), QUIET_SCANS_S)
        self._quiet[port] = (self._monotonic_s() + wait_s, wait_s)
        return None


# ---- keeping


Sync = Callable[[str], Awaitable[Outcome]]
Sleep = Callable[[float], Awaitable[None]]


class Keeper:
    """Keeps given and found apps registered until its task is cancelled."""

    def __init__(
        self,
        urls: Sequence[str],
        sync: Sync,
        report: Callable[[News], None],
        *,
        interval_s: float,
        poll: bool = True,
        scanner: Scanner | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`sync` asks one app to register and never raises for what the app did. Without `poll` an app that has
        registered is not asked again.
        """
        self._urls = list({where(url): url for url in reversed(urls)}.values())[::-1]
        self._sync = sync
        self._report = report
        self._interval_s = interval_s
        self._poll = poll
        self._scanner = scanner
        self._sleep = sleep
        self._kept: dict[tuple[str, int, str], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Keep the given apps, and those found while it runs."""
        async with asyncio.TaskGroup() as group:
            for url in self._urls:
                self._kept[where(url)] = group.create_task(self._keep(Watch(url=url)))
            while self._scanner is not None:
                taken = [port for host, port, _ in self._kept if host == "localhost"]
                for url in await self._scanner.scan(taken):
                    self._report(News("found", url))
                    self._kept[where(url)] = group.create_task(self._keep(Watch(url=url, found=True)))
                await self._sleep(self._interval_s)

    async def _keep(self, watch: Watch) -> None:
        while True:
            outcome = await self._sync(watch.url)
            if watch.found and not outcome.reachable:
                self._report(News("gone", watch.url, outcome.reason))
                del self._kept[where(watch.url)]
                return
            watch, news = after(watch, outcome)
            if news is not None:
                self._report(news)
            if watch.synced and not self._poll:
                return
            await self._sleep(delay_s(watch, self._interval_s))
