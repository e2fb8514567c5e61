"""Clients that send too much, or too slowly: each is bounded, and nobody else notices."""

import asyncio
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

from innkeeper_gateway.protocol import BoundedProtocol, ConnectionLimits
from innkeeper_gateway.server import GatewayServer
from tests.gateway.world import World

LIMITS = ConnectionLimits(
    head_bytes=4_096, headers=20, head_s=0.3, body_s=0.3, body_bytes_per_s=1_000, refusal_s=0.01
)


@pytest.fixture
async def port(world: World) -> AsyncIterator[int]:
    """Where a gateway listens that is quickly out of patience."""
    server = GatewayServer(world.app, host="127.0.0.1", port=0, limits=LIMITS)
    await server.start()
    yield server.port
    await server.stop(grace_s=1)


class Client:
    """A connection to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send some bytes; that the other side has closed is seen when reading."""
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    async def status(self) -> int:
        """Of the next answer, whose body is read as well."""
        line = await asyncio.wait_for(self._reader.readline(), 20)
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 20)
        length = next(
            int(each.split(b":")[1])
            for each in head.lower().split(b"\r\n")
            if each.startswith(b"content-length")
        )
        await self._reader.readexactly(length)
        return int(line.split()[1])

    async def is_closed(self) -> bool:
        """Whether the other side ends the connection, once it is done with it."""
        return await asyncio.wait_for(self._reader.read(), 20) == b""

    def close(self) -> None:
        """Leave."""
        self._writer.close()


@pytest.fixture
async def client(port: int) -> AsyncIterator[Client]:
    """A client of it."""
    made = Client(*await asyncio.open_connection("127.0.0.1", port))
    yield made
    made.close()


def post(body: bytes = b'{"name":"a"}', *headers: bytes) -> bytes:
    """An event, as a request."""
    length = b"content-length: %d" % len(body)
    return b"\r\n".join([b"POST /e/key HTTP/1.1", b"host: x", length, *headers, b"", b""]) + body


async def test_answers_are_sent_without_delay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Head and body are two packets, and the second must not wait until somebody acknowledges the first."""
    found: list[int] = []
    made = BoundedProtocol.connection_made

    def look(self: BoundedProtocol, transport: asyncio.Transport) -> None:
        line = transport.get_extra_info("socket")
        found.append(line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(self, transport)

    monkeypatch.setattr(BoundedProtocol, "connection_made", look)
    server = GatewayServer(world.app, host="127.0.0.1", port=0)
    await server.start()
    client = Client(*await asyncio.open_connection("127.0.0.1", server.port))
    await client.send(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
    assert await client.status() == 200
    client.close()
    await server.stop(grace_s=1)
    assert all(found)
    assert found


async def test_requests_one_after_another_are_answered(client: Client) -> None:
    for _ in range(3):
        await client.send(post())
        assert await client.status() == 200
    await client.send(post() + post())
    assert [await client.status(), await client.status()] == [200, 200]


@pytest.mark.parametrize(
    "head",
    [
        [b"x-%d: y" % n for n in range(30)],
        [b"x-a: " + b"y" * 5_000],
        [b"x-%d: " % n + b"y" * 500 for n in range(15)],
    ],
    ids=["many headers", "a long header", "much in all"],
)
async def test_a_head_that_is_too_large_is_refused(client: Client, head: list[bytes]) -> None:
    await client.send(post(b"", *head))
    assert await client.status() == 431
    assert await client.is_closed()


async def test_a_long_request_line_is_refused(client: Client) -> None:
    await client.send(b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert await client.status() == 431


async def test_a_header_that_does_not_end_is_not_kept(client: Client) -> None:
    await client.send(b"GET / HTTP/1.1\r\nx: ")
    for _ in range(6):
        await client.send(b"y" * 1_000)
        for _ in range(5):
            # The server runs in this loop, and reads.
            await asyncio.sleep(0)
    assert await client.status() == 431
    assert await client.is_closed()


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"POST /e/ke", b"POST /e/key HTTP/1.1\r\nhost: x\r\n"])
async def test_a_head_that_does_not_come_is_not_waited_for(client: Client, begun: bytes) -> None:
    await client.send(begun)
    assert await client.status() == 408
    assert await client.is_closed()


async def test_line_breaks_keep_no_connection_open(client: Client) -> None:
    await client.send(post())
    assert await client.status() == 200
    await client.send(b"\r\n")
    assert await client.status() == 408


async def test_a_body_that_does_not_come_is_not_waited_for(client: Client) -> None:
    await client.send(b"POST /e/key HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    assert await client.status() == 408
    assert await client.is_closed()


async def test_a_body_that_keeps_coming_may_take_longer(client: Client) -> None:
    """Its time is up when what has come gives it no more."""
    body = b'{"name":"a","data":{"text":"' + b"x" * 3_000 + b'"}}'
    request = post(body)
    await client.send(request[:-1])
    await asyncio.sleep(2 * LIMITS.body_s)
    await client.send(request[-1:])
    assert await client.status() == 200


async def test_what_is_no_http_is_refused(client: Client) -> None:
    await client.send(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03")
    assert await client.status() == 400
    assert await client.is_closed()


async def test_others_are_answered_while_hundreds_send_nothing(port: int) -> None:
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
    for _, writer in slow:
        writer.write(b"POST /e/key HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
    # Only now: whoever connects has as little time as these.
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    await client.send(post())
    assert await client.status() == 200
    client.close()
    for reader, writer in slow:
        assert (await asyncio.wait_for(reader.readline(), 20)).split()[1] == b"408"
        writer.close()


async def test_what_is_no_request_is_answered_later_and_nothing_more_is_read(world: World) -> None:
    limits = msgspec.structs.replace(LIMITS, refusal_s=0.2)
    server = GatewayServer(world.app, host="127.0.0.1", port=0, limits=limits)
    await server.start()
    loop = asyncio.get_running_loop()
    try:
        client = Client(*await asyncio.open_connection("127.0.0.1", server.port))
        began_s = loop.time()
        await client.send(post(b"{}", b"x: " + b"x" * 5_000) + post())
        assert await client.status() == 431
        assert loop.time() - began_s >= 0.2
        assert await client.is_closed()
        client.close()
        gone = Client(*await asyncio.open_connection("127.0.0.1", server.port))
        await gone.send(b"no http at all\r\n\r\n")
        gone.close()
    finally:
        await server.stop(grace_s=1)
