"""Operators that are not there for a while, and clocks that are set ahead: one operator per test."""

import asyncio

from innkeeper_engine.durations import MINUTE_MS
from innkeeper_engine.model.clock import SystemClock
from innkeeper_operator.cluster import Cluster
from innkeeper_operator.deletion import DRAIN_LOOK_MS
from innkeeper_operator.election import LeaseLostError
from innkeeper_operator.release import release
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
