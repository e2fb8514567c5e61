"""One server and one app, up and introduced to each other; what every benchmark is written in terms of."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import psutil

from benchmarks.ceiling import Plan, Result, Shape
from benchmarks.figures import Cpu, Figure
from benchmarks.load import Accepted, Load, event, http_client, spread
from benchmarks.processes import App, AppKind, BenchmarkError, Server, cpu_now, end, free_port
from benchmarks.sizes import Sizes

Target = Literal["memory", "fsync", "peer"]


@dataclass(frozen=True)
class Settings:
    """What the command line chose."""

    innkeeper: tuple[str, ...]
    """The command whose `dev` is started."""
    modules: Path
    """A folder whose node_modules holds the SDKs."""
    scratch: Path
    """Where data and logs of the servers go: `fsync` measures the disk below it."""
    peer_url: str | None = None
    peer_pid: int | None = None
    against: Path | None = None
    """Another checkout, whose scripts are measured beside these."""


@dataclass(frozen=True)
class Outcome:
    """What a set of runs did."""

    marks: range
    accepted: list[Accepted]
    """By body, in order of the marks."""
    seconds: float
    """From the first event sent to the last final answer of the app."""
    cpu: Cpu
    """Seconds, over the same time."""
    stats: dict[str, Any]
    """The app's ledger for these marks."""


class Session:
    """A server with an app."""

    def __init__(self, sizes: Sizes, server: Server, app: App, load: Load) -> None:
        self.sizes = sizes
        self.server = server
        self.app = app
        self.load = load
        self._next_mark = 0

    def marks(self, count: int) -> range:
        """Numbers for so many runs, not used before in this session."""
        start = self._next_mark
        self._next_mark += count
        return range(start, self._next_mark)

    def event(self, name: str, mark: int, **data: Any) -> bytes:
        """The event that starts the app's function `name` as run `mark`."""
        return event(f"{self.app.kind.name}/{name}", mark=mark, **data)

    async def cpu(self) -> Cpu:
        """CPU seconds used so far."""
        return await cpu_now(self.server, self.app)

    async def closed_loop(
        self, name: str, count: int, in_flight: int, *, warm_up: int = 0, **data: Any
    ) -> Outcome:
        """Runs with `in_flight` of them between event and end at any moment.

        Raises:
            RunsLost: a run did not end, or the API does not show it as Completed.
        """

        async def one(mark: int) -> None:
            accepted[mark] = await self.load.send(self.event(name, mark, **data))
            await self.app.finished.one(mark, self.sizes.stall_s)

        accepted: dict[int, Accepted] = {}
        await spread(self.marks(warm_up), in_flight, one)
        marks = self.marks(count)
        before = await self.cpu()
        await spread(marks, in_flight, one)
        used = await self.cpu() - before
        return await self.outcome(marks, [accepted[mark] for mark in marks], used)

    async def open_loop(
        self, name: str, count: int, senders: int, *, warm_up: int = 0, **data: Any
    ) -> Outcome:
        """All events as fast as `senders` can have them accepted, then wait for the runs.

        Raises:
            RunsLost: a run did not end, or the API does not show it as Completed.
        """

        async def phase(marks: range) -> list[Accepted]:
            accepted = await self.load.send_all((self.event(name, mark, **data) for mark in marks), senders)
            await self.app.finished.every(marks, self.sizes.stall_s)
            return accepted

        await phase(self.marks(warm_up))
        marks = self.marks(count)
        before = await self.cpu()
        accepted = await phase(marks)
        used = await self.cpu() - before
        return await self.outcome(marks, accepted, used)

    async def outcome(self, marks: range, accepted: list[Accepted], cpu: Cpu) -> Outcome:
        """Collect what the app noted, and have the API confirm that the runs are Completed.

        Raises:
            RunsLost: it does not.
        """
        stats = await self.load.stats(self.app.origin, marks)
        await self.verify(accepted)
        last_us = max(stats["finished"], default=0.0)
        first_us = min(answer.sent_us for answer in accepted)
        return Outcome(marks, accepted, (last_us - first_us) / 1e6, cpu, stats)

    async def verify(self, accepted: Sequence[Accepted]) -> None:
        """Have the API confirm that each event's run is Completed.

        Raises:
            RunsLost: it does not.
        """
        ids = [event_id for answer in accepted for event_id in answer.ids()]
        await self.load.verify_completed(ids, self.sizes.verify, self.sizes.stall_s)


class CeilingSession:
    """The app with the server that only answers."""

    def __init__(self, process: asyncio.subprocess.Process, app: App) -> None:
        self._process = process
        self._ps = psutil.Process(process.pid)
        self._app = app
        self._next_mark = 0

    async def figure(
        self, figure: Figure, *, function: str, shape: Shape, runs: int, in_flight: int, steps: int = 0
    ) -> Figure:
        """The figure (a throughput of the same work) with its ceiling beside it.

        Raises:
            BenchmarkError: the driver ended.
        """
        warm_up = max(1, runs // 20)
        plan = Plan(
            app_url=self._app.url,
            slug=f"bench-{self._app.kind.name}-{function}",
            event=f"{self._app.kind.name}/{function}",
            shape=shape,
            steps=steps,
            runs=runs,
            in_flight=in_flight,
            first_mark=self._next_mark,
            warm_up=warm_up,
        )
        self._next_mark += runs + warm_up
        before = self._cpu()
        result = await self._ask(plan)
        operations = max(1, steps)
        # The clock starts after the warm-up, the CPU time before it: each is divided by what it covers.
        return replace(
            figure,
            ceiling=runs * operations / result.seconds,
            ceiling_cpu=(self._cpu() - before).per_operation((runs + warm_up) * operations),
        )

    async def _ask(self, plan: Plan) -> Result:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(plan) + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise BenchmarkError("the ceiling driver ended (see its error above)")
        return msgspec.json.decode(line, type=Result)

    def _cpu(self) -> Cpu:
        times = self._ps.cpu_times()
        return Cpu(server=float(times.user + times.system), store=None, app=self._app.cpu_s(), load=None)


class Bench:
    """Opens sessions for one target at one size."""

    def __init__(self, target: Target, sizes: Sizes, settings: Settings) -> None:
        self.target: Target = target
        self.sizes = sizes
        self.settings = settings
        self.store = ""
        """What the last server's store said about itself."""

    @asynccontextmanager
    async def session(self, kind: AppKind) -> AsyncIterator[Session]:
        """A fresh server (or the peer) with a fresh app, in sync.

        Raises:
            BenchmarkError: one of them did not come up.
        """
        port = free_port()
        url = self.settings.peer_url if self.target == "peer" else f"http://127.0.0.1:{port}"
        assert url is not None
        app = await App.start(kind, url, self.settings.modules)
        server: Server | None = None
        try:
            async with http_client() as client:
                server = await self._server(port, url, app)
                load = Load(client, url)
                await load.await_healthy(server.check_alive)
                await server.find_store()
                if server.store is not None:
                    self.store = await server.store.describe()
                await load.sync(app.url)
                try:
                    yield Session(self.sizes, server, app, load)
                except BenchmarkError as error:
                    server.check_alive()
                    raise type(error)(f"{error}\nserver log:\n{server.log_tail()}") from error
        finally:
            if server is not None:
                await server.stop()
            await app.stop()

    async def _server(self, port: int, url: str, app: App) -> Server:
        if self.target == "peer":
            return Server(url, None, self.settings.peer_pid)
        return await Server.launch(
            self.settings.innkeeper,
            port,
            app.url,
            durable=self.target == "fsync",
            scratch=self.settings.scratch,
        )

    @asynccontextmanager
    async def ceiling(self, kind: AppKind) -> AsyncIterator[CeilingSession]:
        """The same app, driven by a server that only answers.

        Raises:
            BenchmarkError: one of them did not come up.
        """
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.ceiling", str(port)),
            cwd=Path(__file__).resolve().parent.parent,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            if await process.stdout.readline() != b"ready\n":
                raise BenchmarkError("the ceiling driver did not start (see its error above)")
            app = await App.start(kind, f"http://127.0.0.1:{port}", self.settings.modules)
            try:
                yield CeilingSession(process, app)
            finally:
                await app.stop()
        finally:
            await end(process)
