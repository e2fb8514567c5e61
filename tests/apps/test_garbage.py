"""Nothing that a call leaves behind waits for Python's collector, however the call ends."""

import asyncio
import contextlib
import gzip
import re
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Literal

import pytest

from innkeeper_apps.egress import EgressPolicy, Resolver, system_lookup
from innkeeper_apps.http_driver import HttpDriver
from innkeeper_apps.sync import Syncer, SyncError
from innkeeper_apps.transport import Transport, TransportError
from innkeeper_apps.wire.response import MAX_RESPONSE_BYTES
from innkeeper_engine.model.calls import Target
from tests.apps.rawserver import http
from tests.apps.test_http_driver import DONE, KEY, SDK, FixedClock, call_to
from tests.garbage import LARGE_BYTES, nothing_left_behind

EVENT = b'{"data":{"x":"%b"},"id":"01","name":"a","ts":1,"user":{}}' % (b"x" * 20 * LARGE_BYTES)
LARGE = b'{"a":"%b"}' % (b"x" * 20 * LARGE_BYTES)
TOO_LARGE = http(200, b"x" * (2 * MAX_RESPONSE_BYTES + 1))
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Inngest-Sdk: a\r\n\r\n5\r\n[1,2]\r\n0\r\n\r\n"
UNTIL_THE_END = b"HTTP/1.1 200 OK\r\nX-Inngest-Sdk: a\r\n\r\n1"
CUT_OFF = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + b"x" * 9_000

After = Literal["waits", "closes", "resets"]


class App(asyncio.Protocol):
    """Answers all requests alike. Streams would not do here: an exception that one keeps, and its frames, are garbage."""

    def __init__(self, answer: bytes, after: After, arrived: asyncio.Event) -> None:
        self._answer, self._after, self._arrived = answer, after, arrived
        self._head, self._missing = b"", 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._missing == 0:
            self._head, end, data = (self._head + data).partition(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", self._head)
            if not end or length is None:
                return
            self._head, self._missing = b"", int(length[1])
        self._missing -= len(data)
        if self._missing == 0 and self._transport is not None:
            self._transport.write(self._answer)
            if self._after == "closes":
                self._transport.close()
            elif self._after == "resets":
                self._transport.abort()
            self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None


class Shouter(asyncio.Protocol):
    """Speaks first, and no TLS."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@contextlib.asynccontextmanager
async def app(answer: bytes, after: After = "waits") -> AsyncIterator[tuple[int, asyncio.Event]]:
    """The port of an app for the length of the block, and what is set when a request has arrived."""
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: App(answer, after, arrived), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], arrived
    finally:
        server.close()


@pytest.fixture
async def driver() -> AsyncIterator[HttpDriver]:
    """A driver that may call loopback."""
    made = HttpDriver(EgressPolicy.dev(), FixedClock())
    yield made
    await made.close()


async def call(driver: HttpDriver, port: int, timeout_s: float = 10, scheme: str = "http") -> bytes:
    """Make a call that brings an event of some size; gives its error, or what the app returned."""
    made = call_to(f"{scheme}://127.0.0.1:{port}/x", events=(EVENT,))
    answer = await driver.call(made, Target(), timeout_s=timeout_s)
    return answer.error or answer.output or b""


@pytest.mark.parametrize(
    ("reply", "after", "said"),
    [
        pytest.param(DONE, "waits", b'{"ok":true}', id="ok"),
        pytest.param(DONE, "closes", b'{"ok":true}', id="closed after it"),
        pytest.param(http(200, LARGE, **SDK), "waits", LARGE, id="large"),
        pytest.param(
            http(200, gzip.compress(LARGE), Content_Encoding="gzip", **SDK), "waits", LARGE, id="gzip"
        ),
        pytest.param(CHUNKED, "waits", b"[1,2]", id="chunked"),
        pytest.param(UNTIL_THE_END, "closes", b"1", id="until the end"),
        pytest.param(http(500, LARGE), "waits", b"500", id="refusal"),
        pytest.param(http(302, Location="/x"), "waits", b"BadRedirect", id="redirects"),
        pytest.param(TOO_LARGE, "waits", b"output_too_large", id="too large"),
        pytest.param(b"garbage\r\n\r\n", "waits", b"BadResponse", id="no HTTP"),
        pytest.param(http(200, LARGE, Content_Encoding="gzip"), "waits", b"BadResponse", id="no gzip"),
        pytest.param(CUT_OFF, "closes", b"ConnectionReset", id="cut off"),
        pytest.param(CUT_OFF, "resets", b"ConnectionReset", id="reset"),
        pytest.param(b"", "closes", b"ConnectionReset", id="closed"),
    ],
)
async def test_calls_leave_nothing_that_holds_itself(
    driver: HttpDriver, reply: bytes, after: After, said: bytes
) -> None:
    async with app(reply, after) as (port, _):
        await call(driver, port)
        with nothing_left_behind():
            for _ in range(3):
                assert said in await call(driver, port)


async def test_calls_that_nobody_takes_leave_nothing_that_holds_itself(driver: HttpDriver) -> None:
    async with app(DONE) as (port, _):
        pass
    await call(driver, port)
    with nothing_left_behind():
        for _ in range(3):
            assert b"ConnectionRefused" in await call(driver, port)


async def test_syncs_that_fail_leave_nothing_that_holds_itself() -> None:
    transport = Transport(Resolver(EgressPolicy.dev()))
    syncer = Syncer(transport, FixedClock(), server_kind="cloud")

    async def sync(port: int) -> str:
        try:
            await syncer.sync_app(f"http://127.0.0.1:{port}/x", keys=(KEY,))
        except SyncError as error:
            return error.code
        return "synced"

    async with app(http(500, LARGE)) as (port, _):
        await sync(port)
        with nothing_left_behind():
            for _ in range(3):
                assert await sync(port) == "internal_server_error"
    async with app(DONE) as (gone, _):
        pass
    with nothing_left_behind():
        for _ in range(3):
            assert await sync(gone) == "unreachable"
    await transport.close()


async def test_handshakes_that_fail_leave_nothing_that_holds_itself(driver: HttpDriver) -> None:
    server = await asyncio.get_running_loop().create_server(Shouter, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await call(driver, port, scheme="https")
        with nothing_left_behind():
            for _ in range(3):
                assert b"TlsFailed" in await call(driver, port, scheme="https")


async def test_calls_that_take_too_long_leave_nothing_that_holds_itself(driver: HttpDriver) -> None:
    async with app(CUT_OFF) as (port, _):
        with nothing_left_behind():
            for _ in range(3):
                assert b"Timeout" in await call(driver, port, timeout_s=0.05)


async def test_calls_that_are_called_off_leave_nothing_that_holds_itself(driver: HttpDriver) -> None:
    async with app(CUT_OFF) as (port, arrived):
        with nothing_left_behind():
            for _ in range(3):
                task = asyncio.create_task(call(driver, port))
                await arrived.wait()
                arrived.clear()
                task.cancel()
                assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], BaseException)
                del task


@pytest.mark.parametrize(
    ("url", "code"),
    [
        pytest.param("http://shop.example/", "DnsFailed", id="name"),
        pytest.param("http://10.0.0.1/", "AddressDenied", id="address"),
        pytest.param("nonsense", "BadRequest", id="URL"),
    ],
)
async def test_requests_that_never_leave_leave_nothing_that_holds_itself(url: str, code: str) -> None:
    async def send() -> str:
        try:
            await transport.send("POST", url, {}, EVENT, timeout_s=5, limit=100)
        except TransportError as error:
            return error.code
        return "sent"

    async def lookup(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    transport = Transport(Resolver(EgressPolicy.users(), lookup))
    await send()
    with nothing_left_behind():
        for _ in range(3):
            assert await send() == code


@pytest.mark.parametrize(
    "host", [pytest.param("shop.example", id="unknown"), pytest.param("a..b", id="no name")]
)
async def test_lookups_that_fail_leave_nothing_that_holds_itself(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    def unknown(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def look() -> str:
        try:
            await system_lookup(host, 80)
        except OSError as error:
            return error.strerror or str(error)
        return "found"

    if host == "shop.example":
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with nothing_left_behind():
        for _ in range(3):
            assert (await look()).startswith(("Name or service not known", "no name that can be looked up: "))
