"""A small HTTP/1.1 client for the null app's own requests: keep-alive, no TLS, next to no cost."""

import asyncio
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    body: bytes


class Wire:
    """Posts JSON to one server; each connection carries one request at a time."""

    def __init__(self, url: str) -> None:
        """`url`: scheme `http`, host and port; a path is put before that of each request.

        Raises:
            ValueError: not an http URL with a host.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"INNGEST_BASE_URL is http://host:port, got {url!r}")
        self._host = parts.hostname
        self._port = parts.port or 80
        self._prefix = parts.path.rstrip("/")
        self._idle: list[_Connection] = []

    async def post(self, path: str, body: bytes) -> Reply:
        """Send one body.

        Raises:
            OSError: the server could not be reached, or hung up twice.
        """
        head = (
            f"POST {self._prefix}{path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        if self._idle:
            connection = self._idle.pop()
            try:
                return await self._exchange(connection, head + body)
            except ConnectionError:
                pass  # an idle connection may be closed at any time: a new one tells what is the matter
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return await self._exchange(connection, head + body)

    async def _exchange(self, connection: "_Connection", request: bytes) -> Reply:
        answer = await connection.exchange(request)
        if connection.reusable:
            self._idle.append(connection)
        return answer


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.reusable = True
        self._answer: asyncio.Future[Reply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    async def exchange(self, request: bytes) -> Reply:
        if not self.reusable:
            raise ConnectionResetError("the server closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"what came back is not HTTP: {error}"))
            self._transport.close()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.reusable = False
            self._transport.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Reply(self._parser.get_status_code(), self._body))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError("the server closed the connection" if exc is None else str(exc)))

    def _fail(self, error: ConnectionError) -> None:
        self.reusable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
