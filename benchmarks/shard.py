"""A shard of a benchmark's own in the store of the server under test: what the scripts alone cost, without the server.

The server does not see it: every key begins with a prefix of its own.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

from benchmarks.load import spread
from benchmarks.processes import BenchmarkError, NotApplicable
from benchmarks.session import Session
from innkeeper_engine.model.clock import encode_ulid
from innkeeper_engine.model.effects import Effect, Finish, Save, Start, Wait
from innkeeper_engine.model.guards import CursorGuard, LeaseGuard
from innkeeper_engine.model.state import Lease
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings

ENV, SLUG = "bench", "app-fn"
FN = f"{ENV}/{SLUG}"
STARTS, STEPS = f"{FN}\x01s", f"{FN}\x01t"
PER_SCRIPT = 100
"""Events that are stored, and routed, by one script."""
EVENT_BYTES = 300
LEASE_MS = 3_600_000
FAR_MS = 86_400_000

Commit = Callable[[Lease], list[Effect]]


@dataclass(frozen=True)
class Cost:
    """What some operations took."""

    operations: int
    seconds: float
    store_s: float
    """CPU time of the store."""

    @property
    def per_second(self) -> float:
        """Throughput."""
        return self.operations / self.seconds

    @property
    def store_us(self) -> float:
        """CPU time of the store for one operation, in microseconds."""
        return self.store_s * 1e6 / self.operations


@dataclass(frozen=True)
class Carried:
    """What a run with large bodies took."""

    client: float
    """CPU time of this process, in microseconds."""
    store: float
    """CPU time of the store, in microseconds."""
    memory: float
    """What the store uses more afterwards, in KiB."""


class Shard:
    """One function, whose runs queue where the benchmark says."""

    def __init__(self, store: Store, session: Session) -> None:
        self._store = store
        self._session = session
        self._runs = 0

    async def cap(self, *caps: str | int) -> None:
        """The function's limits: `def, cap, ...`."""
        await self._store.configure(ENV, functions=[(FN, "", caps)])

    async def fill(self, count: int, key: Callable[[int], str] | None = None) -> None:
        """So many runs more that wait to begin, made as the router makes them.

        `key(number)` is the limit under which the run queues besides, for example `c:k|7`.
        """
        first = self._runs
        for at in range(first, first + count, PER_SCRIPT):
            numbers = range(at, min(at + PER_SCRIPT, first + count))
            events = [(number_id(number), "bench", event_body(number)) for number in numbers]
            await self._store.append(ENV, events)
            starts = [start_of(number, key(number) if key else "") for number in numbers]
            applied = await self._store.apply(CursorGuard(ENV, at, "", len(numbers)), starts)
            if applied.status != "ok":
                raise BenchmarkError(f"runs could not be queued: {applied.status}")
        self._runs += count

    async def lease(self, count: int, in_flight: int) -> tuple[list[Lease], Cost]:
        """Take so many requests, one a script."""
        leases: list[Lease] = []

        async def one(number: int) -> None:
            leases.extend((await self._store.due(executor="bench", tokens=[number_id(number)])).leases)

        cost = await self._measured(count, spread(range(count), in_flight, one))
        if len(leases) != count:
            raise BenchmarkError(f"{len(leases)} requests could be leased, there should be {count}")
        return leases, cost

    async def commit(self, leases: list[Lease], in_flight: int, effects: Commit) -> Cost:
        """End leases, one a script."""

        async def one(lease: Lease) -> None:
            await self._store.apply(LeaseGuard(lease.item, lease.token, lease.seen), effects(lease))

        return await self._measured(len(leases), spread(leases, in_flight, one))

    async def work(self, count: int, in_flight: int) -> Cost:
        """Lease requests and end their runs, as executors do: each commit leases the next request."""
        tokens = [number_id(number) for number in range(count)]
        done = 0

        async def worker(_: int) -> None:
            nonlocal done
            wanted = [tokens.pop()] if tokens else []
            leases = (await self._store.due(executor="bench", tokens=wanted)).leases
            while leases:
                (lease,) = leases
                guard = LeaseGuard(lease.item, lease.token, lease.seen)
                wanted = [tokens.pop()] if tokens else []
                applied = await self._store.apply(guard, finish(lease), executor="bench", tokens=wanted)
                done += 1
                leases = applied.leases

        cost = await self._measured(count, spread(range(in_flight), in_flight, worker))
        if done != count:
            raise BenchmarkError(f"{count - done} of {count} requests could not be leased")
        return cost

    async def carry(self, bodies: Sequence[bytes]) -> Carried:
        """A run for each of these events, with it as result of a step and as output too: written, read, ended."""
        at_first, own_s = await self.memory_bytes(), time.process_time()
        cost = await self._measured(len(bodies), self._carry(bodies))
        own_s, more = time.process_time() - own_s, await self.memory_bytes() - at_first
        return Carried(own_s * 1e6 / len(bodies), cost.store_us, more / 1024 / len(bodies))

    async def _carry(self, bodies: Sequence[bytes]) -> None:
        for body in bodies:
            number = self._runs
            self._runs += 1
            await self._store.append(ENV, [(number_id(number), "bench", body)])
            await self._store.peek(1)
            await self._store.apply(CursorGuard(ENV, number, "", 1), [start_of(number, "")])
            (held,) = (await self._store.due(executor="bench", tokens=[number_id(number)])).leases
            save = Save(held.run, "s", b'{"data":%b}' % body, True)
            applied = await self._store.apply(
                LeaseGuard(held.item, held.token, held.seen),
                [save],
                executor="bench",
                tokens=[number_id(number)],
            )
            (again,) = applied.leases
            state = again.payload or await self._store.run_state(again.run)
            if state["s"] != save.result:
                raise BenchmarkError("a result is not what was written")
            end = Finish(
                again.run, "Completed", body, b"", b"", b'{"data":%b}' % body, (number_id(0), number_id(0))
            )
            await self._store.apply(LeaseGuard(again.item, again.token, again.seen), [end])

    async def memory_bytes(self) -> int:
        """What the store uses in all."""
        return await memory_bytes(self._store)

    async def _measured(self, operations: int, work: Awaitable[None]) -> Cost:
        before, start = await self._session.cpu(), time.monotonic()
        await work
        seconds = time.monotonic() - start
        used = (await self._session.cpu() - before).store or 0.0
        return Cost(operations, seconds, used)


@asynccontextmanager
async def shard(session: Session, name: str, *, compress_over_bytes: int = 0) -> AsyncIterator[Shard]:
    """A shard in the store of this session's server.

    Raises:
        NotApplicable: the store cannot be reached from here.
    """
    settings = StoreSettings(
        prefix=f"{{bench-{name}}}:", lease_ms=LEASE_MS, compress_over_bytes=compress_over_bytes
    )
    async with store_of(session, settings) as store:
        yield Shard(store, session)


@asynccontextmanager
async def store_of(session: Session, settings: StoreSettings) -> AsyncIterator[Store]:
    """The store of this session's server; by default of the settings as the server itself sees it.

    Raises:
        NotApplicable: the store cannot be reached from here.
    """
    server_store = session.server.store
    if server_store is None or server_store.url is None:
        raise NotApplicable("the store of this server cannot be reached: it is what is measured")
    store = Store(Address.parse(server_store.url.partition("?")[0]), settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def memory_bytes(store: Store) -> int:
    """What a server uses in all."""
    info = bytes(await store.command("INFO", "memory")).decode()
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    return int(fields["used_memory"])


def finish(lease: Lease) -> list[Effect]:
    """The run returns."""
    ids = (lease.run, lease.run)
    return [Finish(lease.run, "Completed", b'"done"', b"", b"", b'{"data":"done"}', ids)]


def sleep(lease: Lease) -> list[Effect]:
    """The run goes to sleep for a day."""
    until_ms = int(time.time() * 1000) + FAR_MS
    return [Wait(f"{lease.run}.s", lease.run, "s", "sleep", ENV, "", "", "", until_ms, b"", b"null")]


def number_id(number: int) -> str:
    return encode_ulid(1_700_000_000_000, number)


def event_body(number: int) -> bytes:
    event = {
        "data": {"text": "x", "n": number},
        "id": number_id(number),
        "name": "bench",
        "ts": 1_700_000_000_000,
    }
    event["data"] = {"n": number, "text": "x" * (EVENT_BYTES - len(orjson.dumps(event)) + 1)}
    return orjson.dumps(event, option=orjson.OPT_SORT_KEYS)


def start_of(number: int, key: str) -> Start:
    keyed = f"\x02{key}" if key else ""
    return Start(
        run=number_id(number),
        env=ENV,
        fn=FN,
        slug_json=orjson.dumps(SLUG),
        app="app",
        events=((number_id(number), b""),),
        start_partition=STARTS + keyed,
        step_partition=STEPS + keyed,
        order=number,
        due_ms=0,
    )
