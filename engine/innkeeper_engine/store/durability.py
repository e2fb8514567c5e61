"""How much a server forgets when it dies, as the server itself says: no mode is claimed that was not measured."""

from typing import Literal, Protocol

import msgspec

from innkeeper_engine.store.connection import Argument, Reply, StoreError, StoreUnavailableError

Mode = Literal["memory", "fsync"]


class Asks(Protocol):
    """What can send one Redis command: a `Store`."""

    async def command(self, *command: Argument) -> Reply:
        """Send one command and await its reply."""
        ...


class Durability(msgspec.Struct, frozen=True):
    """The mode of a server, and why it is that."""

    mode: Mode
    reason: str


async def measure(server: Asks) -> Durability:
    """Ask a server by CONFIG GET whether every reply waits for the disk.

    `fsync`: a reply is sent once the write is on disk (`appendonly yes`, `appendfsync always`). Everything else is
    `memory`: a crash loses what came since the last write to disk. So is a server that will not say (managed ones
    forbid CONFIG).

    Raises:
        StoreUnavailableError: the server went away.
    """
    try:
        appendonly = _value(await server.command("CONFIG", "GET", "appendonly"))
        appendfsync = _value(await server.command("CONFIG", "GET", "appendfsync"))
    except StoreError as error:
        return Durability("memory", f"the server does not tell its settings ({error})")
    if appendonly == "yes" and appendfsync == "always":
        return Durability("fsync", "appendonly yes, appendfsync always")
    if appendonly == "yes":
        return Durability("memory", f"appendonly yes, but appendfsync {appendfsync or 'unknown'}, not always")
    return Durability("memory", f"appendonly {appendonly or 'unknown'}")


async def describe(server: Asks) -> tuple[str, str]:
    """A server's mode and why, for a log; `unknown` where it went away before it told, which ends nobody."""
    try:
        measured = await measure(server)
    except StoreUnavailableError as error:
        return "unknown", str(error)
    return measured.mode, measured.reason


def _value(reply: Reply) -> str:
    """The value in `[name, value]`; empty where the server does not know the name."""
    return reply[1].decode() if isinstance(reply, list) and len(reply) == 2 else ""
