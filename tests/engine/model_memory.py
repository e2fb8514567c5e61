"""A server's memory as tests of what goes when it is short look at it and set it."""

from innkeeper_engine.store.store import Store


async def used(store: Store) -> float:
    """The share of its memory that the server uses."""
    info = (await store.command("INFO", "memory")).decode()
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    return int(fields["used_memory"]) / int(fields["maxmemory"])


async def make_short(store: Store) -> None:
    """From now on the server may use much less than it does."""
    await store.command("CONFIG", "SET", "maxmemory", "100kb")


async def make_room(store: Store) -> None:
    """From now on the server may use as much as it likes."""
    await store.command("CONFIG", "SET", "maxmemory", "0")
