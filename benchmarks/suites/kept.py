"""What a run that has ended takes of the store's memory, as long as it is kept."""

import asyncio

from benchmarks.figures import Figure
from benchmarks.processes import NULL_APP
from benchmarks.session import Bench, Session
from benchmarks.shard import memory_bytes, store_of
from innkeeper_engine.store.store import Store, StoreSettings

RUNS = (("noop", "noop", 0), ("10-steps", "chain", 10), ("10-steps-checkpointed", "chain-checkpointed", 10))
"""Name, function of the app, steps."""


async def run(bench: Bench) -> list[Figure]:
    """Bytes for each run with all that is kept of it: event, summary, payloads, history and its place on the lists.

    The growth of what the store says that it uses, divided by the runs, once the recorder has folded all notes. Then
    the same with payloads and history gone, as they go when memory is short. Nothing that an app returns is larger than
    a few bytes: what is larger comes on top, as it is stored.
    """
    figures = []
    async with bench.session(NULL_APP) as session, store_of(session, StoreSettings()) as store:
        for name, function, steps in RUNS:
            whole, left = await _kept(session, store, function, steps)
            figures.append(Figure(f"kept.{name}", whole, "bytes/run"))
            figures.append(Figure(f"kept.{name}.shed", left, "bytes/run"))
    return figures


async def _kept(session: Session, store: Store, function: str, steps: int) -> tuple[float, float]:
    sizes = session.sizes
    await session.closed_loop(function, sizes.kept_runs // 20, sizes.kept_in_flight, length=steps)
    await _recorded(session, store)
    await _shed(store)
    before = await memory_bytes(store)
    await session.closed_loop(function, sizes.kept_runs, sizes.kept_in_flight, length=steps)
    await _recorded(session, store)
    whole = await memory_bytes(store) - before
    await _shed(store)
    left = await memory_bytes(store) - before
    return whole / sizes.kept_runs, left / sizes.kept_runs


async def _shed(store: Store) -> None:
    while (await store.shed()).runs:
        pass


async def _recorded(session: Session, store: Store) -> None:
    """Wait until nothing is left of the stream of notes but in the histories."""
    async with asyncio.timeout(session.sizes.stall_s):
        while True:
            last = await store.command("XREVRANGE", store.key("hist"), "+", "-", "COUNT", 1)
            if not last or await store.command("GET", store.key("histcur")) == last[0][0]:
                return
            # A key that nobody writes times the wait, on the server.
            await store.command("BLPOP", store.key("nothing"), 0.05)
