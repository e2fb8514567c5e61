"""The processes of the sandbox, seen from the server: start workers, have them answer calls, end them."""

import asyncio
import contextlib
import importlib.util
import itertools
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from innkeeper_apps.sandbox import nursery as program
from innkeeper_apps.sandbox.worker import ANSWER, CALL

_ENGINE: Final = "_quickjs"
_SHOWN_BYTES: Final = 2_000
_CLOSING_S: Final = 5
"""How long the nursery may take to end its workers."""


class WorkerStartError(Exception):
    """A process that does not come up; says what it said."""


class WorkerDiedError(Exception):
    """A process that ended instead of answering."""

    def __init__(self, signal_name: str) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name
        """Such as SIGKILL; empty where it ended by itself."""


class Answered(NamedTuple):
    """What a worker says of a call."""

    kind: bytes
    """How it went: one of the letters of worker.py."""
    said: bytes
    cpu_s: float


class _Life:
    """What is known of a process: it changes as the nursery tells."""

    __slots__ = ("exited", "pid")

    def __init__(self) -> None:
        self.pid = 0
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()


class Worker:
    """A running process. One call at a time; after an error or a cancellation it can only be killed."""

    def __init__(
        self,
        nursery: "Nursery",
        number: int,
        life: _Life,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._nursery = nursery
        self._number = number
        self._life = life
        self._reader, self._writer = streams
        self.calls = 0
        """How many it was given."""
        self.worn = False
        """Whether it should be replaced, by its own account."""

    @property
    def pid(self) -> int:
        """The process's id; 0 until it is known."""
        return self._life.pid

    @property
    def alive(self) -> bool:
        """Whether it is still there, as far as is known."""
        return not (self._life.exited.done() or self._writer.is_closing() or self._reader.at_eof())

    async def call(self, texts: Sequence[bytes]) -> Answered:
        """The answer to one call.

        Raises:
            WorkerDiedError: the process ended.
        """
        self.calls += 1
        try:
            self._writer.write(CALL.pack(*map(len, texts)) + b"".join(texts))
            await self._writer.drain()
            return await self._answer()
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await asyncio.shield(self._life.exited)
            raise WorkerDiedError(signal.Signals(-code).name if code < 0 else "") from None

    async def ready(self) -> None:
        """Wait until it takes calls.

        Raises:
            WorkerStartError: it ended before.
        """
        try:
            await self._answer()
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await asyncio.shield(self._life.exited)
            raise WorkerStartError(f"a sandbox worker ended while it started ({code})") from None

    def kill(self) -> None:
        """End it; `ended` tells when it is gone."""
        self._writer.close()
        if not self._life.exited.done():
            self._nursery.kill(self._number)

    async def ended(self) -> None:
        """Wait until the process is gone."""
        await asyncio.shield(self._life.exited)
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _answer(self) -> Answered:
        head = await self._reader.readexactly(ANSWER.size)
        kind, self.worn, used_us, length = ANSWER.unpack(head)
        return Answered(kind, await self._reader.readexactly(length), used_us / 1_000_000)


class Nursery:
    """The process that workers are forked from (nursery.py)."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        orders: socket.socket,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """`orders`: the same socket as that of `streams`, which cannot send sockets themselves."""
        self._process = process
        self._orders = orders
        self._reports, self._writer = streams
        self._numbers = itertools.count(1)
        self._lives: dict[int, _Life] = {}
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    @classmethod
    async def start(cls, numbers: Sequence[int]) -> "Nursery":
        """Start it; `numbers` are the limits that worker.py expects, in its order.

        Raises:
            WorkerStartError: the JavaScript engine is not installed or does not load, or the system starts no process.
        """
        engine = importlib.util.find_spec(_ENGINE)
        if engine is None or engine.origin is None:
            raise WorkerStartError("the package quickjs-ng is not installed: webhooks need it")
        # Isolated, without site-packages, without environment, in a session of its own: Ctrl-C is not for it.
        command = (sys.executable, "-I", "-S", "-B", program.__file__, engine.origin, *map(str, numbers))
        ours, its = socket.socketpair()
        pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        with its:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=its.fileno(),
                    stdout=none,
                    stderr=pipe,
                    env={},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise WorkerStartError(f"a sandbox worker cannot be started: {error}") from None
        orders = ours.dup()
        ours.setblocking(False)
        streams = await asyncio.open_unix_connection(sock=ours)
        nursery: Nursery | None = None
        try:
            await streams[0].readexactly(program.REPORT.size)
            nursery = cls(process, orders, streams)
        except (asyncio.IncompleteReadError, ConnectionError):
            assert process.stderr is not None
            said = (await process.stderr.read())[-_SHOWN_BYTES:].decode("utf-8", "replace")
            raise WorkerStartError(f"the sandbox ended while it started: {said.strip()}") from None
        finally:
            if nursery is None:
                orders.close()
                streams[1].close()
                await process.wait()
        return nursery

    @property
    def alive(self) -> bool:
        """Whether workers can be asked for, as far as is known."""
        return not (self._listening.done() or self._writer.is_closing())

    async def spawn(self) -> Worker:
        """A worker that is being started: wait until it is `ready`.

        Raises:
            WorkerStartError: nobody is there to start it.
        """
        number = next(self._numbers)
        ours, its = socket.socketpair()
        ours.setblocking(False)
        life = self._lives[number] = _Life()
        with its:
            try:
                socket.send_fds(self._orders, [program.ORDER.pack(program.START, number)], [its.fileno()])
            except OSError as error:
                ours.close()
                del self._lives[number]
                raise WorkerStartError(f"the sandbox starts no worker: {error}") from None
        return Worker(self, number, life, await asyncio.open_unix_connection(sock=ours))

    def kill(self, number: int) -> None:
        """End this worker."""
        # Where nobody listens any more all workers have been told to end.
        with contextlib.suppress(OSError):
            self._orders.send(program.ORDER.pack(program.KILL, number))

    async def close(self) -> None:
        """End it, and all workers with it."""
        self._writer.close()
        self._orders.close()
        try:
            async with asyncio.timeout(_CLOSING_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._listening

    async def _listen(self) -> None:
        try:
            while True:
                report = await self._reports.readexactly(program.REPORT.size)
                kind, number, value = program.REPORT.unpack(report)
                if kind == program.BORN:
                    self._lives[number].pid = value
                else:
                    self._lives.pop(number).exited.set_result(value)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            # Without it nobody learns how they end; that they must is in their own limits.
            for life in self._lives.values():
                life.exited.set_result(-signal.SIGKILL)
            self._lives.clear()
