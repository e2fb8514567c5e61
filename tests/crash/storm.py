"""Kills processes at random moments under load, lets everything end, and says what promise was broken."""

import asyncio
import dataclasses
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from innkeeper_engine.store.store import Store
from tests.crash.app import APP_ID, Call, CrashApp
from tests.crash.checks import Run, Sent, check_all
from tests.crash.fleet import LEASE_S, VALKEY, Fleet
from tests.crash.sender import Sender
from tests.crash.shapes import EVENTS, SHAPES, declared
from tests.crash.shard import notes_written_and_folded, wait_for_pause, wait_until_quiet

QUIET_S = 45.0
"""How long everything may take to end after the last kill."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How hard it blows."""

    seed: int
    kills: int = 50
    requests_a_second: float = 8.0
    between_s: tuple[float, float] = (0.2, 2.5)
    """From one kill to the next."""
    away_s: tuple[float, float] = (0.0, 1.0)
    """From a kill to the start of the same process."""
    shares: tuple[tuple[str, float], ...] = (("executor", 0.45), ("gateway", 0.22), (VALKEY, 0.33))

    def victims(self, draw: random.Random) -> list[str]:
        """The kinds to kill, in order; each kind has its share."""
        kinds: list[str] = []
        for kind, share in self.shares:
            kinds += [kind] * max(1, round(share * self.kills))
        kinds = (kinds + [self.shares[0][0]] * self.kills)[: self.kills]
        draw.shuffle(kinds)
        return kinds


@dataclasses.dataclass
class Report:
    """What happened."""

    seed: int
    breaches: list[str]
    seconds: float = 0.0
    quiet_after_s: float = 0.0
    kills: Counter[str] = dataclasses.field(default_factory=Counter)
    frozen: int = 0
    events: int = 0
    replies: dict[str, int] = dataclasses.field(default_factory=dict)
    runs: dict[str, int] = dataclasses.field(default_factory=dict)
    requests: int = 0
    bodies: int = 0
    repeated_bodies: int = 0
    checkpoints: int = 0
    refused_checkpoints: int = 0

    def text(self) -> str:
        """For people."""
        lines = [f"{field.name}: {getattr(self, field.name)}" for field in dataclasses.fields(self)[2:]]
        lines.insert(0, f"seed: {self.seed}")
        shown = self.breaches[:40]
        lines += [f"BREACH {breach}" for breach in shown]
        if len(self.breaches) > len(shown):
            lines.append(f"... and {len(self.breaches) - len(shown)} breaches more")
        return "\n".join(lines)


class Storm:
    """One storm over one fleet."""

    def __init__(self, folder: Path, plan: Plan, say: Callable[[str], None] = lambda line: None) -> None:
        self.plan = plan
        self._say = say
        self._fleet = Fleet(folder)
        self._store = self._fleet.inspector()
        # Draws of their own, so that the same seed kills the same processes at the same moments whatever the load does.
        self._kill_draw = random.Random(f"kills {plan.seed}")
        self._load_draw = random.Random(f"load {plan.seed}")
        self._body_draw = random.Random(f"bodies {plan.seed}")
        sender_draw = random.Random(f"sender {plan.seed}")
        self._sender = Sender(self._fleet.urls, self._fleet.event_key, sender_draw)
        self._app = CrashApp(
            {name: shape.body for name, shape in SHAPES.items()},
            servers=self._fleet.urls,
            signing_key=self._fleet.signing_key,
            seed=plan.seed,
            while_running=self._take_time,
            waiting=self._resume_later,
        )
        self._sent: list[Sent] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._resuming: set[str] = set()
        self._restarting: set[asyncio.Task[None]] = set()
        self._failed_restart: BaseException | None = None
        self._up = set(self._fleet.procs)
        self.report = Report(plan.seed, [])

    async def run(self) -> Report:
        """Blow, wait for quiet, check."""
        started = time.monotonic()
        try:
            await asyncio.to_thread(self._fleet.start)
            await self._store.open()
            await self._app.start()
            await self._app.register(declared())
            load = asyncio.create_task(self._load())
            try:
                await self._kill_all()
            finally:
                load.cancel()
                await asyncio.gather(load, return_exceptions=True)
            await self._check()
        finally:
            for task in (*self._tasks, *self._restarting):
                task.cancel()
            await asyncio.gather(*self._tasks, *self._restarting, return_exceptions=True)
            await self._app.close()
            await self._sender.close()
            await self._store.close()
            await asyncio.to_thread(self._fleet.stop)
        self.report.seconds = round(time.monotonic() - started, 1)
        return self.report

    # ---- load

    async def _load(self) -> None:
        number = 0
        while True:
            names = [self._load_draw.choice(EVENTS) for _ in range(self._load_draw.choice((1, 1, 2, 4)))]
            events = [(name, f"k{number + n}") for n, name in enumerate(names)]
            number += len(events)
            self._spawn(self._send(events))
            await asyncio.sleep(self._load_draw.expovariate(self.plan.requests_a_second))

    async def _send(self, events: list[tuple[str, str]]) -> None:
        bodies: list[dict[str, Any]] = [{"name": name, "data": {"key": key}} for name, key in events]
        for body in bodies:
            if body["name"] == "crash/once":
                body["id"] = f"user-{body['data']['key']}"
        seed = self._sender.seed()
        ids = await self._sender.send(bodies, seed)
        if self._load_draw.random() < 0.2:
            again = await self._sender.send(bodies, seed)
            if again != ids:
                self.report.breaches.append(f"sent again with the same seed: {ids}, then {again}")
        for (name, key), body, event_id in zip(events, bodies, ids, strict=True):
            all_ids = [event_id]
            if name == "crash/once":
                all_ids += await self._sender.send([body])
            self._sent.append(Sent(name, key, tuple(all_ids)))
            if name == "crash/stopped":
                self._spawn(self._stop_later(key))

    async def _stop_later(self, key: str) -> None:
        await asyncio.sleep(self._load_draw.choice((0.0, self._load_draw.uniform(0, 1.5))))
        await self._sender.send([{"name": "crash/stop", "data": {"key": key}}])

    def _resume_later(self, run: str, step: str, key: str) -> None:
        if run not in self._resuming:
            self._resuming.add(run)
            self._spawn(self._resume(run, step, key))

    async def _resume(self, run: str, step: str, key: str) -> None:
        if not await wait_for_pause(self._store, f"{run}.{step}"):
            self.report.breaches.append(f"run {run}: its wait was never there")
        # Once: an event that is acknowledged after the wait was committed must end it.
        await self._sender.send([{"name": "crash/resume", "data": {"key": key}}])

    async def _take_time(self, _call: Call, _name: str) -> None:
        chance = self._body_draw.random()
        if chance < 0.1:
            await asyncio.sleep(self._body_draw.uniform(0.2, 1.0))
        elif chance < 0.3:
            await asyncio.sleep(self._body_draw.uniform(0.0, 0.1))

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.report.breaches.append(f"the test's own load failed: {task.exception()!r}")

    # ---- the wind

    async def _kill_all(self) -> None:
        await asyncio.sleep(2)
        for n, kind in enumerate(self.plan.victims(self._kill_draw), 1):
            await asyncio.sleep(self._kill_draw.uniform(*self.plan.between_s))
            away_s = self._kill_draw.uniform(*self.plan.away_s)
            victim = await self._victim(kind)
            self._up.discard(victim)
            await asyncio.to_thread(self._fleet.kill, victim)
            self.report.kills[kind] += 1
            self._say(f"kill {n} of {self.plan.kills}: {victim}, back in {away_s:.1f} s")
            restart = asyncio.create_task(self._restart(victim, away_s))
            self._restarting.add(restart)
            restart.add_done_callback(self._restart_done)
            if n % 10 == 0:
                await self._freeze()
        while self._restarting:
            await asyncio.wait(self._restarting)
        self._raise_what_ended()

    async def _victim(self, kind: str) -> str:
        """One of this kind that is up and ready; waits for one where all are away."""
        while True:
            self._raise_what_ended()
            names = [name for name in self._fleet.named(kind) if name in self._up]
            if names:
                return self._kill_draw.choice(names)
            await asyncio.sleep(0.02)

    def _restart_done(self, task: asyncio.Task[None]) -> None:
        self._restarting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed_restart = error

    def _raise_what_ended(self) -> None:
        """A process that ended though nobody killed it, or did not come back, ends the storm."""
        if self._failed_restart is not None:
            raise self._failed_restart
        for name in self._up:
            if (code := self._fleet.procs[name].ended()) is not None:
                raise AssertionError(
                    f"{name} ended by itself with {code[0]}:\n{self._fleet.procs[name].tail()}"
                )

    async def _restart(self, name: str, away_s: float) -> None:
        await asyncio.sleep(away_s)
        await asyncio.to_thread(self._fleet.start, name)
        self._up.add(name)

    async def _freeze(self) -> None:
        """An executor that stops for longer than its leases, and then goes on as if nothing had been."""
        name = await self._victim("executor")
        self._up.discard(name)
        self._fleet.signal(name, signal.SIGSTOP)
        await asyncio.sleep(LEASE_S + self._kill_draw.uniform(0.2, 1.5))
        self._fleet.signal(name, signal.SIGCONT)
        self._up.add(name)
        self.report.frozen += 1

    # ---- afterwards

    async def _check(self) -> None:
        report, ledger = self.report, self._app.ledger
        ended = time.monotonic()
        while self._tasks:
            self._say(f"{len(self._tasks)} sends are not acknowledged yet")
            await asyncio.wait(self._tasks, timeout=2)
            if time.monotonic() - ended > QUIET_S:
                report.breaches.append(f"{len(self._tasks)} sends were never acknowledged")
                break
        left = await wait_until_quiet(self._store, QUIET_S, self._say)
        report.quiet_after_s = round(time.monotonic() - ended, 1)
        if left:
            report.breaches.append(f"{len(left)} keys are left in the shard: {left[:30]}")
        runs = await read_runs(self._store)
        report.breaches += self._sender.oddities + check_all(ledger, self._sent, runs)
        written, folded = await notes_written_and_folded(self._store)
        if written != folded:
            report.breaches.append(f"{written} notes were written, {folded} are in the histories")
        self._raise_what_ended()
        report.breaches += [f"logged: {line}" for line in self._fleet.complaints()]
        report.events = sum(len(sent.ids) for sent in self._sent)
        report.replies = dict(self._sender.replies)
        report.runs = dict(Counter(run.status for run in runs.values()))
        report.requests = len(ledger.requests)
        report.bodies = len(ledger.executions)
        report.repeated_bodies = report.bodies - len({(e.run, e.step) for e in ledger.executions})
        report.checkpoints = len(ledger.checkpoints)
        report.refused_checkpoints = ledger.refused_checkpoints


async def read_runs(store: Store, env: str = "default") -> dict[str, Run]:
    """All runs of the environment with their outputs."""
    runs = {}
    for run_id in await store.recent_runs(env, 1_000_000):
        summary = await store.run(run_id)
        assert summary is not None, f"run {run_id} is in the index, but has no summary"
        output = (await store.run_payload(run_id, "o"))[0]
        runs[run_id] = Run(
            run_id,
            summary.slug,
            summary.status,
            summary.event_ids,
            None if output is None else orjson.loads(output),
        )
    return runs


__all__ = ["APP_ID", "Plan", "Report", "Storm", "read_runs"]
