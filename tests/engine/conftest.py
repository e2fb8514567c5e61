"""The store's tests run on every server that is at hand: Valkey always, Debian's Redis 7.0 where it is installed."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store
from tests.conftest import OpenStore, ValkeyProcess, empty
from tests.engine.model_driver import TestClock

REDIS = shutil.which("redis-server")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On the second server, what takes long runs in `make slow`; its short forms stay."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if (
            item.get_closest_marker("long")
            and callspec is not None
            and callspec.params.get("either_server") == "redis"
        ):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", params=["valkey", *(["redis"] if REDIS else [])])
def either_server(request: pytest.FixtureRequest) -> Iterator[Address]:
    """The address of a server that lives as long as the test session."""
    # Not pytest's own folder: the path of a Unix socket has 107 characters at most.
    directory = Path(tempfile.mkdtemp(prefix="ik-"))
    try:
        server = ValkeyProcess(directory, binary=REDIS if request.param == "redis" else None)
        try:
            yield server.address
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def valkey(either_server: Address) -> Iterator[Address]:
    """The address of the server, which is empty again after each test."""
    yield either_server
    empty(either_server)


@pytest.fixture
def clock() -> TestClock:
    """A clock that stands until it is moved."""
    return TestClock()


@pytest.fixture
async def timed(open_store: OpenStore, clock: TestClock) -> Store:
    """A store whose time is `clock`."""
    return await open_store(clock_ms=clock)


@pytest.fixture
async def small(
    request: pytest.FixtureRequest, open_store: OpenStore, clock: TestClock
) -> AsyncIterator[Store]:
    """A store with little memory, on a server of its own, whose time is `clock`."""
    binary = REDIS if request.node.callspec.params["either_server"] == "redis" else None
    directory = Path(tempfile.mkdtemp(prefix="ik-"))
    try:
        options = ("--maxmemory", "16mb", "--maxmemory-policy", "noeviction")
        server = ValkeyProcess(directory, *options, binary=binary)
        try:
            store = await open_store(address=server.address, clock_ms=clock)
            yield store
            await store.close()
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
