"""A proxy between stores and their server that understands commands, and breaks connections where a test says so."""

import asyncio
import enum
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import hiredis
import msgpack
import msgspec

from innkeeper_engine.store import scripts
from innkeeper_engine.store.connection import Address

_NAMES = {scripts.load(name).sha.encode(): name for name in scripts.VERBS}


class Sent(msgspec.Struct, frozen=True):
    """One command on its way to the server."""

    name: str
    """The verb of a script (`apply`, `due`), else the command (`BLPOP`)."""
    arguments: tuple[bytes, ...]
    request: dict[str, Any]
    """What a script was asked; empty for plain commands."""

    @property
    def guard(self) -> str:
        """The kind of guard of an `apply`; empty for everything else."""
        return str(self.request["guard"][0]) if self.name == "apply" else ""

    @property
    def effects(self) -> list[str]:
        """The tags of the effects of an `apply`."""
        return [effect[0] for effect in self.request.get("effects", ())]


class Fate(enum.Enum):
    """What becomes of a command, besides `Hold`."""

    PASS = enum.auto()
    CUT_BEFORE = enum.auto()
    """The connection breaks, and the server never sees the command."""
    CUT_AFTER = enum.auto()
    """The server does it; the connection breaks before the reply."""
    SWALLOW = enum.auto()
    """Nothing happens and nobody answers."""


class Hold(msgspec.Struct, frozen=True):
    """The server does it; `done` is set then, and the reply waits for `release`."""

    done: asyncio.Event
    release: asyncio.Event


Rule: TypeAlias = Callable[[Sent], Fate | Hold]


def once(which: Callable[[Sent], bool], fate: Fate | Hold) -> Rule:
    """The first command that `which` picks meets this fate; all others pass."""
    left = [fate]
    return lambda sent: left.pop() if left and which(sent) else Fate.PASS


class Proxy:
    """Listens on a Unix socket of its own; `rule` decides over each command, and may be changed at any time."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._folder = Path(tempfile.mkdtemp(prefix="ik-"))
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.rule: Rule = lambda sent: Fate.PASS
        self.refusing = False
        """New connections are closed at once."""
        self.seen: list[Sent] = []

    @property
    def address(self) -> Address:
        """Where to connect."""
        return Address(path=str(self._folder / "p.sock"))

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._accept, self.address.path)

    async def close(self) -> None:
        """Stop listening and break what is open."""
        assert self._server is not None
        self._server.close()
        await self.cut()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def cut(self) -> None:
        """Break all connections; replies on their way are lost."""
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def count(self, name: str) -> int:
        """How many commands of this name came so far."""
        return sum(sent.name == name for sent in self.seen)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        link = asyncio.create_task(_Link(self, reader, writer).run(self._target.path))
        self._links.add(link)
        link.add_done_callback(self._links.discard)


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._forwarded = 0
        self._answered = 0
        self._fates: dict[int, Fate | Hold] = {}

    async def run(self, path: str) -> None:
        """Carry bytes both ways until one side ends or the rule cuts."""
        reader, writer = await asyncio.open_unix_connection(path)
        ways = [asyncio.create_task(self._requests(writer)), asyncio.create_task(self._replies(reader))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.transport.abort()
            self._writer.transport.abort()

    async def _requests(self, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await self._reader.read(1 << 18):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                sent = _read(command)
                self._proxy.seen.append(sent)
                fate = self._proxy.rule(sent)
                if fate is Fate.CUT_BEFORE:
                    return
                if fate is Fate.SWALLOW:
                    continue
                self._forwarded += 1
                self._fates[self._forwarded] = fate
                writer.write(hiredis.pack_command(tuple(command)))
                if fate is Fate.CUT_AFTER:
                    # What else was sent with it is lost; `_replies` ends the connection.
                    await asyncio.Event().wait()

    async def _replies(self, reader: asyncio.StreamReader) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(1 << 18):
            parser.feed(data)
            while parser.gets() is not False:
                self._answered += 1
                # A subscription is answered for each channel, and notices come without being asked for.
                fate = self._fates.pop(self._answered, Fate.PASS)
                if fate is Fate.CUT_AFTER:
                    return
                if isinstance(fate, Hold):
                    fate.done.set()
                    await fate.release.wait()
            self._writer.write(data)


def _read(command: Sequence[bytes]) -> Sent:
    name = command[0].decode().upper()
    if name == "EVALSHA":
        request = msgpack.unpackb(command[5], raw=False, unicode_errors="surrogateescape")
        return Sent(_NAMES[command[1]], tuple(command[2:]), request)
    return Sent(name, tuple(command[1:]), {})
