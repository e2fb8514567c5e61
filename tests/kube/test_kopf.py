"""An operator on kopf, in this process, against the emulator."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import kopf
import pytest

from tests.kube.emulator import KubeEmulator
from tests.kube.samples import cake, crd


class Seen:
    """What an operator was told of, by name, and somebody who waits for it."""

    def __init__(self) -> None:
        self.events: list[tuple[str | None, str, dict[str, Any]]] = []
        self._changed = asyncio.Condition()

    async def note(self, kind: str | None, name: str, spec: dict[str, Any]) -> None:
        """Take down one event."""
        async with self._changed:
            self.events.append((kind, name, spec))
            self._changed.notify_all()

    async def until(self, holds: Callable[[list[tuple[str | None, str, dict[str, Any]]]], bool]) -> None:
        """Wait until something holds of all events so far."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: holds(self.events))


@pytest.fixture
async def seen(emulator: KubeEmulator) -> AsyncIterator[Seen]:
    """An operator that notes the events of Cakes, running."""
    emulator.install_crds([crd()])
    found = Seen()
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=emulator.url, token=emulator.token, scheme="Bearer")

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.networking.error_backoffs = [0.05] * 100
        settings.watching.reconnect_backoff = 0.05

    @kopf.on.event("test.dev", "v1", "cakes", registry=registry)
    async def on_cake(type: str | None, name: str, spec: kopf.Spec, **_: Any) -> None:  # noqa: A002
        await found.note(type, name, dict(spec))

    stop = asyncio.Event()
    ready = asyncio.Event()
    operator = asyncio.create_task(
        kopf.operator(registry=registry, standalone=True, clusterwide=True, stop_flag=stop, ready_flag=ready)
    )
    await ready.wait()
    yield found
    stop.set()
    await operator


async def test_an_operator_is_told_of_what_there_is_and_of_what_comes(
    emulator: KubeEmulator, seen: Seen
) -> None:
    """Listed, added, changed and deleted objects are events."""
    emulator.put(cake("a"))
    await seen.until(lambda events: ("ADDED", "a") in [e[:2] for e in events])
    emulator.put(cake("a", layers=3))
    await seen.until(lambda events: events[-1] == ("MODIFIED", "a", {"flavour": "plum", "layers": 3}))
    emulator.delete("cakes", "default", "a")
    await seen.until(lambda events: events[-1][:2] == ("DELETED", "a"))
    assert [w for w in emulator.writes if w.resource == "cakes"] == []


async def test_an_operator_survives_a_restart_of_the_api(emulator: KubeEmulator, seen: Seen) -> None:
    """What changed before and after an outage is seen."""
    emulator.put(cake("a"))
    await seen.until(lambda events: "a" in [e[1] for e in events])
    emulator.stop()
    emulator.put(cake("b"))
    emulator.start()
    await seen.until(lambda events: "b" in [e[1] for e in events])
    emulator.put(cake("c"))
    await seen.until(lambda events: "c" in [e[1] for e in events])


async def test_an_operator_lists_again_when_its_watch_is_too_old(emulator: KubeEmulator, seen: Seen) -> None:
    """An object that appeared where the history is lost comes with the next list."""
    emulator.put(cake("a"))
    await seen.until(lambda events: ("ADDED", "a") in [e[:2] for e in events])
    emulator.put(cake("b"))
    emulator.expire_watches()
    await seen.until(lambda events: (None, "a") in [e[:2] for e in events] and "b" in [e[1] for e in events])
    emulator.compact()
    emulator.drop_watches()
    await seen.until(lambda events: [e[:2] for e in events].count((None, "a")) == 2)


async def test_an_operator_waits_out_refused_requests(emulator: KubeEmulator, seen: Seen) -> None:
    """Errors 429 and 503 are asked again."""
    emulator.refuse(503, times=2)
    emulator.refuse(429, times=1, retry_after_s=0)
    emulator.expire_watches()
    emulator.put(cake("late"))
    await seen.until(lambda events: "late" in [e[1] for e in events])
