"""What the store knows, asked in single commands: one round trip each unless it says otherwise.

Whatever holds bodies of events or payloads of runs gives them as they were written, and raises `UnreadableBodyError`
where one is not what was written any more.
"""

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

from innkeeper_engine.model.cancellations import Sweep
from innkeeper_engine.model.replays import ReplayProgress
from innkeeper_engine.model.state import RunSummary, StoredEvent
from innkeeper_engine.store.bodies import decode_bodies, decode_body
from innkeeper_engine.store.connection import Argument, Reply
from innkeeper_engine.store.wire import read_event, read_order, read_replay_progress, read_summary, read_sweep

LIVE_RUNS = {"queued": "rq", "begun": "rb"}
"""Indexes of a function's runs that go on, by phase of a sweep."""


_ENDED = """#!lua flags=no-writes
local from, to, after_ms, after, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local rank = after ~= '' and redis.call('ZRANK', KEYS[1], after)
if rank then
  rank = rank + 1
else
  -- Whoever the last page ended with is kept no more: those of the same ms stand by their ids.
  rank = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. (after ~= '' and after_ms or from))
  if after ~= '' then
    for _, run in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], after_ms, after_ms)) do
      if run <= after then rank = rank + 1 end
    end
  end
end
local found, found_to = {}, tonumber(to)
local page = redis.call('ZRANGE', KEYS[1], rank, rank + limit - 1, 'WITHSCORES')
for i = 1, #page, 2 do
  if tonumber(page[i + 1]) >= found_to then break end
  found[#found + 1], found[#found + 2] = page[i], page[i + 1]
end
return found
"""


class EndedRun(NamedTuple):
    """A run on the list of those that have ended and are kept."""

    ended_ms: int
    id: str


class Reader(ABC):
    """The questions that need no script."""

    @abstractmethod
    def key(self, name: str) -> str:
        """The full name of a key of this shard."""

    @abstractmethod
    async def command(self, *command: Argument) -> Reply:
        """A plain Redis command."""

    async def registry_id(self) -> str:
        """A random id of this registry, made when it is first asked for.

        Another one means another registry, or one that has lost its data: nothing that was written before is there.
        """
        made = secrets.token_hex(16)
        known = await self.command("SET", self.key("regid"), made, "NX", "GET")
        return made if known is None else bytes(known).decode()

    async def registry_version(self) -> int:
        """Rises with every `configure`."""
        return int(await self.command("GET", self.key("regver")) or 0)

    async def registrations(self, env: str) -> dict[str, bytes]:
        """App id -> its registration as written."""
        flat = await self.command("HGETALL", self.key(f"reg:{env}"))
        return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}

    async def switches(self, env: str) -> dict[str, bytes]:
        """Name of a switch -> what it is, as written."""
        flat = await self.command("HGETALL", self.key(f"sw:{env}"))
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

    async def last_event(self, env: str) -> int:
        """The number of the newest event of an environment; 0 before the first."""
        return int(await self.command("GET", self.key(f"esq:{env}")) or 0)

    async def event_runs(self, env: str, event_id: str) -> list[RunSummary]:
        """The runs that an event started, oldest first. Two round trips."""
        ids = await self.command("LRANGE", self.key(f"er:{env}:{event_id}"), 0, -1)
        runs = [await self.run(run_id.decode()) for run_id in ids]
        return [run for run in runs if run is not None]

    async def run(self, run_id: str) -> RunSummary | None:
        """A run's summary, while it is kept."""
        flat = await self.command("HGETALL", self.key(f"run:{run_id}"))
        return read_summary(run_id, flat) if flat else None

    async def run_traces(self, run_ids: Sequence[str]) -> list[str]:
        """What each of these runs is a part of (see `tracing`); empty where nobody says so. One round trip."""
        found = await asyncio.gather(*(self.command("HGET", self.key(f"run:{run}"), "tp") for run in run_ids))
        return ["" if trace is None else trace.decode() for trace in found]

    async def run_payload(self, run_id: str, *fields: str) -> list[bytes | None]:
        """Payloads of a run: `o` output, `x` error, `e:<n>` events, results by step id."""
        return decode_bodies(await self.command("HMGET", self.key(f"pl:{run_id}"), *fields))

    async def run_state(self, run_id: str) -> dict[str, bytes]:
        """All payloads of a run (see `run_payload`); empty when it is unknown or no longer kept."""
        flat = await self.command("HGETALL", self.key(f"pl:{run_id}"))
        return {flat[i].decode(): decode_body(flat[i + 1]) for i in range(0, len(flat), 2)}

    async def is_live(self, run_id: str) -> bool:
        """Whether the run has not ended."""
        return bool(await self.command("EXISTS", self.key(f"st:{run_id}")))

    async def recent_runs(self, env: str, limit: int) -> list[str]:
        """Ids of the newest runs of an environment, newest first."""
        ids = await self.command("ZREVRANGE", self.key(f"runs:{env}"), 0, limit - 1)
        return [run_id.decode() for run_id in ids]

    async def ended_runs(
        self, env: str, *, from_ms: int, until_ms: int, after: EndedRun | None = None, limit: int = 1_000
    ) -> list[EndedRun]:
        """A page of the runs that ended in [from_ms, until_ms) and are kept, the first to end first.

        Skipped ones among them. `after` is the last one of the page before: while runs are forgotten and others end, no
        run comes twice, and none is left out that is kept all the while. An empty page is the last. Those that go
        within x ms are the ones that ended before now - retention + x. What is listed may be gone when it is asked for.
        """
        last = after or EndedRun(from_ms, "")
        key = self.key(f"ended:{env}")
        flat = await self.command("EVAL", _ENDED, 1, key, from_ms, until_ms, last.ended_ms, last.id, limit)
        return [
            EndedRun(int(float(at)), run_id.decode())
            for run_id, at in zip(flat[::2], flat[1::2], strict=True)
        ]

    async def history(self, run_id: str) -> list[bytes]:
        """The run's notes that the recorder has folded, in order."""
        notes: list[bytes] = await self.command("LRANGE", self.key(f"h:{run_id}"), 0, -1)
        return notes

    async def signal_waiter(self, env: str, signal: str) -> str | None:
        """The pause that waits for a signal."""
        pause = await self.command("GET", self.key(f"sig:{env}:{signal}"))
        return None if pause is None else pause.decode()

    async def some_live_runs(self, env: str, slug: str, most: int) -> list[str]:
        """Up to `most` runs of a function that have not ended, in no order: those that have begun first."""
        found: list[str] = []
        for kind in reversed(LIVE_RUNS.values()):
            if len(found) < most:
                ids = await self.command("SRANDMEMBER", self.key(f"{kind}:{env}/{slug}"), most - len(found))
                found += [run_id.decode() for run_id in ids]
        return found

    async def scan_live_runs(
        self, env: str, slug: str, phase: Literal["queued", "begun"], cursor: str, count: int
    ) -> tuple[str, list[str]]:
        """A page of a function's runs that have not begun, or have and not ended, and the cursor of the next.

        It begins and ends with cursor 0. A run that is there all the while is met once at least. `count` is about as
        many as come; a set of up to about a hundred comes as a whole. A server's cursors say nothing to another one, nor
        to itself after a restart (each orders sets by a secret of its own): there the first page comes again. Two round
        trips then.
        """
        key = self.key(f"{LIVE_RUNS[phase]}:{env}/{slug}")
        server, _, at = cursor.rpartition(":")
        while True:
            # In one write: both are answered by the same server.
            info, (after, runs) = await asyncio.gather(
                self.command("INFO", "server"), self.command("SSCAN", key, at, "COUNT", count)
            )
            answering = _run_id(info)
            if at == "0" or answering == server:
                break
            at = "0"
        next_cursor = "0" if after == b"0" else f"{answering}:{after.decode()}"
        return next_cursor, [run.decode() for run in runs]

    async def cancellations(self, env: str) -> dict[str, bytes]:
        """Cancellations of many runs of an environment, as written, by id."""
        flat = await self.command("HGETALL", self.key(f"cx:{env}"))
        return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}

    async def sweep(self, env: str, cancellation_id: str) -> Sweep:
        """How far a cancellation has been carried out; of one that is not known, as at the beginning."""
        return read_sweep(await self.command("HGETALL", self.key(f"swp:{env}/{cancellation_id}")))

    async def completed_steps(self, run_id: str) -> list[str]:
        """The steps of a run that have a result, in the order in which they got it. One round trip, or two."""
        going_on = await self.command("LRANGE", self.key(f"sk:{run_id}"), 0, -1)
        if going_on:
            return [step.decode() for step in going_on]
        return read_order(await self.command("HGET", self.key(f"pl:{run_id}"), ":k"))

    async def runs_between(self, env: str, from_ms: int, until_ms: int) -> int:
        """How many runs of an environment were made in this time, its end not included."""
        return int(await self.command("ZCOUNT", self.key(f"runs:{env}"), from_ms, f"({until_ms}"))

    async def replays(self, env: str) -> dict[str, bytes]:
        """Replays of an environment, as written, by id."""
        flat = await self.command("HGETALL", self.key(f"rpl:{env}"))
        return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}

    async def replay(self, env: str, replay_id: str) -> bytes | None:
        """A replay, as written."""
        found: bytes | None = await self.command("HGET", self.key(f"rpl:{env}"), replay_id)
        return found

    async def replay_progress(self, env: str, replay_id: str) -> ReplayProgress:
        """How far a replay is; of one that is not known, as at the beginning."""
        return read_replay_progress(await self.command("HGETALL", self.key(f"rpp:{env}/{replay_id}")))

    async def forget_live_runs(self, env: str, slug: str, runs: Sequence[str]) -> None:
        """Take runs that have ended off a function's index: an older version ends runs without doing so."""
        for kind in LIVE_RUNS.values():
            await self.command("SREM", self.key(f"{kind}:{env}/{slug}"), *runs)


def _run_id(info: bytes) -> str:
    """The id that a server has given itself as it started; empty where it tells none."""
    for line in info.decode().splitlines():
        name, _, value = line.partition(":")
        if name == "run_id":
            return value
    return ""
