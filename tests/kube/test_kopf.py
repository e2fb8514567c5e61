"""An operator on kopf, in this process, against the emulator."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import kopf
import pytest

from tests.kube.emulator import KubeEmulator
from tests.kube.running import OperatorThread
from tests.kube.samples import cake, crd


class Event(NamedTuple):
    """One event; `type` is None for objects of a list."""

    type: str | None
    name: str
    spec: dict[str, Any]


class Seen:
    """What an operator was told of, and somebody who waits for it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def note(self, event: Event) -> None:
        """Take down one event."""
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def until(self, holds: Callable[[list[Event]], bool]) -> None:
        """Wait until something holds of all events so far."""
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.events), 20), f"only saw {self.events}"

    def until_named(self, name: str) -> None:
        """Wait for any event of an object."""
        self.until(lambda events: name in [event.name for event in events])


@pytest.fixture
def seen(emulator: KubeEmulator) -> Iterator[Seen]:
    """An operator that notes the events of Cakes, and has listed one that is called `first`."""
    emulator.install_crds([crd()])
    emulator.put(cake("first"))
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
        found.note(Event(type, name, dict(spec)))

    with OperatorThread(registry, clusterwide=True):
        found.until_named("first")
        yield found


def test_an_operator_is_told_of_what_there_is_and_of_what_comes(emulator: KubeEmulator, seen: Seen) -> None:
    """Added, changed and deleted objects are events; watching writes nothing."""
    emulator.put(cake("a"))
    seen.until(lambda events: Event("ADDED", "a", {"flavour": "plum", "layers": 1}) in events)
    emulator.put(cake("a", layers=3))
    seen.until(lambda events: events[-1] == Event("MODIFIED", "a", {"flavour": "plum", "layers": 3}))
    emulator.delete("cakes", "default", "a")
    seen.until(lambda events: events[-1].type == "DELETED")
    assert seen.events[0].type is None
    assert emulator.writes == []


def test_an_operator_survives_a_restart_of_the_api(emulator: KubeEmulator, seen: Seen) -> None:
    """What changed during and after an outage is seen."""
    emulator.stop()
    emulator.put(cake("meanwhile"))
    emulator.start()
    seen.until_named("meanwhile")
    emulator.put(cake("after"))
    seen.until_named("after")


def test_an_operator_lists_again_when_its_watch_is_too_old(emulator: KubeEmulator, seen: Seen) -> None:
    """After an ERROR 410, and after a lost connection whose version is gone."""
    emulator.put(cake("a"))
    seen.until_named("a")
    emulator.expire_watches()
    seen.until(lambda events: None in [event.type for event in events if event.name == "a"])
    emulator.put(cake("b"))
    seen.until_named("b")
    emulator.compact()
    emulator.drop_watches()
    seen.until(lambda events: None in [event.type for event in events if event.name == "b"])


def test_an_operator_waits_out_refused_requests(emulator: KubeEmulator, seen: Seen) -> None:
    """Errors 503 and 429 are asked again."""
    emulator.refuse(503, times=2)
    emulator.refuse(429, times=1, retry_after_s=0)
    emulator.expire_watches()
    emulator.put(cake("late"))
    seen.until_named("late")


def test_an_operator_that_cannot_start_fails_where_it_is_started(emulator: KubeEmulator) -> None:
    """With what kopf raised, and not after a timeout."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    def fail(**_: Any) -> None:
        raise kopf.PermanentError("no configuration")

    with (
        pytest.raises(Exception, match="One or more handlers failed"),
        OperatorThread(registry, clusterwide=True),
    ):
        pass
