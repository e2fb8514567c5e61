"""The processes of the sandbox, seen from the server: start workers, have them answer calls, end them."""

import asyncio
import contextlib
import importlib.util
import itertools
import os
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
_CRASHES: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP}
)
"""Signals with which a fault of the engine ends a process."""


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

    __slots__ = ("_its", "born", "exited", "pid", "refused")

    def __init__(self, its: socket.socket) -> None:
        """`its`: the worker's end of its socket."""
        loop = asyncio.get_running_loop()
        self._its = its
        self.pid = 0
        self.born: asyncio.Future[None] = loop.create_future()
        """Also where nothing was born."""
        self.exited: asyncio.Future[int] = loop.create_future()
        self.refused = 0
        """The system's error number, where it starts no process."""

    def began(self, pid: int = 0) -> None:
        """The nursery has the worker's end, or never will."""
        self.pid = pid
        # Not before: on some systems a socket that is on its way only is lost.
        self._its.close()
        if not self.born.done():
            self.born.set_result(None)

    def ended(self, code: int) -> None:
        """The process is gone."""
        self.began(self.pid)
        if not self.exited.done():
            self.exited.set_result(code)


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
        self._worn = False
        self.calls = 0
        """How many it was given."""

    @property
    def pid(self) -> int:
        """The process's id; 0 until it is known."""
        return self._life.pid

    @property
    def worn(self) -> bool:
        """Whether it should be replaced, by its own account or by its nursery's."""
        return self._worn or self._nursery.retired

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
        await asyncio.shield(self._life.born)
        try:
            await self._answer()
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await asyncio.shield(self._life.exited)
            refused = self._life.refused
            why = (
                f"the system starts no process: {os.strerror(refused)}"
                if refused
                else f"it ended with {code}"
            )
            raise WorkerStartError(
                f"a sandbox worker does not start: {why}. {self._nursery.said()}"
            ) from None

    def kill(self) -> None:
        """End it; `ended` tells when it is gone."""
        self._writer.close()
        if not self._life.exited.done():
            self._nursery.kill(self._number)

    async def ended(self) -> None:
        """Wait until the process is gone, or nobody can tell any more."""
        try:
            async with asyncio.timeout(_CLOSING_S):
                await asyncio.shield(self._life.exited)
        except TimeoutError:
            self._nursery.abandon()
            await asyncio.shield(self._life.exited)
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _answer(self) -> Answered:
        head = await self._reader.readexactly(ANSWER.size)
        kind, self._worn, used_us, length = ANSWER.unpack(head)
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
        self.why = "it ended"
        """Why it is not alive."""
        self.retired = False
        """Whether it forks no more; the workers that it has end their calls."""
        self._process = process
        self._orders = orders
        self._reports, self._writer = streams
        self._numbers = itertools.count(1)
        self._lives: dict[int, _Life] = {}
        self._ready = asyncio.Event()
        self._tail = b""
        loop = asyncio.get_running_loop()
        self._tasks = (loop.create_task(self._listen()), loop.create_task(self._overhear()))

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
        ours.setblocking(False)
        pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        with its, contextlib.ExitStack() as stack:
            orders = stack.enter_context(ours.dup())
            streams = await asyncio.open_unix_connection(sock=ours)
            stack.callback(streams[1].close)
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
                raise WorkerStartError(f"the sandbox cannot be started: {error}") from None
            nursery = cls(process, orders, streams)
            stack.pop_all()
        is_ready = False
        try:
            is_ready = await nursery._until_ready()
        finally:
            if not is_ready:
                nursery.abandon()
                await nursery.close()
        if not is_ready:
            raise WorkerStartError(f"the sandbox ended while it started: {nursery.said()}")
        return nursery

    @property
    def alive(self) -> bool:
        """Whether workers can be asked for, as far as is known."""
        return not (self.retired or self._tasks[0].done() or self._writer.is_closing())

    def said(self) -> str:
        """The end of what it has written about errors."""
        return self._tail[-_SHOWN_BYTES:].decode("utf-8", "replace").strip()

    async def spawn(self) -> Worker:
        """A worker that is being started: wait until it is `ready`.

        Raises:
            WorkerStartError: nobody is there to start it.
        """
        if not self.alive:
            raise WorkerStartError("the sandbox has ended")
        number = next(self._numbers)
        ours, its = socket.socketpair()
        ours.setblocking(False)
        life = self._lives[number] = _Life(its)
        streams = await asyncio.open_unix_connection(sock=ours)
        try:
            socket.send_fds(self._orders, [program.ORDER.pack(program.START, number)], [its.fileno()])
        except OSError as error:
            self._lives.pop(number, life).ended(-signal.SIGKILL)
            streams[1].close()
            self.abandon(f"it takes no orders: {error}")
            raise WorkerStartError(f"the sandbox starts no worker: {error}") from None
        return Worker(self, number, life, streams)

    def kill(self, number: int) -> None:
        """End this worker."""
        try:
            self._orders.send(program.ORDER.pack(program.KILL, number))
        except OSError as error:
            # It reads a few hundred behind: so it does not read at all.
            self.abandon(f"it takes no orders: {error}")

    def abandon(self, why: str = "it was stuck") -> None:
        """End it at once. Its workers end with their sockets, or by their own limits."""
        if self.alive:
            self.why = why
        self._writer.close()
        if self._process.returncode is None:
            self._process.kill()

    async def finish(self) -> None:
        """End it as soon as its workers have ended."""
        while self._lives:
            await asyncio.wait([life.exited for life in self._lives.values()])
        await self.close()

    async def close(self) -> None:
        """End it, and all workers with it."""
        # Both: it sees the end when nobody has its socket any more.
        self._writer.close()
        self._orders.close()
        try:
            async with asyncio.timeout(_CLOSING_S):
                await self._process.wait()
        except TimeoutError:
            self.abandon()
            await self._process.wait()
        await asyncio.gather(*self._tasks)

    async def _until_ready(self) -> bool:
        """Until it has said so, or ended."""
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait({ready, self._tasks[0]}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        return self._ready.is_set()

    async def _overhear(self) -> None:
        assert self._process.stderr is not None
        while said := await self._process.stderr.read(_SHOWN_BYTES):
            self._tail = (self._tail + said)[-_SHOWN_BYTES:]

    async def _listen(self) -> None:
        try:
            while True:
                report = await self._reports.readexactly(program.REPORT.size)
                self._note(*program.REPORT.unpack(report))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            # Without it nobody learns how they end; that they must is in their own limits.
            for life in self._lives.values():
                life.ended(-signal.SIGKILL)
            self._lives.clear()

    def _note(self, kind: bytes, number: int, value: int) -> None:
        if kind == program.READY:
            self._ready.set()
        elif kind == program.BORN and number in self._lives:
            self._lives[number].began(value)
        elif number in self._lives:
            life = self._lives.pop(number)
            if kind == program.REFUSED:
                life.refused = value
                life.ended(1)
                return
            life.ended(value)
            if -value in _CRASHES:
                # Whoever is after a fault of the engine is not to find the same addresses again and again.
                self.retired, self.why = True, f"a worker ended with {signal.Signals(-value).name}"
