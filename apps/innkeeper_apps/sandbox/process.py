"""One process of the sandbox, seen from the server: start it, have it answer calls, end it."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from innkeeper_apps.sandbox import worker as program

_ENGINE: Final = "_quickjs"
_SHOWN_BYTES: Final = 2_000


class WorkerStartError(Exception):
    """A process that does not come up; says what it said."""


class WorkerDiedError(Exception):
    """A process that ended instead of answering."""

    def __init__(self, signal_name: str) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name
        """Such as SIGKILL; empty where it ended by itself."""


class Worker:
    """A running process. One call at a time; after an error or a cancellation it can only be killed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self.calls = 0
        """How many it was given."""
        self.worn = False
        """Whether it should be replaced, by its own account."""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it is still there, as far as is known."""
        return self._process.returncode is None and not self._stdin.is_closing()

    async def call(self, texts: Sequence[bytes]) -> tuple[bytes, bytes]:
        """The answer to one call: how it went, and what was said.

        Raises:
            WorkerDiedError: the process ended.
        """
        self.calls += 1
        try:
            self._stdin.write(program.CALL.pack(*map(len, texts)) + b"".join(texts))
            await self._stdin.drain()
            return await self._answer()
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await self._process.wait()
            raise WorkerDiedError(signal.Signals(-code).name if code < 0 else "") from None

    async def ready(self) -> None:
        """Wait until it takes calls.

        Raises:
            WorkerStartError: it ended before.
        """
        try:
            await self._answer()
        except asyncio.IncompleteReadError:
            assert self._process.stderr is not None
            said = (await self._process.stderr.read())[-_SHOWN_BYTES:].decode("utf-8", "replace")
            raise WorkerStartError(f"a sandbox worker ended while it started: {said.strip()}") from None

    def kill(self) -> None:
        """End it; `ended` tells when it is gone."""
        if self._process.returncode is None:
            self._process.kill()

    async def ended(self) -> None:
        """Wait until the process is gone."""
        await self._process.wait()

    async def _answer(self) -> tuple[bytes, bytes]:
        head = await self._stdout.readexactly(program.ANSWER.size)
        kind, self.worn, length = program.ANSWER.unpack(head)
        return kind, await self._stdout.readexactly(length)


async def spawn(numbers: Sequence[int]) -> Worker:
    """Start a process; `numbers` are the limits that worker.py expects, in its order.

    Raises:
        WorkerStartError: the JavaScript engine is not installed, or the system starts no process.
    """
    engine = importlib.util.find_spec(_ENGINE)
    if engine is None or engine.origin is None:
        raise WorkerStartError("the package quickjs-ng is not installed: webhooks need it")
    # Isolated, without site-packages, without environment, in a session of its own: Ctrl-C is not for it.
    command = (sys.executable, "-I", "-S", "-B", program.__file__, engine.origin, *map(str, numbers))
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env={}, cwd="/", start_new_session=True
        )
    except OSError as error:
        raise WorkerStartError(f"a sandbox worker cannot be started: {error}") from None
    with contextlib.suppress(OSError, AttributeError):
        # It does so itself, but starting takes longer than most calls; and where calls go wrong many are started.
        os.setpriority(os.PRIO_PROCESS, process.pid, program.NICE)
    return Worker(process)
