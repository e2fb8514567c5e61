"""Somebody who sends as fast as he is answered, from many connections: a process of its own that yields the CPU.

Started as `python -m benchmarks.flooder PORT`. A line on its input, the JSON of an `Order`, begins a flood; an empty
line ends it, and the JSON of the answers by status is printed. Each connection has one request under way; one that is
ended by the other side is made anew. The real one has machines of his own: so this one is nice, and takes of these what
nobody else wants.
"""

import asyncio
import os
import sys
from collections import Counter
from itertools import count
from typing import cast

import httptools
import msgspec
import uvloop

_NICE = 19
_AGAIN_S = 0.05
"""Until a connection that could not be made is tried again."""


class Order(msgspec.Struct, frozen=True):
    """What to send."""

    requests: tuple[bytes, ...]
    """Whole HTTP requests, sent in turns."""
    connections: int


class Flood:
    """One flood, until it is stopped."""

    def __init__(self, port: int, order: Order) -> None:
        self.answers: Counter[str] = Counter()
        self._port = port
        self._order = order
        self._turn = count()
        self._ending = False
        self._open: set[_Hose] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Connect, and send."""
        for _ in range(self._order.connections):
            self._connect()

    async def end(self) -> None:
        """Leave in the midst of everything."""
        self._ending = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for hose in self._open:
            hose.close()

    def next(self) -> bytes:
        """The next request."""
        return self._order.requests[next(self._turn) % len(self._order.requests)]

    def opened(self, hose: "_Hose") -> None:
        """A connection is there."""
        self._open.add(hose)

    def lost(self, hose: "_Hose") -> None:
        """One was ended: make another."""
        self._open.discard(hose)
        if not self._ending:
            if not hose.answered:
                self.answers["cut"] += 1
            self._connect()

    def _connect(self) -> None:
        task = asyncio.get_running_loop().create_task(self._connected())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.create_connection(lambda: _Hose(self), "127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(_AGAIN_S)
            else:
                return


class _Hose(asyncio.Protocol):
    """One connection."""

    def __init__(self, flood: Flood) -> None:
        self._flood = flood
        self._parser = httptools.HttpResponseParser(self)
        self.answered = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._flood.opened(self)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - ended is ended
        self._flood.lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_complete(self) -> None:
        self.answered = True
        self._flood.answers[str(self._parser.get_status_code())] += 1
        if self._parser.should_keep_alive():
            self._send()
        else:
            self._transport.close()

    def close(self) -> None:
        self._transport.abort()

    def _send(self) -> None:
        self.answered = False
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(self._flood.next())


async def main() -> None:
    """Flood as told until the input ends."""
    os.nice(_NICE)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    port = int(sys.argv[1])
    flood: Flood | None = None
    while line := await reader.readline():
        if flood is not None:
            await flood.end()
        if line.strip():
            flood = Flood(port, msgspec.json.decode(line, type=Order))
            flood.begin()
        elif flood is not None:
            sys.stdout.buffer.write(msgspec.json.encode(flood.answers) + b"\n")
            sys.stdout.buffer.flush()
            flood = None


if __name__ == "__main__":
    uvloop.run(main())
