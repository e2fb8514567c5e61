"""Counts of runs in the status: seldom, only where they changed, within a budget, oldest first."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from innkeeper_engine.model.state import FunctionCounts
from innkeeper_operator.actions import SetStatus
from innkeeper_operator.cluster import Cluster
from innkeeper_operator.counters import INTERVAL_MS, Counters, changes, shown
from innkeeper_operator.environs import Environs
from innkeeper_operator.metrics import Metrics
from innkeeper_operator.objects import FunctionObject, Meta
from innkeeper_operator.registry_io import RegistryIO
from innkeeper_operator.specs import AppRef, FunctionSpec
from innkeeper_operator.world import APPS, FUNCTIONS, Dirty, World
from tests.operator.house import House, RunningOperator

NOW_MS = 1_795_000_000_000
NONE = FunctionCounts(0, 0, 0, 0, None)
SOME = FunctionCounts(3, 2, 120, 1, NOW_MS)


def function(name: str, runs: dict[str, Any] | None = None, **meta: Any) -> FunctionObject:
    status = {} if runs is None else {"runs": runs}
    spec = FunctionSpec(app_ref=AppRef(name="shop"), id=name)
    return FunctionObject(Meta(name=name, namespace="prod", uid=f"u-{name}", **meta), spec, status)


def test_what_is_shown_is_what_the_schema_knows() -> None:
    assert shown(SOME) == {
        "queued": 3,
        "running": 2,
        "completed24h": 120,
        "failed24h": 1,
        "lastRunTime": "2026-11-18T11:06:40Z",
    }
    assert "lastRunTime" not in shown(NONE)


def test_only_what_changed_is_written() -> None:
    functions = [function("same", shown(SOME)), function("other", shown(NONE)), function("new")]
    counts = {("prod", name): SOME for name in ("same", "other", "new")}
    assert [change.key[1] for change in changes(functions, counts, {}, NOW_MS)] == ["new", "other"]


def test_a_function_that_never_ran_shows_nothing() -> None:
    assert changes([function("idle")], {("prod", "idle"): NONE}, {}, NOW_MS) == []
    ran = FunctionCounts(0, 0, 0, 0, NOW_MS)
    assert len(changes([function("idle")], {("prod", "idle"): ran}, {}, NOW_MS)) == 1


def test_of_what_nothing_is_known_nothing_is_written() -> None:
    assert changes([function("new")], {}, {}, NOW_MS) == []
    assert changes([function("going", deleting=True)], {("prod", "going"): SOME}, {}, NOW_MS) == []


def test_no_function_is_written_twice_in_half_a_minute_and_the_oldest_comes_first() -> None:
    functions = [function(name) for name in ("a", "b", "c")]
    counts = {("prod", name): SOME for name in ("a", "b", "c")}
    written = {"u-a": NOW_MS - INTERVAL_MS, "u-b": NOW_MS - INTERVAL_MS + 1, "u-c": NOW_MS - 2 * INTERVAL_MS}
    assert [change.key[1] for change in changes(functions, counts, written, NOW_MS)] == ["c", "a"]


class Scene:
    """One app with one function that has run, and all that counters reach."""

    def __init__(self) -> None:
        self.world = World()
        self.generation = 1
        self.version = 0
        self.dirty: list[Dirty] = []
        endpoint = {"endpoint": {"url": "http://shop.example/api/inngest"}}
        self.world.put(APPS, self.raw("shop", endpoint, {}))
        self.world.put(FUNCTIONS, self.charge({"slug": "shop-charge"}))
        self.counters = Counters(
            self.world,
            cast(Cluster, self),
            cast(RegistryIO, self),
            cast(Environs, self),
            self,
            Metrics(),
            self.dirty.append,
            writes_per_s=1_000_000,
        )

    def raw(self, name: str, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        """An object as the API server has it."""
        self.version += 1
        meta = {"name": name, "namespace": "prod", "uid": f"u-{name}", "generation": self.generation}
        return {
            "metadata": meta | {"resourceVersion": str(self.version)},
            "spec": spec,
            "status": status,
        }

    def charge(self, status: dict[str, Any]) -> dict[str, Any]:
        """The Function."""
        return self.raw("charge", {"appRef": {"name": "shop"}, "id": "charge"}, status)

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return NOW_MS

    def member(self, app: object) -> SimpleNamespace:
        """What `Environs` says of an app."""
        return SimpleNamespace(env="prod")

    async def counts(self, env: str, slugs: object) -> dict[str, FunctionCounts]:
        """What a `RegistryIO` counts."""
        return {"shop-charge": SOME}

    async def do(self, action: SetStatus, *, status_now: dict[str, Any]) -> dict[str, Any]:
        """What a `Cluster` does."""
        return self.charge(dict(action.status))


@pytest.mark.parametrize(("generation", "apps"), [(1, frozenset()), (2, frozenset({("prod", "shop")}))])
async def test_a_spec_that_the_answer_shows_first_is_looked_at(generation: int, apps: frozenset[Any]) -> None:
    """The watch tells of it afterwards, and then it is known already."""
    scene = Scene()
    scene.generation = generation
    await scene.counters.write()
    assert [each.apps for each in scene.dirty] == [apps]


@pytest.fixture(scope="module")
def counting(house: House) -> Iterator[RunningOperator]:
    """An operator that counts often."""
    operator = house.operator(counter_interval_ms=50)
    operator.settled()
    yield operator
    operator.stop()


def test_counts_come_into_the_status_and_stay_through_other_changes(
    house: House, counting: RunningOperator
) -> None:
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge", "idle"))
    house.declare(namespace)
    house.until_ready(namespace)
    house.until_function(namespace, "shop-charge", "Ready", "True")
    house.start_run(namespace, "R1")
    found = house.until("Function", namespace, "shop-charge", lambda obj: obj["status"].get("runs"))
    assert found["status"]["runs"]["queued"] == 1
    assert "lastRunTime" in found["status"]["runs"]
    house.cluster.patch("Function", namespace, "shop-charge", {"spec": {"paused": True}})
    found = house.until_function(namespace, "shop-charge", "Ready", "True", "Paused")
    assert found["status"]["runs"]["queued"] == 1
    writes = counting.metric("counter_writes_total")
    house.start_run(namespace, "R2")
    counting.idle()
    again = house.cluster.get("Function", namespace, "shop-charge")
    assert again is not None
    assert again["status"]["runs"]["queued"] == 1, "it was written a moment ago"
    counting.skip(INTERVAL_MS)
    house.until("Function", namespace, "shop-charge", lambda obj: obj["status"]["runs"]["queued"] == 2)
    assert counting.metric("counter_writes_total") == writes + 1
    idle = house.cluster.get("Function", namespace, "shop-idle")
    assert idle is not None
    assert "runs" not in idle["status"]
