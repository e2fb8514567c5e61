"""What events, runs and steps cost a store, measured by a process of its own, so that two checkouts can take turns.

It reads plans from stdin and answers with what they took. Which `innkeeper_engine` it runs is up to PYTHONPATH: it uses
nothing of it but the verbs.
"""

import asyncio
import sys
from collections.abc import Awaitable, Sequence

import msgspec
import uvloop

from benchmarks.load import spread
from benchmarks.processes import BenchmarkError
from benchmarks.shard import (
    ENV,
    LEASE_MS,
    PER_SCRIPT,
    event_body,
    finish,
    memory_bytes,
    number_id,
    start_of,
)
from innkeeper_engine.model.effects import Effect, Save
from innkeeper_engine.model.guards import CursorGuard, LeaseGuard
from innkeeper_engine.model.state import Lease
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings

ALONE = "alone"
"""The environment whose events come one a script."""


class Plan(msgspec.Struct, frozen=True):
    """A round."""

    runs: int
    """Events, in scripts of 100 each, and a run for each, started so; and as many events one a script, of another
    environment, that start nothing.
    """
    chains: int
    """Runs with steps, beside those."""
    steps: int
    """Of each of these."""
    in_flight: int


class Taken(msgspec.Struct, frozen=True):
    """What a round took: microseconds of the store's CPU, and bytes of its memory."""

    append: float
    """An event that came with others."""
    append_alone: float
    """An event that came by itself."""
    start: float
    """A run's start."""
    finish: float
    """Lease and end of a run."""
    step: float
    """The commit of a step, which leases the next request."""
    event_bytes: float
    """An event that is not routed yet."""
    run_bytes: float
    """A run that has ended, with its event and without history."""


class Verbs:
    """One shard, and how many events it has had."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events = 0
        self._alone = 0

    async def round(self, plan: Plan) -> Taken:
        """Do what is planned, once."""
        at_first = await memory_bytes(self._store)
        append = await self._cost(plan.runs, self._append(plan.runs))
        event_bytes = (await memory_bytes(self._store) - at_first) / plan.runs
        start = await self._cost(plan.runs, self._start(plan.runs))
        leases = await self._lease(plan.in_flight)
        end = await self._cost(plan.runs, self._commits(leases, plan.runs))
        run_bytes = (await memory_bytes(self._store) - at_first) / plan.runs
        alone = await self._cost(plan.runs, self._append_alone(plan))
        step = await self._steps(plan)
        return Taken(append, alone, start, end, step, event_bytes, run_bytes)

    async def _cost(self, operations: int, work: Awaitable[None]) -> float:
        before = await self._cpu_s()
        await work
        return (await self._cpu_s() - before) * 1e6 / operations

    async def _cpu_s(self) -> float:
        info = bytes(await self._store.command("INFO", "cpu")).decode()
        fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        return float(fields["used_cpu_user"]) + float(fields["used_cpu_sys"])

    async def _append(self, count: int) -> None:
        for at in range(self._events, self._events + count, PER_SCRIPT):
            numbers = range(at, min(at + PER_SCRIPT, self._events + count))
            await self._store.append(ENV, [(number_id(n), "bench", event_body(n)) for n in numbers])

    async def _start(self, count: int) -> None:
        last = self._events + count
        while self._events < last:
            numbers = range(self._events, min(self._events + PER_SCRIPT, last))
            starts = [start_of(number, "") for number in numbers]
            await self._apply(CursorGuard(ENV, self._events, "", len(numbers)), starts)
            self._events += len(numbers)

    async def _append_alone(self, plan: Plan) -> None:
        async def one(number: int) -> None:
            await self._store.append(ALONE, [(number_id(number), "bench", event_body(number))])

        await spread(range(self._alone, self._alone + plan.runs), plan.in_flight, one)
        self._alone += plan.runs

    async def _lease(self, count: int) -> list[Lease]:
        tokens = [number_id(number) for number in range(count)]
        leases = (await self._store.due(executor="bench", tokens=tokens)).leases
        if len(leases) != count:
            raise BenchmarkError(f"{len(leases)} requests could be leased, there should be {count}")
        return leases

    async def _commits(self, leases: Sequence[Lease], total: int) -> None:
        """Runs end; each end leases the next that waits."""
        left = total - len(leases)

        async def one(lease: Lease) -> None:
            nonlocal left
            mine: Lease | None = lease
            while mine is not None:
                wanted, left = min(left, 1), left - 1
                mine = await self._commit(mine, finish(mine), wanted)

        await spread(leases, len(leases), one)
        if left > 0:
            raise BenchmarkError(f"{left} of {total} requests could not be leased")

    async def _steps(self, plan: Plan) -> float:
        """Each run holds a lease all the time: its commit leases what comes next, of this run or of another."""
        await self._append(plan.chains)
        await self._start(plan.chains)
        leases: list[Lease] = []
        for _ in range(plan.chains):
            leases += await self._lease(1)

        async def all_steps() -> None:
            for number in range(plan.steps):
                held, leases[:] = list(leases), []

                async def one(lease: Lease, step: str = f"step-{number}") -> None:
                    save = Save(lease.run, step, b'{"data":"done"}', True)
                    following = await self._commit(lease, [save], 1)
                    if following is None:
                        raise BenchmarkError("a run could not go on")
                    leases.append(following)

                await spread(held, plan.in_flight, one)

        cost = await self._cost(plan.chains * plan.steps, all_steps())
        await self._commits(leases, len(leases))
        return cost

    async def _commit(self, lease: Lease, effects: Sequence[Effect], wanted: int) -> Lease | None:
        tokens = [lease.token] * max(0, wanted)
        guard = LeaseGuard(lease.item, lease.token, lease.seen)
        applied = await self._store.apply(guard, effects, executor="bench", tokens=tokens)
        if applied.status != "ok":
            raise BenchmarkError(f"a request could not be committed: {applied.status}")
        return applied.leases[0] if applied.leases else None

    async def _apply(self, guard: CursorGuard, effects: Sequence[Effect]) -> None:
        applied = await self._store.apply(guard, effects)
        if applied.status != "ok":
            raise BenchmarkError(f"runs could not be started: {applied.status}")


async def main(url: str, prefix: str) -> None:
    """Carry out plans until stdin ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    store = Store(Address.parse(url), StoreSettings(prefix=prefix, lease_ms=LEASE_MS))
    await store.open()
    try:
        verbs = Verbs(store)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while line := await reader.readline():
            taken = await verbs.round(msgspec.json.decode(line, type=Plan))
            sys.stdout.write(msgspec.json.encode(taken).decode() + "\n")
            sys.stdout.flush()
    finally:
        await store.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
