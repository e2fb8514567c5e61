"""The processes of a benchmark: server, its store, app; started, watched and ended by pid."""

import asyncio
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis.asyncio as aioredis
from redis.exceptions import RedisError

from benchmarks.figures import Cpu

HERE = Path(__file__).resolve().parent
STORE_NAMES = ("valkey-server", "redis-server")
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
STORE_TIMEOUT_S = 3.0


class BenchmarkError(Exception):
    """A benchmark could not be carried out; the text says what to do about it."""


class NotApplicable(BenchmarkError):  # noqa: N818 - nothing went wrong
    """This benchmark says nothing about this target."""


class RunsLost(BenchmarkError):  # noqa: N818 - what it says is more than that something failed
    """Runs that were accepted did not end as they should have."""


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process and whatever it started: SIGTERM, then SIGKILL after 15 s."""
    descendants: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        descendants = psutil.Process(process.pid).children(recursive=True)
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
    for child in descendants:
        with suppress(psutil.NoSuchProcess):
            child.kill()


class Board:
    """Which runs have come to a point, as the app tells it: one set of marks per kind."""

    def __init__(self) -> None:
        self.marks: set[int] = set()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._missing: list[set[int]] = []
        self._progress = asyncio.Event()

    def add(self, marks: Iterable[int]) -> None:
        """These runs have come to the point."""
        for mark in marks:
            self.marks.add(mark)
            for missing in self._missing:
                missing.discard(mark)
            waiter = self._waiting.pop(mark, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        self._progress.set()

    async def one(self, mark: int, stall_s: float) -> None:
        """Wait for one run.

        Raises:
            RunsLost: it did not come within `stall_s`.
        """
        if mark in self.marks:
            return
        waiter = self._waiting[mark] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(waiter, stall_s)
        except TimeoutError:
            raise RunsLost(f"run {mark} got no further for {stall_s:g} s") from None

    async def every(self, marks: Iterable[int], stall_s: float) -> None:
        """Wait for all of them.

        Raises:
            RunsLost: none of all runs made progress for `stall_s` while some were missing.
        """
        missing = set(marks) - self.marks
        total = len(missing)
        self._missing.append(missing)
        try:
            while missing:
                self._progress.clear()
                await asyncio.wait_for(self._progress.wait(), stall_s)
        except TimeoutError:
            some = sorted(missing)[:5]
            raise RunsLost(
                f"{len(missing)} of {total} runs got no further for {stall_s:g} s, among them {some}"
            ) from None
        finally:
            # By identity: two waits for equal sets are two.
            self._missing = [other for other in self._missing if other is not missing]


@dataclass(frozen=True)
class AppKind:
    """Which app, and how it is started."""

    name: str
    """`null`, `ts4`, `ts3`: also the prefix of its event names."""
    command: tuple[str, ...]
    env: Mapping[str, str]


NULL_APP = AppKind("null", (sys.executable, "-m", "benchmarks.null_app"), {})
TS4_APP = AppKind("ts4", ("node", str(HERE / "sdk_app.mjs")), {"SDK_MAJOR": "4"})
TS3_APP = AppKind("ts3", ("node", str(HERE / "sdk_app.mjs")), {"SDK_MAJOR": "3"})


class App:
    """A running benchmark app."""

    def __init__(self, kind: AppKind, process: asyncio.subprocess.Process, port: int) -> None:
        self.kind = kind
        self.url = f"http://127.0.0.1:{port}/api/inngest"
        self.origin = f"http://127.0.0.1:{port}"
        self.finished = Board()
        self.slept = Board()
        self._process = process
        self._ps = psutil.Process(process.pid)
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, kind: AppKind, server_url: str, modules: Path) -> "App":
        """Start the app and wait until it listens.

        Raises:
            BenchmarkError: it did not come up.
        """
        env = {
            **os.environ,
            **kind.env,
            "INNGEST_BASE_URL": server_url,
            "INNGEST_DEV": server_url,
            "SDK_MODULES": str(modules),
        }
        process = await asyncio.create_subprocess_exec(
            *kind.command,
            cwd=HERE.parent,
            env=env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S)
        except TimeoutError:
            line = b""
        if not line.startswith(b"ready "):
            await end(process)
            raise BenchmarkError(
                f"the app {kind.name} did not start (see its error above); "
                f"SDK apps need `npm install` in the parent of {modules / 'node_modules'}"
            )
        return cls(kind, process, int(line.split()[1]))

    async def _read(self) -> None:
        assert self._process.stdout is not None
        boards = {b"f": self.finished, b"s": self.slept}
        async for line in self._process.stdout:
            what, *marks = line.split()
            if what in boards:
                boards[what].add(map(int, marks))

    def cpu_s(self) -> float:
        """CPU time that the app has used."""
        times = self._ps.cpu_times()
        return float(times.user + times.system)

    async def stop(self) -> None:
        """End it."""
        await end(self._process)
        await self._reader


class Store:
    """The Redis-protocol server that the server under test keeps its state in."""

    def __init__(self, process: psutil.Process, client: "aioredis.Redis | None", url: str | None) -> None:
        self._process = process
        self._client = client
        self.url = url

    @classmethod
    async def below(cls, pid: int) -> "Store | None":
        """The store that this process started, None where it has none of its own."""
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if not any(name in " ".join([child.name(), *child.cmdline()[:1]]) for name in STORE_NAMES):
                    continue
                for url in _listening(child):
                    client = aioredis.Redis.from_url(url)
                    try:
                        await client.ping()
                    except (RedisError, OSError):
                        await client.aclose()
                        continue
                    return cls(child, client, url)
                return cls(child, None, None)
        return None

    async def cpu_s(self) -> float:
        """CPU time by the store's own account (INFO), by the system's where it does not let us ask."""
        if self._client is None:
            times = self._process.cpu_times()
            return float(times.user + times.system)
        info: dict[str, Any] = await self._client.info("cpu")
        keys = ("used_cpu_user", "used_cpu_sys", "used_cpu_user_children", "used_cpu_sys_children")
        return float(sum(info[key] for key in keys))

    async def describe(self) -> str:
        """Version and how durable its writes are, as it says itself."""
        if self._client is None:
            return "store that cannot be asked"
        info: dict[str, Any] = await self._client.info("server")
        name = "valkey" if "valkey_version" in info else "redis"
        version = info.get("valkey_version", info.get("redis_version"))
        aof = (await self._client.config_get("appendonly")).get("appendonly")
        when = (await self._client.config_get("appendfsync")).get("appendfsync")
        return f"{name} {version}, appendonly {aof}" + (f", appendfsync {when}" if aof == "yes" else "")

    async def close(self) -> None:
        """Let go of the connection; the store belongs to the server."""
        if self._client is not None:
            await self._client.aclose()


def _listening(process: psutil.Process) -> list[str]:
    """Redis URLs of what a process listens on."""
    urls = [
        f"redis://127.0.0.1:{connection.laddr.port}/0"
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    paths = [str(connection.laddr) for connection in process.net_connections(kind="unix")]
    return urls + [f"unix://{path}?db=0" for path in paths if path]


class Server:
    """A server under test: one that the benchmark started, or a peer that runs already."""

    def __init__(self, url: str, process: asyncio.subprocess.Process | None, pid: int | None) -> None:
        self.url = url
        self.store: Store | None = None
        self.log: Path | None = None
        self._process = process
        self._ps = psutil.Process(pid) if pid is not None else None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    async def launch(
        cls, command: Sequence[str], port: int, app_url: str, *, durable: bool, scratch: Path
    ) -> "Server":
        """Start `innkeeper dev` without waiting for it. Its log and its data go below `scratch`.

        Raises:
            BenchmarkError: there is no such command.
        """
        folder = tempfile.TemporaryDirectory(prefix="innkeeper-bench-", dir=scratch)
        where = ["--data", str(Path(folder.name) / "data")] if durable else ["--memory"]
        log = Path(folder.name) / "server.log"
        with log.open("wb") as out:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    *("dev", "--port", str(port), "--no-discovery", "-u", app_url, *where),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )
            except OSError as error:
                folder.cleanup()
                raise BenchmarkError(
                    f"cannot start {command[0]}: {error.strerror}; see --innkeeper"
                ) from error
        server = cls(f"http://127.0.0.1:{port}", process, process.pid)
        server.log = log
        server._scratch = folder
        return server

    def check_alive(self) -> None:
        """Raise where the server has ended by itself.

        Raises:
            BenchmarkError: with the end of its log.
        """
        if self._process is None or self._process.returncode is None:
            return
        raise BenchmarkError(f"the server ended with status {self._process.returncode}:\n{self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        """The end of the server's log."""
        if self.log is None or not self.log.exists():
            return "(no log)"
        text = self.log.read_text(errors="replace")
        return "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()[-lines:])

    async def find_store(self) -> None:
        """Look for the store, once the server is up."""
        if self._ps is None:
            return
        deadline = time.monotonic() + STORE_TIMEOUT_S
        while True:
            self.store = await Store.below(self._ps.pid)
            if self.store is None or self.store.url is not None or time.monotonic() > deadline:
                return
            await asyncio.sleep(0.05)

    def cpu_s(self) -> float | None:
        """CPU time of the server and of what it started, without its store."""
        if self._ps is None:
            return None
        store = self.store._process.pid if self.store else None
        total = 0.0
        for process in [self._ps, *self._ps.children(recursive=True)]:
            if process.pid == store:
                continue
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    async def stop(self) -> None:
        """End it, where it is ours."""
        if self.store is not None:
            await self.store.close()
        if self._process is not None:
            await end(self._process)
        if self._scratch is not None:
            self._scratch.cleanup()


async def cpu_now(server: Server, app: App | None) -> Cpu:
    """CPU seconds used so far by everybody."""
    own = psutil.Process().cpu_times()
    return Cpu(
        server=server.cpu_s(),
        store=await server.store.cpu_s() if server.store else None,
        app=app.cpu_s() if app else None,
        load=float(own.user + own.system),
    )
