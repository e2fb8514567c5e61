"""A TCP server for tests that says exactly what it is told to, and knows what it was told."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec


class Seen(msgspec.Struct):
    """One request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


class RawServer:
    """Reads requests and lets `respond` write whatever it likes."""

    def __init__(self, respond: Callable[["RawServer", Seen, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.respond = respond
        self.seen: list[Seen] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self.closed = asyncio.Event()
        """Set when a client has closed a connection."""
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side closes it."""
        self.connections += 1
        try:
            await self._serve(reader, writer, self.connections)
            writer.close()
            self.closed.set()
            await writer.wait_closed()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while not writer.is_closing():
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            request = Seen(method, target, headers, body, number)
            self.seen.append(request)
            self.arrived.set()
            answer = asyncio.ensure_future(self.respond(self, request, writer))
            if "/hang" in target:
                await reader.read(1)
                answer.cancel()
                await asyncio.gather(answer, return_exceptions=True)
                return
            await answer


def http(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole response; underscores in header names stand for dashes."""
    lines = [f"HTTP/1.1 {status} Some Reason", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def serving(
    respond: Callable[[RawServer, Seen, asyncio.StreamWriter], Awaitable[None]],
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[RawServer]:
    """Run a server on a free port for the length of the block."""
    raw = RawServer(respond)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(raw.handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, host, 0, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0)


def replies(*answers: bytes) -> Callable[[RawServer, Seen, asyncio.StreamWriter], Awaitable[None]]:
    """Answer the first request with the first of `answers`, and so on; the last one again and again."""

    async def respond(server: RawServer, seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answers[min(len(server.seen), len(answers)) - 1])
        await writer.drain()

    return respond
