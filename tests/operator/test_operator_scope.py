"""One namespace, a list, or all; and no more rights than the chart's roles grant. RBAC is the emulator's here."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest

from innkeeper_operator.asking import SPACING_MS
from innkeeper_operator.cluster import find_configuration
from tests.kube.access import Rule
from tests.kube.cluster import Cluster
from tests.kube.emulator import KubeEmulator
from tests.operator.house import House, StartOperator, condition

Json = dict[str, Any]

_GROUP = ("innkeeper.dev",)


@pytest.fixture(autouse=True)
def _emulated(module_cluster: Cluster) -> None:
    if module_cluster.real:
        pytest.skip("makes users of the emulator")


def rules(namespace: str, secrets: tuple[str, ...] | None = None) -> list[Rule]:
    """The rights of an operator of one namespace; with `secrets`, of these Secrets only, by their names."""

    def rule(
        groups: tuple[str, ...], resources: tuple[str, ...], *verbs: str, names: tuple[str, ...] = ()
    ) -> Rule:
        return Rule(
            api_groups=groups, resources=resources, verbs=verbs, resource_names=names, namespace=namespace
        )

    found = [
        rule(_GROUP, ("inngestapps",), "get", "list", "watch", "patch"),
        rule(_GROUP, ("functions",), "get", "list", "watch", "create", "patch", "delete"),
        rule(_GROUP, ("webhooks",), "get", "list", "watch"),
        rule(_GROUP, ("inngestapps/status", "functions/status", "webhooks/status"), "get", "patch"),
        rule(_GROUP, ("inngestapps/finalizers",), "update"),
        rule(("",), ("services", "pods", "configmaps"), "get", "list", "watch"),
        rule(("discovery.k8s.io",), ("endpointslices",), "get", "list", "watch"),
        rule(("events.k8s.io",), ("events",), "create", "patch"),
        rule(("",), ("namespaces",), "get", names=(namespace,)),
    ]
    if secrets is None:
        found.append(rule(("",), ("secrets",), "get", "list", "watch", "create", "patch"))
    else:
        found.append(rule(("",), ("secrets",), "get", "list", "watch", names=secrets))
    return found


def leases(namespace: str) -> Rule:
    """The rights to the Lease."""
    return Rule(
        api_groups=("coordination.k8s.io",),
        resources=("leases",),
        verbs=("get", "create", "update"),
        namespace=namespace,
    )


def as_user(house: House, emulator: KubeEmulator, given: list[Rule]) -> None:
    """Let the house's next operators be somebody with these rights."""
    token = emulator.add_token("operator", [*given, leases(house.lease_namespace)])
    with tempfile.TemporaryDirectory() as folder:
        path = house.cluster.kubeconfig(Path(folder) / "kubeconfig", token=token)
        house.configuration = find_configuration(str(path))


def test_an_operator_of_one_namespace_needs_no_rights_elsewhere(
    house: House, start: StartOperator, module_emulator: KubeEmulator
) -> None:
    inside, outside = house.namespace(keys=False), house.namespace(keys=False)
    as_user(house, module_emulator, rules(inside))
    operator = start(namespaces=(inside,), environments={inside: "live"})
    operator.settled()
    app = house.app(inside, "charge")
    app.keys = []
    house.deploy(inside, app)
    house.declare(inside, deletionPolicy="Drain", drainTimeout="168h")
    house.deploy(outside, house.app(outside, "charge"))
    house.declare(outside)
    house.until("secrets", inside, "innkeeper-keys", lambda secret: "data" in secret)
    app.keys = [module_emulator.secret(inside, "innkeeper-keys")["signing-key"]]
    operator.skip(SPACING_MS)
    ready = house.until_ready(inside)
    assert ready["status"]["environment"] == "live"
    assert set(house.registry("live")) == {"shop"}
    operator.idle()
    untouched = house.cluster.get("InngestApp", outside, "shop")
    assert untouched is not None
    assert "status" not in untouched

    house.cluster.delete("namespaces", "", inside)
    house.until_gone("namespaces", "", inside)
    operator.idle()
    assert house.registry("live") == {}


def test_in_the_mode_named_only_secrets_that_apps_name_are_asked_for(
    house: House, start: StartOperator, module_emulator: KubeEmulator
) -> None:
    namespace = house.namespace(keys=False)
    as_user(house, module_emulator, rules(namespace, ("innkeeper-keys", "shop-keys")))
    module_emulator.reset()
    operator = start(namespaces=(namespace,), secret_mode="Named", generate_keys=False)
    operator.settled()
    house.keys(namespace)
    house.deploy(namespace, house.app(namespace, "charge"))
    house.declare(namespace)
    house.until_ready(namespace)

    own = house.app(namespace, "ship", app_id="own")
    own.keys = ["signkey-test-" + "ee" * 32]
    house.deploy(namespace, own, name="own")
    house.declare(namespace, "own", signingKey={"secretRef": {"name": "shop-keys", "key": "key"}})
    house.until_app(namespace, "own", "Ready", "False", "SecretNotFound")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "shop-keys",
            "namespace": namespace,
            "labels": {"innkeeper.dev/key": "signing"},
        },
        "stringData": {"key": own.keys[0]},
    }
    house.cluster.apply(secret, "admin")
    house.until_ready(namespace, "own")

    before = own.asked
    module_emulator.expire_watches()
    own.keys = ["signkey-test-" + "dd" * 32]
    operator.skip(SPACING_MS)
    house.cluster.apply(secret | {"stringData": {"key": own.keys[0]}}, "admin")
    house.until(
        "InngestApp",
        namespace,
        "own",
        lambda obj: own.asked > before and condition(obj, "Ready").get("status") == "True",
    )

    house.declare(namespace, "other", signingKey={"secretRef": {"name": "forbidden", "key": "key"}})
    house.until_app(namespace, "other", "Ready", "False", "SecretNotFound")
    house.until_ready(namespace, "own")
    secrets = [
        asked
        for asked in module_emulator.requests
        if asked.resource == "secrets" and asked.user == "operator"
    ]
    assert {asked.verb for asked in secrets} <= {"list", "watch"}
    assert {asked.name for asked in secrets} == {"innkeeper-keys", "shop-keys", "forbidden"}


def test_rights_that_are_missing_are_said(
    house: House, start: StartOperator, module_emulator: KubeEmulator
) -> None:
    namespace = house.namespace()
    as_user(house, module_emulator, [each for each in rules(namespace) if "pods" not in each.resources])
    operator = start(namespaces=(namespace,))

    async def problem() -> str:
        while "role" not in operator.operator.watching.problem:
            await asyncio.sleep(0.01)
        return operator.operator.watching.problem

    assert "does not allow what it must read" in operator._thread.run(problem)
