"""Operators that are not there for a while, and clocks that are set ahead: one operator per test."""

import asyncio
import copy
from typing import Any

import pytest

from innkeeper_engine.durations import MINUTE_MS
from innkeeper_engine.model.clock import SystemClock
from innkeeper_operator.cluster import Cluster
from innkeeper_operator.deletion import DRAIN_LOOK_MS
from innkeeper_operator.election import LeaseLostError
from innkeeper_operator.release import release
from tests.crds.rules import load_crds
from tests.kube.emulator import KubeEmulator
from tests.operator.house import House


def test_drain_lets_runs_go_on_until_its_time_is_over(house: House) -> None:
    running = house.operator()
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"))
    house.declare(namespace, deletionPolicy="Drain", drainTimeout="5m")
    house.until_ready(namespace)
    house.start_run(namespace, "R1")
    house.cluster.delete("InngestApp", namespace, "shop")
    found = house.until_app(namespace, "shop", "Ready", "False", "Draining")
    running.idle()
    assert house.registry(namespace)["shop"].draining
    running.skip(2 * DRAIN_LOOK_MS)
    running.idle()
    assert house.live_runs(namespace) == 1
    assert found["metadata"]["finalizers"] == ["innkeeper.dev/runs"]
    running.skip(5 * MINUTE_MS)
    house.until_gone("InngestApp", namespace, "shop")
    assert house.live_runs(namespace) == 0
    assert house.registry(namespace) == {}
    running.stop()


def test_a_registration_that_lost_its_app_while_no_operator_ran_is_drained(house: House) -> None:
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"))
    operator = house.operator()
    house.declare(namespace, deletionPolicy="Drain")
    house.until_ready(namespace)
    operator.idle()
    operator.stop()
    house.cluster.patch("InngestApp", namespace, "shop", {"metadata": {"finalizers": None}})
    house.cluster.delete("InngestApp", namespace, "shop")
    house.until_gone("InngestApp", namespace, "shop")
    again = house.operator()
    again.settled()
    again.idle()
    again.skip(DRAIN_LOOK_MS)
    again.idle()
    assert house.registry(namespace) == {}
    again.stop()


def test_release_takes_the_finalizers_off_so_that_nothing_hangs(house: House) -> None:
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"))
    operator = house.operator()
    house.declare(namespace, deletionPolicy="Drain", drainTimeout="168h")
    house.until_ready(namespace)
    operator.idle()
    operator.stop()

    async def release_all() -> int:
        cluster = Cluster(house.configuration, SystemClock())
        try:
            return await release(cluster, [namespace])
        finally:
            await cluster.close()

    assert asyncio.run(release_all()) == 1
    house.cluster.delete("InngestApp", namespace, "shop")
    house.until_gone("InngestApp", namespace, "shop")
    assert set(house.registry(namespace)) == {"shop"}, "runs and registrations stay"


def test_release_takes_the_lease_from_an_operator_that_still_runs(house: House) -> None:
    """As an uninstall does: it would put the finalizers back."""
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"))
    operator = house.operator(lease_name="taken")
    house.declare(namespace, deletionPolicy="Drain", drainTimeout="168h")
    house.until_ready(namespace)

    async def release_all() -> int:
        cluster = Cluster(house.configuration, SystemClock())
        try:
            return await release(cluster, [namespace], lease=(house.lease_namespace, "taken"))
        finally:
            await cluster.close()

    assert asyncio.run(release_all()) == 1
    ended = operator.ended()
    assert isinstance(ended, LeaseLostError)
    assert "release holds it" in str(ended)
    found = house.cluster.get("InngestApp", namespace, "shop")
    assert found is not None
    assert not found["metadata"].get("finalizers")


def newer_definition() -> dict[str, Any]:
    """The definition of InngestApps in a version to come: it knows one more policy."""
    definition = copy.deepcopy(load_crds()["InngestApp"])
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["deletionPolicy"]["enum"].append("Archive")
    return definition


def test_an_app_that_cannot_be_read_keeps_what_is_registered_and_may_go(
    house: House, module_emulator: KubeEmulator
) -> None:
    """As after going back to an older operator: the spec has a value that this one does not know."""
    if house.cluster.real:
        pytest.skip("writes what an API server would refuse")
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"))
    operator = house.operator()
    house.declare(namespace)
    house.until_ready(namespace)
    operator.idle()
    operator.stop()
    found = module_emulator.get("inngestapps", namespace, "shop")
    assert found is not None
    module_emulator.install_crds([newer_definition()])
    module_emulator.put(found | {"spec": found["spec"] | {"deletionPolicy": "Archive"}})

    again = house.operator()
    again.settled()
    again.idle()
    again.skip(2 * DRAIN_LOOK_MS)
    again.idle()
    assert not house.registry(namespace)["shop"].draining
    house.cluster.delete("InngestApp", namespace, "shop")
    house.until_gone("InngestApp", namespace, "shop")
    again.stop()


def test_an_operator_of_fewer_namespaces_leaves_alone_what_it_cannot_see(house: House) -> None:
    seen, unseen = house.namespace(), house.namespace()
    operator = house.operator()
    for namespace in (seen, unseen):
        house.deploy(namespace, house.app(namespace, "charge"))
        house.declare(namespace)
        house.until_ready(namespace)
    operator.idle()
    operator.stop()
    narrowed = house.operator(namespaces=(seen,))
    narrowed.settled()
    narrowed.idle()
    narrowed.skip(2 * DRAIN_LOOK_MS)
    narrowed.idle()
    assert not house.registry(unseen)["shop"].draining
    assert not house.registry(seen)["shop"].draining
    narrowed.stop()


def test_an_object_that_may_not_be_made_keeps_no_app_from_being_ready(
    house: House, module_emulator: KubeEmulator
) -> None:
    """A quota, say, refuses Functions: the app is registered and says so, and they come when they may."""
    if house.cluster.real:
        pytest.skip("does to the API server what one does not do to a real one")
    namespace = house.namespace()
    app = house.app(namespace, "charge")
    house.deploy(namespace, app)
    operator = house.operator()
    operator.settled()
    module_emulator.refuse(
        403,
        10_000,
        matches=lambda asked: (
            asked.verb == "patch" and asked.resource == "functions" and not asked.subresource
        ),
    )
    house.declare(namespace)
    house.until_ready(namespace)
    assert house.cluster.get("Function", namespace, "shop-charge") is None
    module_emulator.relent()
    house.until_function(namespace, "shop-charge", "Ready", "True")
    assert app.asked == 1
    operator.stop()
