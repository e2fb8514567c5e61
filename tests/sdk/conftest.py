"""One server and one app per SDK for a session (each xdist worker has its own), started when asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.flow import Changing, Scene
from tests.sdk.harness import ALL, App, Proc, Server, World, close_clients


@pytest.fixture(scope="session", autouse=True)
def _clients_closed() -> Iterator[None]:
    """No connection outlives the session."""
    yield
    close_clients()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The session's server with its apps; afterwards its log must hold no traceback."""
    world = World(tmp_path_factory.mktemp("world"))
    try:
        yield world
    finally:
        world.close()
    log = world.server.proc.log_text()
    assert "Traceback (most recent call last)" not in log, log[-8000:]


@pytest.fixture
def app(request: pytest.FixtureRequest, world: World) -> App:
    """The app in the SDK that the test is parametrised with, see `on`."""
    sdk = request.param
    assert sdk in ALL
    return world.app(sdk)


@pytest.fixture
def scene(app: App) -> Iterator[Scene]:
    """The test's own events to its app; afterwards no body waits at a gate."""
    scene = Scene(app)
    try:
        yield scene
    finally:
        scene.close()


@pytest.fixture
def changing(app: App) -> Iterator[Changing]:
    """The app beside the test's app whose options change; afterwards it has nothing that limits."""
    changing = Changing(app)
    try:
        yield changing
    finally:
        changing.serve(removed=True)


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own."""
    server = Server(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the end of every live process's log under a failure."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed and "sdk" in item.keywords:
        report.sections.extend((f"log of {p.name} ({p.log})", p.tail()) for p in Proc.live)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cron slots come once a minute: what waits for one runs last, when the slot has mostly been."""
    items.sort(key=lambda item: item.name.startswith("test_cron"))
