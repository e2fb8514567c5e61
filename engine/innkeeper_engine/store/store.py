"""The store's verbs, in Python. Every method is one round trip unless it says otherwise."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter
from typing import Any, Literal

import msgspec

from innkeeper_engine.metrics import Metrics
from innkeeper_engine.model.effects import MAX_EFFECTS, Effect
from innkeeper_engine.model.guards import GUARD_TAGS, Guard
from innkeeper_engine.model.replays import Replay, ReplayPage, ReplayProgress
from innkeeper_engine.model.state import (
    Applied,
    Due,
    FunctionCounts,
    Peeked,
    RunHead,
    Shed,
    StuckRun,
    Waiter,
    WaiterQuery,
)
from innkeeper_engine.retention import DEFAULT_S
from innkeeper_engine.store.bodies import encode_body
from innkeeper_engine.store.connection import (
    Address,
    Argument,
    Connection,
    Reply,
)
from innkeeper_engine.store.reading import Reader
from innkeeper_engine.store.verbs import Verbs
from innkeeper_engine.store.wire import (
    encode_effect,
    read_counts,
    read_gathered,
    read_head,
    read_lease,
    read_queued,
    read_replay_page,
)

NewEvent = tuple[str, str, bytes]
"""(internal id, name, body)."""

Held = Literal["", "s", "t", "st"]
"""Which lanes of a function are paused: its starts, its further steps."""

APPEND_CHUNK = 256
COUNT_CHUNK = 200
"""Functions that one script counts at most."""


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the store keeps and for how long."""

    prefix: str = "{ik:0}:"
    """Begins every key; its hash tag keeps a shard on one node."""
    events_keep_s: int = DEFAULT_S
    """How long events are kept once they are routed, where an environment's policy does not say; an hour at least."""
    runs_keep_s: int = DEFAULT_S
    """How long ended runs are kept, with their payloads and history, where an environment's policy does not say."""
    letters_keep_s: int = DEFAULT_S
    """How long dead letters are kept, where an environment's policy does not say."""
    lease_ms: int = 30_000
    inline_bytes: int = 256 * 1024
    """State up to this size comes along with a lease."""
    compress_over_bytes: int = 16 * 1024
    """Bodies of events, results, outputs and errors that are larger are kept compressed; 0: none."""
    notes: int = 200_000
    """History lines that wait for the recorder at most; older ones go first."""
    nodes: int = 1_000
    """Waiting lanes and partitions that one script lets out or looks at again, after limits have changed."""


class Store(Reader):
    """The engine's state in one shard of one Redis or Valkey."""

    def __init__(
        self,
        address: Address,
        settings: StoreSettings | None = None,
        *,
        clock_ms: Callable[[], int] | None = None,
        greeting: Callable[["Greeter"], Awaitable[None]] | None = None,
        name: str = "innkeeper",
        metrics: Metrics | None = None,
    ) -> None:
        """`clock_ms` gives the time to scripts: for tests, under a `{test-...}` prefix only. `greeting` runs on every
        fresh connection before any other command (an executor says hello there).
        `metrics`: where the store counts its round trips.
        """
        self.settings = settings or StoreSettings()
        self.address = address
        self.metrics = metrics or Metrics()
        self._clock_ms = clock_ms
        self._greeting = greeting
        always = {
            "keep": (self.settings.events_keep_s, self.settings.runs_keep_s),
            "notes": self.settings.notes,
        }
        self._verbs = Verbs(self.settings.prefix, always, self.metrics, self.given_now)
        self._connection = Connection(address, greeting=self._greet, name=name)

    @property
    def connected(self) -> bool:
        """Whether the server can be reached now."""
        return self._connection.connected

    @property
    def last_error(self) -> str:
        """Why the server could not be reached last time."""
        return self._connection.last_error

    async def open(self, timeout_s: float = 10.0) -> None:
        """Connect and load the scripts.

        Raises:
            StoreUnavailableError: no server within `timeout_s`.
        """
        await self._connection.open(timeout_s)

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()

    def key(self, name: str) -> str:
        """The full name of a key of this shard."""
        return self.settings.prefix + name

    async def command(self, *command: Argument) -> Reply:
        """A plain Redis command, for what needs no script."""
        started = perf_counter()
        try:
            return await self._connection.call(*command)
        finally:
            self.metrics.redis_seconds.add(perf_counter() - started, str(command[0]).lower())

    # ---- verbs

    async def append(
        self, env: str, events: Sequence[NewEvent], *, seeded: bool = False, trace: str = ""
    ) -> int:
        """Store events and queue them for routing, in order; returns how many were new.

        With `seeded`, an event whose id is stored already is taken for a repeated send. `trace`: what the runs that
        they start are a part of (see `tracing`). Durable when it returns, as far as the server's durability goes.
        Bodies of more than 256 events take several round trips.
        """
        stored = 0
        for first in range(0, len(events), APPEND_CHUNK):
            chunk = [
                (event_id, name, encode_body(body, self.settings.compress_over_bytes))
                for event_id, name, body in events[first : first + APPEND_CHUNK]
            ]
            request: dict[str, Any] = {"env": env, "events": chunk, "seeded": seeded}
            if trace:
                request["trace"] = trace
            stored += await self.ask("append", request)
        return stored

    async def apply(
        self,
        guard: Guard,
        effects: Sequence[Effect],
        *,
        executor: str = "",
        tokens: Sequence[str] = (),
        most: tuple[int, int] | None = None,
        registry: int | None = None,
    ) -> Applied:
        """Check the guard, apply the effects in order, then lease up to one item per token. All or nothing.

        `registry`: the version on which was decided; where it is another one now, nothing is done (`moved`), so that
        what was configured before a run starts always counts.
        `most`: steps and bytes of state that the run of a kept lease may have; beyond that nothing is done.

        Raises:
            ValueError: more effects than one script may do.
        """
        if len(effects) > MAX_EFFECTS:
            raise ValueError(f"{len(effects)} effects in one script; at most {MAX_EFFECTS}")
        request: dict[str, Any] = {
            "guard": (GUARD_TAGS[type(guard)], *guard),
            "effects": [encode_effect(effect, self.settings.compress_over_bytes) for effect in effects],
        }
        if tokens:
            request["want"] = self._want(executor, tokens)
        if most is not None:
            request["most"] = most
        if registry is not None:
            request["registry"] = registry
        status, registry, detail, leased = await self.ask("apply", request)
        *checkpoints, steps, state_bytes = detail or (0, 0)
        seen, attempt = checkpoints or (0, 0)
        leases = [read_lease(raw) for raw in leased]
        return Applied(status.decode(), int(registry), seen, attempt, leases, steps, state_bytes)

    async def due(self, *, n: int = 256, executor: str = "", tokens: Sequence[str] = ()) -> Due:
        """Move what is due (items, expired leases, deadlines, timeouts, throttles), at most `n`, then lease.

        Crons, gatherings (32 at most), sweeps and replays that are due are told; where nobody decides on one, it
        is told again five seconds later.
        """
        request: dict[str, Any] = {"n": n, "nodes": self.settings.nodes}
        if tokens:
            request["want"] = self._want(executor, tokens)
        (
            registry,
            first,
            leased,
            crons,
            expired,
            clock_ms,
            gathered,
            sweeps,
            replays,
            full,
            watch,
        ) = await self.ask("due", request)
        return Due(
            int(registry),
            float(first) if first else None,
            [read_lease(raw) for raw in leased],
            [(name.decode(), int(float(slot))) for name, slot in crons],
            expired,
            int(clock_ms),
            [read_gathered(raw) for raw in gathered],
            [(env.decode(), cancellation.decode()) for env, cancellation in sweeps],
            [(env.decode(), replay.decode()) for env, replay in replays],
            bool(full),
            bool(watch),
        )

    async def shed(self, n: int = 200) -> Shed:
        """Take payloads and history from up to `n` ended runs, whatever their retention, where memory is short.

        Of the environment that keeps most the oldest go first, then of the one that keeps most now. Where no ended run
        has anything left, events go in the same way, `n` at most: those that are routed and older than an hour, that
        no run which goes on has begun with, and that no gathering holds. What goes on loses nothing. One script takes
        no more than is to go, and no more than it has time for, so there may be more to take (`more`) when it says that
        memory is still short (`full`), even where it has taken nothing.
        """
        runs, notes, events, full, more = await self.ask("shed", {"n": n})
        return Shed(runs, notes, events, bool(full), bool(more))

    async def peek(self, n: int) -> Peeked | None:
        """Up to `n` events of one environment that wait to be routed; None when there are none."""
        reply = await self.ask("peek", {"n": n})
        if len(reply) == 1:
            return None
        registry, env, cursor, within, raw = reply
        events = [read_queued(cursor + n, event) for n, event in enumerate(raw, 1)]
        return Peeked(int(registry), env.decode(), cursor, within.decode(), events)

    async def waiters(self, env: str, queries: Sequence[WaiterQuery]) -> list[list[Waiter]]:
        """For each query, the pauses under its index key that were committed before its event."""
        reply = await self.ask("waiters", {"env": env, "queries": queries})
        return [
            [
                Waiter(p.decode(), r.decode(), s.decode(), k.decode(), x)
                for p, r, s, k, x in found
                if r is not None
            ]
            for found in reply
        ]

    async def beat(self, leases: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
        """Extend (item, token) leases; returns the tokens that are lost and those whose run has ended."""
        request = {"leases": list(leases), "lease_ms": self.settings.lease_ms}
        lost, ended = await self.ask("beat", request)
        return [token.decode() for token in lost], [token.decode() for token in ended]

    async def hello(self, executor: str, tokens: Iterable[str]) -> int:
        """Say which leases an executor works on; its others go back to the queue. Returns how many did."""
        return await Greeter(self._verbs, self._connection).hello(executor, tokens)

    async def configure(
        self,
        env: str,
        *,
        app: str = "",
        blob: bytes = b"",
        functions: Sequence[tuple[str, Held, Sequence[str | int]]] = (),
        gone: Sequence[str] = (),
        crons: Sequence[tuple[str, int, int]] = (),
        crons_gone: Sequence[str] = (),
        heard: Sequence[str] | None = None,
        cancellations: Sequence[tuple[str, bytes, int]] = (),
        switches: Sequence[tuple[str, bytes]] = (),
        holds: Sequence[tuple[str, Held]] = (),
        tell: str = "",
        expect: int | None = None,
    ) -> int:
        """Write one app's registration and tell the scheduler of its functions; returns the registry's version.

        `functions`: (fn, paused lanes, [def, cap, ...]); `crons`: (id, first slot, when it is due), armed ones keep
        theirs. `cancellations`: (id, `Cancellation` as JSON, when its sweep begins); an empty body forgets it.
        `switches`: (name, `Switch` as JSON), empty as well; `holds`: (fn, paused lanes), for functions of which nothing
        else changes; `tell`: the id of an app that an operator is to look at.
        Of those who wait at limits that have changed, `StoreSettings.nodes` are looked at again here, the others by
        `due`, as many each time. Where the registry is not at version `expect` any more, nothing is done and 0 returned.
        """
        request: dict[str, Any] = {
            "env": env,
            "app": app,
            "blob": blob,
            "functions": functions,
            "gone": gone,
            "crons": crons,
            "crons_gone": crons_gone,
            "cancellations": cancellations,
            "switches": switches,
            "holds": holds,
            "tell": tell,
            "nodes": self.settings.nodes,
        }
        if heard is not None:
            request["heard"] = heard
        if expect is not None:
            request["expect"] = expect
        version: int = await self.ask("configure", request)
        return version

    async def function_counts(self, env: str, slugs: Iterable[str]) -> dict[str, FunctionCounts]:
        """What each of these functions has to do and has done; of one that never ran, nothing.

        One round trip, in scripts of 200 functions each.
        """
        wanted = list(dict.fromkeys(slugs))
        chunks = [wanted[first : first + COUNT_CHUNK] for first in range(0, len(wanted), COUNT_CHUNK)]
        replies = await asyncio.gather(
            *(self.ask("count", {"functions": [f"{env}/{slug}" for slug in chunk]}) for chunk in chunks)
        )
        counted = (read_counts(raw) for reply in replies for raw in reply)
        return dict(zip(wanted, counted, strict=True))

    async def watch(self) -> list[StuckRun]:
        """Look at a page of the runs that go on, and at when the next is due; those that turn out to be stuck now.

        Such a run has nothing to go on by: no item, no pause, no timeout. Its history says so, too.
        """
        found = await self.ask("watch", {})
        return [
            StuckRun(env.decode(), fn.decode()[len(env.decode()) + 1 :], run.decode())
            for env, fn, run in found
        ]

    async def run_heads(self, runs: Sequence[str], *, events: bool = True) -> list[RunHead | None]:
        """The first of these runs, as many as 4 MiB hold, one at least: None for one that has ended.

        Without `events` all of them, for no event comes along. Whoever gets fewer asks for the others again.
        """
        if not runs:
            return []
        heads = await self.ask("heads", {"runs": runs, "bodies": events})
        return [read_head(run, raw) for run, raw in zip(runs, heads, strict=False)]

    async def replay_page(
        self, env: str, replay: Replay, progress: ReplayProgress, *, most: int
    ) -> ReplayPage:
        """The next of a replay's window: up to `most` runs are looked at, as many are found as 4 MiB of events hold.

        One that has many events may be larger by itself. The runs that this replay made are none of its own.
        """
        request = {
            "env": env,
            "slug": replay.slug,
            "statuses": replay.statuses,
            "replay": replay.id,
            "at": max(replay.from_ms, progress.at_ms),
            "last": progress.last,
            "until_ms": replay.until_ms,
            "most": most,
        }
        return read_replay_page(await self.ask("replayable", request))

    async def live_runs(self, env: str, slugs: Iterable[str]) -> dict[str, int]:
        """How many runs of each of these functions have not ended. One round trip."""
        counts = await self.function_counts(env, slugs)
        return {slug: count.queued + count.running for slug, count in counts.items()}

    async def ask(self, verb: str, request: dict[str, Any]) -> Reply:
        """What a verb replies, also one that has no method here: see `store/scripts/verbs`."""
        return await self._verbs.call(self._connection, verb, request)

    def given_now(self) -> str:
        """The time that scripts are to go by, in ms; empty: the server's."""
        return "" if self._clock_ms is None else str(self._clock_ms())

    # ---- inside

    def _want(self, executor: str, tokens: Sequence[str]) -> tuple[str, list[str], int, int]:
        return (executor, list(tokens), self.settings.lease_ms, self.settings.inline_bytes)

    async def _greet(self, connection: Connection) -> None:
        await self._verbs.load(connection)
        if self._greeting is not None:
            await self._greeting(Greeter(self._verbs, connection))


class Greeter:
    """What may be said on a fresh connection before anything else is sent on it."""

    def __init__(self, verbs: Verbs, connection: Connection) -> None:
        self._verbs = verbs
        self._connection = connection

    async def arm_watch(self) -> None:
        """See to it that runs that are stuck are looked for (`Store.watch`)."""
        await self._verbs.call(self._connection, "watch", {"arm": True})

    async def hello(self, executor: str, tokens: Iterable[str]) -> int:
        """Say which leases this executor works on; its others go back to the queue. Returns how many did."""
        request = {"executor": executor, "tokens": list(tokens)}
        back: int = await self._verbs.call(self._connection, "hello", request)
        return back
