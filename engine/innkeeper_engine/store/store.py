"""The store's verbs, in Python. Every method is one round trip unless it says otherwise."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal

import msgpack
import msgspec

from innkeeper_engine.model.effects import GUARD_TAGS, MAX_EFFECTS, TAGS, Effect, Guard, Wait
from innkeeper_engine.model.state import (
    Applied,
    Due,
    Lease,
    Peeked,
    QueuedEvent,
    RunSummary,
    StoredEvent,
    Waiter,
    WaiterQuery,
)
from innkeeper_engine.store import scripts
from innkeeper_engine.store.connection import Address, Argument, Connection, Reply, StoreError

NewEvent = tuple[str, str, bytes]
"""(internal id, name, body)."""

APPEND_CHUNK = 256


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the store keeps and for how long."""

    prefix: str = "{ik:0}:"
    """Begins every key; its hash tag keeps a shard on one node."""
    retention_s: int = 3 * 86_400
    lease_ms: int = 30_000
    inline_bytes: int = 256 * 1024
    """State up to this size comes along with a lease."""
    notes: int = 200_000
    """History lines that wait for the recorder at most; older ones go first."""


class Store:
    """The engine's state in one shard of one Redis or Valkey."""

    def __init__(
        self,
        address: Address,
        settings: StoreSettings | None = None,
        *,
        clock_ms: Callable[[], int] | None = None,
        greeting: Callable[["Greeter"], Awaitable[None]] | None = None,
        name: str = "innkeeper",
    ) -> None:
        """`clock_ms` gives the time to scripts: for tests, under a `{test-...}` prefix only. `greeting` runs on every
        fresh connection before any other command (an executor says hello there).
        """
        self.settings = settings or StoreSettings()
        self.address = address
        self._clock_ms = clock_ms
        self._greeting = greeting
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
        return await self._connection.call(*command)

    # ---- verbs

    async def append(self, env: str, events: Sequence[NewEvent], *, seeded: bool = False) -> int:
        """Store events and queue them for routing, in order; returns how many were new.

        With `seeded`, an event whose id is stored already is taken for a repeated send. Durable when it returns, as
        far as the server's durability goes. Bodies of more than 256 events take several round trips.
        """
        stored = 0
        for first in range(0, len(events), APPEND_CHUNK):
            request = {"env": env, "events": events[first : first + APPEND_CHUNK], "seeded": seeded}
            stored += await self._script(self._connection, "append", request)
        return stored

    async def apply(
        self,
        guard: Guard,
        effects: Sequence[Effect],
        *,
        executor: str = "",
        tokens: Sequence[str] = (),
        most: tuple[int, int] | None = None,
    ) -> Applied:
        """Check the guard, apply the effects in order, then lease up to one item per token. All or nothing.

        `most`: steps and bytes of state that the run of a kept lease may have; beyond that nothing is done.

        Raises:
            ValueError: more effects than one script may do.
        """
        if len(effects) > MAX_EFFECTS:
            raise ValueError(f"{len(effects)} effects in one script; at most {MAX_EFFECTS}")
        request: dict[str, Any] = {
            "guard": (GUARD_TAGS[type(guard)], *guard),
            "effects": [encode_effect(effect) for effect in effects],
        }
        if tokens:
            request["want"] = self._want(executor, tokens)
        if most is not None:
            request["most"] = most
        status, registry, detail, leased = await self._script(self._connection, "apply", request)
        *checkpoints, steps, state_bytes = detail or (0, 0)
        seen, attempt = checkpoints or (0, 0)
        leases = [read_lease(raw) for raw in leased]
        return Applied(status.decode(), int(registry), seen, attempt, leases, steps, state_bytes)

    async def due(self, *, n: int = 256, executor: str = "", tokens: Sequence[str] = ()) -> Due:
        """Move what is due (items, expired leases, deadlines, throttles, crons), at most `n`, then lease."""
        request: dict[str, Any] = {"n": n}
        if tokens:
            request["want"] = self._want(executor, tokens)
        registry, first, leased, crons, expired, clock_ms = await self._script(
            self._connection, "due", request
        )
        return Due(
            int(registry),
            float(first) if first else None,
            [read_lease(raw) for raw in leased],
            [(name.decode(), int(float(slot))) for name, slot in crons],
            expired,
            int(clock_ms),
        )

    async def peek(self, n: int) -> Peeked | None:
        """Up to `n` events of one environment that wait to be routed; None when there are none."""
        reply = await self._script(self._connection, "peek", {"n": n})
        if len(reply) == 1:
            return None
        registry, env, cursor, within, raw = reply
        events = [
            QueuedEvent(
                id=event_id.decode(),
                name=name.decode(),
                seq=cursor + n,
                received_ms=stored.received_ms,
                body=stored.body,
                paths=tuple(path.decode() for path in paths),
            )
            for n, (event_id, name, value, paths) in enumerate(raw, 1)
            for stored in (read_event(event_id.decode(), value),)
        ]
        return Peeked(int(registry), env.decode(), cursor, within.decode(), events)

    async def waiters(self, env: str, queries: Sequence[WaiterQuery]) -> list[list[Waiter]]:
        """For each query, the pauses under its index key that were committed before its event."""
        reply = await self._script(self._connection, "waiters", {"env": env, "queries": queries})
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
        lost, ended = await self._script(self._connection, "beat", request)
        return [token.decode() for token in lost], [token.decode() for token in ended]

    async def hello(self, executor: str, tokens: Iterable[str]) -> int:
        """Say which leases an executor works on; its others go back to the queue. Returns how many did."""
        return await Greeter(self, self._connection).hello(executor, tokens)

    async def configure(
        self,
        env: str,
        *,
        app: str = "",
        blob: bytes = b"",
        functions: Sequence[tuple[str, bool, Sequence[str | int]]] = (),
        gone: Sequence[str] = (),
        crons: Sequence[tuple[str, int, int]] = (),
        crons_gone: Sequence[str] = (),
        heard: Sequence[str] | None = None,
        expect: int | None = None,
    ) -> int:
        """Write one app's registration and tell the scheduler of its functions; returns the registry's version.

        `functions`: (fn, held, [def, cap, ...]); `crons`: (id, first slot, when it is due), armed ones keep theirs.
        Where the registry is not at version `expect` any more, nothing is done and 0 returned.
        """
        request: dict[str, Any] = {
            "env": env,
            "app": app,
            "blob": blob,
            "functions": functions,
            "gone": gone,
            "crons": crons,
            "crons_gone": crons_gone,
        }
        if heard is not None:
            request["heard"] = heard
        if expect is not None:
            request["expect"] = expect
        version: int = await self._script(self._connection, "configure", request)
        return version

    # ---- reading

    async def registry_version(self) -> int:
        """Rises with every `configure`."""
        return int(await self.command("GET", self.key("regver")) or 0)

    async def registrations(self, env: str) -> dict[str, bytes]:
        """App id -> its registration as written."""
        flat = await self.command("HGETALL", self.key(f"reg:{env}"))
        return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}

    async def environments(self) -> list[str]:
        """Environments that have had an app."""
        return sorted(name.decode() for name in await self.command("SMEMBERS", self.key("envs")))

    async def event(self, env: str, event_id: str) -> StoredEvent | None:
        """An accepted event, while it is kept."""
        value = await self.command("GET", self.key(f"ev:{env}:{event_id}"))
        return None if value is None else read_event(event_id, value)

    async def is_routed(self, env: str, seq: int) -> bool:
        """Whether the event with this number has met everything that it starts, resumes or cancels."""
        return int(await self.command("GET", self.key(f"ec:{env}")) or 0) >= seq

    async def event_runs(self, env: str, event_id: str) -> list[RunSummary]:
        """The runs that an event started, oldest first. Two round trips."""
        ids = await self.command("LRANGE", self.key(f"er:{env}:{event_id}"), 0, -1)
        runs = [await self.run(run_id.decode()) for run_id in ids]
        return [run for run in runs if run is not None]

    async def run(self, run_id: str) -> RunSummary | None:
        """A run's summary, while it is kept."""
        flat = await self.command("HGETALL", self.key(f"run:{run_id}"))
        return read_summary(run_id, flat) if flat else None

    async def run_payload(self, run_id: str, *fields: str) -> list[bytes | None]:
        """Payloads of a run: `o` output, `x` error, `e:<n>` events, results by step id."""
        reply: list[bytes | None] = await self.command("HMGET", self.key(f"pl:{run_id}"), *fields)
        return reply

    async def run_state(self, run_id: str) -> dict[str, bytes]:
        """All payloads of a run (see `run_payload`); empty when it is unknown or no longer kept."""
        flat = await self.command("HGETALL", self.key(f"pl:{run_id}"))
        return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}

    async def is_live(self, run_id: str) -> bool:
        """Whether the run has not ended."""
        return bool(await self.command("EXISTS", self.key(f"st:{run_id}")))

    async def recent_runs(self, env: str, limit: int) -> list[str]:
        """Ids of the newest runs of an environment, newest first."""
        ids = await self.command("ZREVRANGE", self.key(f"runs:{env}"), 0, limit - 1)
        return [run_id.decode() for run_id in ids]

    async def history(self, run_id: str) -> list[bytes]:
        """The run's notes that the recorder has folded, in order."""
        notes: list[bytes] = await self.command("LRANGE", self.key(f"h:{run_id}"), 0, -1)
        return notes

    async def signal_waiter(self, env: str, signal: str) -> str | None:
        """The pause that waits for a signal."""
        pause = await self.command("GET", self.key(f"sig:{env}:{signal}"))
        return None if pause is None else pause.decode()

    # ---- inside

    def _want(self, executor: str, tokens: Sequence[str]) -> tuple[str, list[str], int, int]:
        return (executor, list(tokens), self.settings.lease_ms, self.settings.inline_bytes)

    def _now(self) -> str:
        return "" if self._clock_ms is None else str(self._clock_ms())

    async def _script(self, connection: Connection, name: str, request: dict[str, Any]) -> Reply:
        script = scripts.load(name)
        request["keep"] = self.settings.retention_s
        request["notes"] = self.settings.notes
        packed = msgpack.packb(request, use_bin_type=False)
        try:
            return await connection.call("EVALSHA", script.sha, 1, self.settings.prefix, self._now(), packed)
        except StoreError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        await connection.call("SCRIPT", "LOAD", script.source)
        return await connection.call("EVALSHA", script.sha, 1, self.settings.prefix, self._now(), packed)

    async def _greet(self, connection: Connection) -> None:
        for name in scripts.VERBS:
            await connection.call("SCRIPT", "LOAD", scripts.load(name).source)
        if self._greeting is not None:
            await self._greeting(Greeter(self, connection))


class Greeter:
    """What may be said on a fresh connection before anything else is sent on it."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self._store = store
        self._connection = connection

    async def hello(self, executor: str, tokens: Iterable[str]) -> int:
        """Say which leases this executor works on; its others go back to the queue. Returns how many did."""
        request = {"executor": executor, "tokens": list(tokens)}
        back: int = await self._store._script(self._connection, "hello", request)
        return back


def encode_effect(effect: Effect) -> tuple[Any, ...]:
    """An effect as the scripts read it: its tag, then its fields."""
    if isinstance(effect, Wait):
        conflict = None if effect.conflict is None else [encode_effect(inner) for inner in effect.conflict]
        then = [encode_effect(inner) for inner in effect.then]
        return (TAGS[Wait], *effect[:-2], conflict, then)
    return (TAGS[type(effect)], *effect)


def read_event(event_id: str, value: bytes | None) -> StoredEvent:
    """A stored event from its value `<seq> <received ms>\\n<body>`; one that is gone has an empty body."""
    if value is None:
        return StoredEvent(event_id, 0, 0, b"")
    head, _, body = value.partition(b"\n")
    seq, _, received = head.partition(b" ")
    return StoredEvent(event_id, int(seq), int(received), body)


def read_lease(raw: list[Any]) -> Lease:
    """A lease from the scripts' reply."""
    item_id, token, generation, item_flat, state_flat, stack, payload, step_count = raw
    item = dict(zip(item_flat[::2], item_flat[1::2], strict=True))
    state = dict(zip(state_flat[::2], state_flat[1::2], strict=True))
    env = state[b"e"].decode()
    return Lease(
        item=item_id.decode(),
        token=token.decode(),
        run=item[b"r"].decode(),
        kind=item[b"k"].decode(),
        step=item[b"s"].decode(),
        attempt=int(item[b"a"]),
        generation=generation,
        expiries=int(item[b"x"]),
        seen=int(item[b"v"]),
        sealed=item.get(b"d", b""),
        env=env,
        slug=state[b"fn"].decode()[len(env) + 1 :],
        version=int(state[b"ver"]),
        plan_only=state[b"fp"] == b"1",
        step_count=step_count,
        state_bytes=int(state[b"sz"]),
        event_count=int(state[b"ec"]),
        queued_ms=int(state[b"q"]),
        started_ms=int(state[b"t1"]),
        retries=int(state[b"re"]),
        stack=tuple(step.decode() for step in stack),
        payload=None
        if payload is None
        else {payload[i].decode(): payload[i + 1] for i in range(0, len(payload), 2)},
    )


def read_summary(run_id: str, flat: list[bytes]) -> RunSummary:
    """A run's summary from its hash."""
    fields = {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
    status: Literal["Scheduled", "Running", "Completed", "Failed", "Cancelled", "Skipped"]
    status = fields["s"]  # type: ignore[assignment]
    return RunSummary(
        id=run_id,
        env=fields["e"],
        slug=fields["f"],
        app=fields["a"],
        status=status,
        queued_ms=int(fields["q"]),
        started_ms=int(fields["t"]) if "t" in fields else None,
        ended_ms=int(fields["z"]) if "z" in fields else None,
        event_ids=tuple(fields["ev"].split()),
        cron=fields.get("cr", ""),
    )
