"""The roles that the chart renders are enough for an operator's whole life, and no right of theirs is missing."""

import tempfile
from pathlib import Path

import pytest
from helm_python import Chart

from innkeeper_operator.cluster import find_configuration
from tests.chart.rendering import render
from tests.kube.access import rules_bound_to
from tests.kube.cluster import Cluster
from tests.kube.emulator import KubeEmulator
from tests.operator.house import House, RunningOperator, says

CHART = Path(__file__).parents[2] / "charts" / "innkeeper"


@pytest.fixture(autouse=True)
def _emulated(module_cluster: Cluster) -> None:
    if module_cluster.real:
        pytest.skip("makes users of the emulator")


def operator_of_the_chart(
    house: House, emulator: KubeEmulator, values: dict[str, object], **settings: object
) -> RunningOperator:
    """An operator with the rights and the Lease that the chart gives it, and with nothing else."""
    release = render(Chart.load(str(CHART)), values, namespace=house.lease_namespace)
    (pod,) = [each for each in release.pods() if each.component == "operator"]
    rules = rules_bound_to(release.objects, house.lease_namespace, pod.spec["serviceAccountName"])
    token = emulator.add_token(f"operator-{house.lease_namespace}", rules)
    with tempfile.TemporaryDirectory() as folder:
        path = house.cluster.kubeconfig(Path(folder) / "kubeconfig", token=token)
        house.configuration = find_configuration(str(path))
    operator = house.operator(lease_name=pod.env["INNKEEPER_LEASE_NAME"], **settings)
    operator.settled()
    return operator


def live_and_die(house: House, emulator: KubeEmulator, namespace: str) -> None:
    """Declared, ready, overridden, drained: every kind of write that an operator does."""
    app = house.app(namespace, "charge")
    house.deploy(namespace, app)
    house.declare(namespace, deletionPolicy="Cancel")
    house.until_ready(namespace)
    house.until("secrets", namespace, "shop-inngest-env", lambda secret: "data" in secret)
    house.cluster.apply(
        {
            "apiVersion": "innkeeper.dev/v1alpha1",
            "kind": "Function",
            "metadata": {"name": "mine", "namespace": namespace},
            "spec": {"appRef": {"name": "shop"}, "id": "charge", "retries": 2},
        }
    )
    # Its own object for the function goes: the right to delete.
    house.until_gone("Function", namespace, "shop-charge")
    house.until("Function", namespace, "mine", lambda function: "status" in function)
    house.cluster.delete("InngestApp", namespace, "shop")
    house.until_gone("InngestApp", namespace, "shop")
    # News are told: the right to create Events.
    assert emulator.list("events", namespace)


def take_webhooks(house: House, namespace: str) -> None:
    """A Webhook with a transform in a ConfigMap: what an operator reads and writes for it."""
    house.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "transforms", "namespace": namespace},
            "data": {"acme.js": "function transform(evt) { return {name: 'acme/' + evt.type} }"},
        }
    )
    ref = {"name": "transforms", "key": "acme.js"}
    house.cluster.apply(
        {
            "apiVersion": "innkeeper.dev/v1alpha1",
            "kind": "Webhook",
            "metadata": {"name": "acme", "namespace": namespace},
            "spec": {"transform": {"configMapRef": ref}},
        }
    )
    house.until("Webhook", namespace, "acme", lambda webhook: says(webhook, "Ready", "True"))
    house.until("secrets", namespace, "acme-webhook-url", lambda secret: "data" in secret)


def test_in_all_namespaces(house: House, module_emulator: KubeEmulator) -> None:
    namespace = house.namespace()
    operator = operator_of_the_chart(house, module_emulator, {})
    try:
        live_and_die(house, module_emulator, namespace)
        take_webhooks(house, namespace)
    finally:
        operator.stop()


def test_in_some_namespaces(house: House, module_emulator: KubeEmulator) -> None:
    namespace = house.namespace()
    operator = operator_of_the_chart(
        house, module_emulator, {"watch": {"namespaces": [namespace]}}, namespaces=(namespace,)
    )
    try:
        live_and_die(house, module_emulator, namespace)
        take_webhooks(house, namespace)
    finally:
        operator.stop()
