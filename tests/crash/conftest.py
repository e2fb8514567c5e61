"""A fleet and an app of each test's own; the ends of all logs under a failure."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.crash.app import Body
from tests.crash.scene import Scene
from tests.sdk.harness import Proc

OpenScene = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def open_scene(tmp_path: Path) -> AsyncIterator[OpenScene]:
    """`await open_scene({function id: body}, executors=1, settings={...})`: everything runs, the app is registered.

    Afterwards the shard must be empty of all that goes with a run, and no role may have logged an error of its own.
    """
    scenes: list[Scene] = []
    opened: list[Scene] = []

    async def open_one(functions: Mapping[str, Body], **options: Any) -> Scene:
        scene = Scene(tmp_path, functions, **options)
        scenes.append(scene)
        await scene.open()
        opened.append(scene)
        return scene

    try:
        yield open_one
        for scene in opened:
            await scene.must_be_clean()
    finally:
        for scene in scenes:
            await scene.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the end of every live process's log under a failure."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed and item.path.parent == Path(__file__).parent:
        report.sections.extend((f"log of {p.name} ({p.log})", p.tail()) for p in Proc.live)
