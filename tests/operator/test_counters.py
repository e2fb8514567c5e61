"""Counts of runs in the status: seldom, only where they changed, within a budget, oldest first."""

from collections.abc import Iterator
from typing import Any

import pytest

from innkeeper_engine.model.state import FunctionCounts
from innkeeper_operator.counters import INTERVAL_MS, changes, shown
from innkeeper_operator.objects import FunctionObject, Meta
from innkeeper_operator.specs import AppRef, FunctionSpec
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
