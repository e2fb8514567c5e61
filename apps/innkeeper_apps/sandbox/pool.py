"""Transforms, run in processes of their own that can do nothing but calculate.

`Sandbox` keeps a few workers (`worker.py`), forked by a process that has everything loaded (`nursery.py`). Each call has
a context of the JavaScript engine of its own, with limits of memory and CPU time that the engine keeps; the worker's
process has limits that the kernel keeps; and the pool ends a worker whose call takes too long, or went wrong in a way
that may have left something behind, and starts another. Only texts go in and out. Workers have no environment
variables, open no files and no sockets, and yield the CPU to the server itself.

Nothing here knows of HTTP or of the store.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final, Literal

import msgspec
import structlog

from innkeeper_apps.sandbox import worker as program
from innkeeper_apps.sandbox.failures import (
    SandboxBusyError,
    TransformError,
    died,
    failure_of,
    suspended,
    timed_out,
)
from innkeeper_apps.sandbox.fairness import FairQueue, FullError, Lane, Shares
from innkeeper_apps.sandbox.process import Answered, Nursery, Worker, WorkerDiedError, WorkerStartError
from innkeeper_apps.sandbox.suspending import Suspensions

MIB: Final = 1024 * 1024

CHECKS: Final = Lane("", "")
"""On whose account sources are checked, unless somebody says otherwise."""

COSTLY_SHARE: Final = 0.2
"""A call that fails after so much of the CPU time that it may use is as bad as one that had to be ended."""

_log = structlog.get_logger(__name__)


class SandboxLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one call may use, and how many there may be. Sizes in bytes of UTF-8 unless they say otherwise."""

    workers: int = 4
    """Processes; they are started when they are needed first."""
    cpu_ms: int = 250
    """CPU time of a call."""
    wall_ms: int = 5_000
    """Time of a call by the clock: wider than `cpu_ms`, since a machine may be busy with other things."""
    start_ms: int = 10_000
    """How long a worker may take to start."""
    memory_bytes: int = 64 * MIB
    """What the JavaScript of a call may hold."""
    source_chars: int = 65_536
    """Length of a transform, in characters."""
    input_bytes: int = 8 * MIB
    """A call's source, body, headers and query together."""
    result_bytes: int = 4 * MIB
    """What a transform may return, as JSON."""
    waiting: int = 256
    """Calls that wait for a worker. A webhook may have a quarter of these places, an environment half."""
    waiting_bytes: int = 64 * MIB
    """What these hold together; the same shares."""
    waiting_ms: int = 5_000
    """How long a call waits before it is told that the server is busy."""
    calls_per_worker: int = 1_000
    """After so many a worker is replaced."""

    def shares(self) -> Shares:
        """No webhook has more than half of the workers, and no environment all of them, where there are several."""
        return Shares(
            running=self.workers,
            running_of_env=max(1, self.workers - 1),
            running_of_webhook=max(1, self.workers // 2),
            waiting=self.waiting,
            waiting_of_env=math.ceil(self.waiting / 2),
            waiting_of_webhook=math.ceil(self.waiting / 4),
            bytes=self.waiting_bytes,
            bytes_of_env=self.waiting_bytes // 2,
            bytes_of_webhook=self.waiting_bytes // 4,
        )


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What a transform is run on."""

    source: str
    """The JavaScript that defines `transform`."""
    mode: Literal["json", "any", "given"] = "json"
    """How `evt` comes about: json, `raw` must be JSON; any, it is null where `raw` is not; given, it is `given`."""
    raw: str = ""
    given: str = ""
    """JSON."""
    headers: str = "{}"
    """A JSON object of texts, names spelt Like-This."""
    query: str = "{}"
    """A JSON object."""


class _Turn:
    """A call that waits for its turn, or has it. Compared by identity."""

    __slots__ = ("granted", "lane")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Sandbox:
    """Runs transforms in workers that it starts, limits and replaces. `close` ends all of them."""

    def __init__(self, limits: SandboxLimits | None = None) -> None:
        self.limits = limits or SandboxLimits()
        self._queue: FairQueue[_Turn] = FairQueue(self.limits.shares())
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False
        self._suspensions = Suspensions()
        self._nursery: Nursery | None = None
        self._starting = asyncio.Lock()

    @property
    def worker_pids(self) -> frozenset[int]:
        """The processes that take calls now."""
        workers = (*self._idle, *self._busy)
        return frozenset(worker.pid for worker in workers if worker.alive and worker.pid)

    @property
    def running(self) -> int:
        """Calls that have a worker, or are about to get one."""
        return self._queue.running

    @property
    def waiting(self) -> int:
        """Calls that wait for a worker."""
        return self._queue.waiting

    async def transform(self, lane: Lane, call: Call) -> bytes | None:
        """What `transform` returns, as JSON; None for `null` or `undefined`.

        Raises:
            TransformError: it failed, or may not be run; code `body` says that the request's body is no JSON.
            SandboxBusyError: nothing was run.
        """
        texts = ("call", call.source, call.mode, call.raw, call.given, call.headers, call.query)
        return await self._run(lane, texts)

    async def check_transform(self, source: str, lane: Lane = CHECKS) -> None:
        """Run a transform's source, without calling `transform`, to see whether that could be done.

        Raises:
            TransformError: it could not; says why, and in which line and column where the source has an error.
            SandboxBusyError: nothing is known about the source.
        """
        await self._run(lane, ("check", source, "json", "", "", "{}", "{}"))

    async def close(self) -> None:
        """End all workers. Calls that run or wait fail with SandboxBusyError."""
        self._closed = True
        for worker in (*self._idle, *self._busy):
            self._end(worker)
        self._idle.clear()
        async with self._starting:
            if self._nursery is not None:
                await self._nursery.close()
        # What a nursery does not end is given up when it is closed.
        while self._ending:
            await asyncio.wait(self._ending)

    # ---- calls

    async def _run(self, lane: Lane, texts: tuple[str, ...]) -> bytes | None:
        limits, source = self.limits, texts[1]
        if len(source) > limits.source_chars:
            raise TransformError(
                "source_size",
                f"the transform has {len(source)} characters: {limits.source_chars} are the most",
            )
        # A source may come from JSON, which can hold halves of characters.
        encoded = [text.encode("utf-8", "replace") for text in texts]
        size = sum(map(len, encoded))
        if size > limits.input_bytes:
            raise TransformError(
                "input_size",
                f"the request has {size} bytes with its transform: {limits.input_bytes} are the most",
            )
        is_trial = self._suspensions.try_again(lane)
        if not is_trial:
            self._check_suspended(lane)
        async with self._turn(lane, size):
            if not is_trial:
                # Others may have gone wrong while it waited.
                self._check_suspended(lane)
            try:
                answered = await self._answer(encoded)
            except TransformError:
                self._failed(lane)
                raise
        if answered.kind in (program.RESULT, program.NOTHING):
            self._suspensions.went_well(lane)
            return answered.said if answered.kind == program.RESULT else None
        error = failure_of(
            answered.kind,
            answered.said,
            source,
            cpu_ms=limits.cpu_ms,
            memory_bytes=limits.memory_bytes,
            result_bytes=limits.result_bytes,
        )
        costly = answered.kind != program.FAILED or answered.cpu_s * 1000 > limits.cpu_ms * COSTLY_SHARE
        if error.code == "body":
            # The transform was not run: that is no matter of its own.
            pass
        elif costly:
            self._failed(lane)
        else:
            self._suspensions.went_well(lane)
        try:
            raise error
        finally:
            del error  # else it and this frame, and what the request brought, hold each other

    def _failed(self, lane: Lane) -> None:
        # Checks are of all sources.
        if lane != CHECKS:
            self._suspensions.failed(lane)

    @contextlib.asynccontextmanager
    async def _turn(self, lane: Lane, size: int) -> AsyncIterator[None]:
        """Wait until it is this call's turn, and let the next have theirs afterwards."""
        turn = _Turn(lane)
        try:
            self._queue.put(lane, turn, size)
        except FullError:
            raise SandboxBusyError("too many requests wait for this webhook's transform") from None
        self._let_in()
        try:
            await self._granted(turn)
            yield
        finally:
            if turn.granted.done() and not turn.granted.cancelled():
                self._queue.end(lane)
            else:
                self._queue.withdraw(lane, turn)
            self._let_in()

    async def _granted(self, turn: _Turn) -> None:
        try:
            async with asyncio.timeout(self.limits.waiting_ms / 1000):
                await turn.granted
        except TimeoutError:
            raise SandboxBusyError("this request waited too long for its webhook's transform") from None

    def _let_in(self) -> None:
        while (turn := self._queue.take()) is not None:
            if turn.granted.cancelled():
                # Whoever waited has gone, but was not there yet to say so.
                self._queue.end(turn.lane)
            else:
                turn.granted.set_result(None)

    # ---- workers

    def _check_suspended(self, lane: Lane) -> None:
        wait_s = self._suspensions.wait_s(lane)
        if wait_s:
            raise suspended(wait_s)

    async def _answer(self, texts: list[bytes]) -> Answered:
        """A worker's answer to a call. A worker that went wrong is ended, another one used again.

        Raises:
            TransformError: there is none, and the worker has ended.
            SandboxBusyError: there is no worker.
        """
        limits = self.limits
        worker = self._idle_one() or await self._start()
        self._busy.add(worker)
        sound = False
        try:
            async with asyncio.timeout(limits.wall_ms / 1000):
                answered = await worker.call(texts)
            sound = answered.kind in (program.RESULT, program.NOTHING, program.FAILED)
        except TimeoutError:
            raise timed_out(limits.wall_ms) from None
        except WorkerDiedError as error:
            if self._closed:
                raise SandboxBusyError("the server is stopping") from None
            raise died(error.signal_name, cpu_ms=limits.cpu_ms, wall_ms=limits.wall_ms) from None
        else:
            return answered
        finally:
            self._busy.discard(worker)
            worn = worker.worn or worker.calls >= limits.calls_per_worker
            if sound and worker.alive and not worn and not self._closed:
                self._idle.append(worker)
            else:
                self._end(worker)

    def _idle_one(self) -> Worker | None:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive and not worker.worn:
                return worker
            # Ended from outside, or worn, while it had nothing to do.
            self._end(worker)
        return None

    async def _start(self) -> Worker:
        try:
            async with asyncio.timeout(self.limits.start_ms / 1000):
                return await self._spawn()
        except (WorkerStartError, TimeoutError) as error:
            why = str(error) or f"a sandbox worker was not ready within {self.limits.start_ms} ms"
            if isinstance(error, TimeoutError) and self._nursery is not None:
                # It may be stuck: the next call begins with another.
                self._nursery.abandon()
            _log.error("webhooks cannot be transformed", why=why)
            raise SandboxBusyError("the sandbox of webhooks does not start: see the server's log") from None

    async def _spawn(self) -> Worker:
        """A worker that takes calls.

        Raises:
            WorkerStartError: it does not start.
            SandboxBusyError: the server is stopping.
        """
        nursery = await self._nursed()
        try:
            return await self._born(nursery)
        except WorkerStartError:
            if nursery.alive:
                raise
        # It had ended, and nobody had noticed yet.
        return await self._born(await self._nursed())

    async def _born(self, nursery: Nursery) -> Worker:
        worker: Worker | None = None
        ready = False
        try:
            worker = await nursery.spawn()
            await worker.ready()
            ready = not self._closed
        finally:
            if worker is not None and not ready:
                self._end(worker)
        if not ready:
            raise SandboxBusyError("the server is stopping")
        return worker

    async def _nursed(self) -> Nursery:
        """Where workers come from, which is started when it is needed first.

        Raises:
            WorkerStartError: it does not start.
            SandboxBusyError: the server is stopping.
        """
        async with self._starting:
            if self._closed:
                raise SandboxBusyError("the server is stopping")
            if self._nursery is not None and not self._nursery.alive:
                _log.warning("the sandbox of webhooks is started again", why=self._nursery.why)
                self._clean_up(self._nursery.finish())
                self._nursery = None
            if self._nursery is None:
                limits = self.limits
                self._nursery = await Nursery.start(
                    (
                        limits.cpu_ms,
                        limits.wall_ms,
                        limits.memory_bytes,
                        limits.input_bytes,
                        limits.result_bytes,
                    )
                )
            return self._nursery

    def _end(self, worker: Worker) -> None:
        worker.kill()
        self._clean_up(worker.ended())

    def _clean_up(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
