"""What becomes of runs and registrations when an InngestApp goes, and that nothing ever hangs on the operator."""

from typing import Any

import pytest

from innkeeper_engine.durations import MINUTE_MS
from innkeeper_operator.deletion import DRAIN_LOOK_MS
from tests.operator.house import House, RunningOperator, condition

Json = dict[str, Any]


def synced(house: House, **spec: Any) -> str:
    """A namespace with a synced app."""
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"))
    house.declare(namespace, **spec)
    house.until_ready(namespace)
    return namespace


def test_cancel_removes_the_registration_at_once(house: House, running: RunningOperator) -> None:
    namespace = synced(house, deletionPolicy="Cancel")
    house.cluster.delete("InngestApp", namespace, "shop")
    house.until_gone("InngestApp", namespace, "shop")
    running.idle()
    assert house.registry(namespace) == {}


def test_drain_without_runs_removes_the_registration_soon(house: House, running: RunningOperator) -> None:
    namespace = synced(house, deletionPolicy="Drain")
    house.cluster.delete("InngestApp", namespace, "shop")
    running.idle()
    running.skip(DRAIN_LOOK_MS)
    house.until_gone("InngestApp", namespace, "shop")
    running.idle()
    assert house.registry(namespace) == {}


def test_orphan_leaves_the_registration_and_no_finalizer(house: House, running: RunningOperator) -> None:
    namespace = synced(house, deletionPolicy="Orphan")
    app = house.cluster.get("InngestApp", namespace, "shop")
    assert app is not None
    assert "finalizers" not in app["metadata"]
    house.cluster.delete("InngestApp", namespace, "shop")
    house.until_gone("InngestApp", namespace, "shop")
    running.idle()
    running.skip(20 * MINUTE_MS)
    running.idle()
    assert house.registry(namespace)["shop"].orphaned


def test_an_app_declared_again_takes_its_orphaned_registration_back(
    house: House, running: RunningOperator
) -> None:
    namespace = synced(house, deletionPolicy="Orphan")
    house.cluster.delete("InngestApp", namespace, "shop")
    house.until_gone("InngestApp", namespace, "shop")
    house.declare(namespace, deletionPolicy="Cancel")
    house.until_ready(namespace)
    running.idle()
    assert not house.registry(namespace)["shop"].orphaned


def test_the_owned_functions_go_and_a_persons_wait_for_the_app(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge", "refund"))
    house.declare(namespace, deletionPolicy="Cancel")
    house.declare_function(namespace, "mine", "charge", retries=1)
    house.until_ready(namespace)
    house.until_function(namespace, "shop-refund", "Ready", "True")
    house.cluster.delete("InngestApp", namespace, "shop")
    house.until_gone("InngestApp", namespace, "shop")
    if house.cluster.controllers:
        house.until_gone("Function", namespace, "shop-refund")
    waiting = house.until_function(namespace, "mine", "Ready", "Unknown", "WaitingForApp")
    assert condition(waiting, "Accepted")["status"] == "True"


def test_a_namespace_that_is_deleted_is_left_at_once_whatever_the_policy(
    house: House, running: RunningOperator
) -> None:
    if not house.cluster.controllers:
        pytest.skip("nobody empties namespaces here")
    namespace = synced(house, deletionPolicy="Drain", drainTimeout="168h")
    house.cluster.delete("namespaces", "", namespace)
    house.until_gone("namespaces", "", namespace)
    running.idle()
    assert house.registry(namespace) == {}


def test_cancel_ends_the_runs_first(house: House, running: RunningOperator) -> None:
    namespace = synced(house, deletionPolicy="Cancel")
    house.start_run(namespace, "R1")
    assert house.live_runs(namespace) == 1
    house.cluster.delete("InngestApp", namespace, "shop")
    house.until_gone("InngestApp", namespace, "shop")
    assert house.live_runs(namespace) == 0
    assert house.registry(namespace) == {}
