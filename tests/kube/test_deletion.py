"""Deletion: finalizers, preconditions, owners, namespaces, CRDs."""

import pytest

from tests.kube.cluster import Cluster
from tests.kube.emulator import KubeEmulator
from tests.kube.errors import Obj
from tests.kube.fixtures import emulated, refused
from tests.kube.samples import cake, config_map, crd


@pytest.fixture
def controlled(cluster: Cluster) -> Cluster:
    """A cluster in which somebody collects garbage and empties namespaces."""
    if not cluster.controllers:
        pytest.skip("needs kube-controller-manager among KUBEBUILDER_ASSETS")
    return cluster


def owned_by(owner: Obj, **more: object) -> Obj:
    """The `ownerReferences` of a dependent."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    return {"ownerReferences": [reference | more]}


def is_gone(obj: Obj | None) -> bool:
    """For `wait_for`."""
    return obj is None


def test_a_deleted_object_is_gone(cluster: Cluster, namespace: str) -> None:
    """The answer names it; deleting it again is 404."""
    made = cluster.create(cake(namespace=namespace))
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes/a"
    status = cluster.request("DELETE", path).json()
    assert (status["kind"], status["status"]) == ("Status", "Success")
    assert status["details"] == {
        "name": "a",
        "group": "test.dev",
        "kind": "cakes",
        "uid": made["metadata"]["uid"],
    }
    assert cluster.request("DELETE", path).status_code == 404
    assert cluster.delete("cakes", namespace, "a") is False


def test_finalizers_hold_an_object(cluster: Cluster, namespace: str) -> None:
    """It is marked, can still be written, and goes with the last of them."""
    cluster.create(cake(namespace=namespace, metadata={"finalizers": ["test.dev/a", "test.dev/b"]}))
    assert cluster.delete("cakes", namespace, "a") is True
    marked = cluster.get("cakes", namespace, "a")
    assert marked is not None
    assert marked["metadata"]["deletionTimestamp"].endswith("Z")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    assert cluster.delete("cakes", namespace, "a") is True
    assert cluster.get("cakes", namespace, "a") == marked
    cluster.patch("cakes", namespace, "a", {"status": {"phase": "Draining"}}, "status")
    cluster.patch("cakes", namespace, "a", {"metadata": {"finalizers": ["test.dev/b"]}})
    cluster.patch("cakes", namespace, "a", [{"op": "remove", "path": "/metadata/finalizers"}])
    assert cluster.get("cakes", namespace, "a") is None


def test_an_object_on_its_way_out_gets_no_new_finalizers(cluster: Cluster, namespace: str) -> None:
    """422, and its deletionTimestamp cannot be taken back."""
    cluster.create(cake(namespace=namespace, metadata={"finalizers": ["test.dev/a"]}))
    cluster.delete("cakes", namespace, "a")
    with refused(422, "Invalid") as answer:
        cluster.patch("cakes", namespace, "a", {"metadata": {"finalizers": ["test.dev/a", "test.dev/b"]}})
    assert answer.value.details["causes"][0]["field"] == "metadata.finalizers"
    after = cluster.patch("cakes", namespace, "a", {"metadata": {"deletionTimestamp": None}})
    assert after["metadata"]["deletionTimestamp"]


def test_a_deletion_may_be_bound_to_one_object(cluster: Cluster, namespace: str) -> None:
    """By uid and resourceVersion: 409 otherwise."""
    made = cluster.create(cake(namespace=namespace))["metadata"]
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes/a"
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        answer = cluster.request("DELETE", path, {"preconditions": wrong})
        assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
    right = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
    assert cluster.request("DELETE", path, {"preconditions": right}).status_code == 200


def test_many_can_be_deleted_at_once(cluster: Cluster, namespace: str) -> None:
    """Those that a selector selects."""
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        cluster.create(cake(name, namespace, {"labels": {"l": label}}))
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes"
    assert cluster.request("DELETE", path, params={"labelSelector": "l=x"}).status_code == 200
    assert [item["metadata"]["name"] for item in cluster.list("cakes", namespace)] == ["c"]


def test_what_is_owned_goes_with_its_owner(controlled: Cluster, namespace: str) -> None:
    """And what that owns; what has another owner stays, without the reference."""
    owner = controlled.create(cake("owner", namespace))
    other = controlled.create(cake("other", namespace))
    child = controlled.create(config_map("child", namespace, **owned_by(owner)))
    child |= {"apiVersion": "v1", "kind": "ConfigMap"}
    controlled.create(config_map("grandchild", namespace, **owned_by(child)))
    both = owned_by(owner)["ownerReferences"] + owned_by(other)["ownerReferences"]
    controlled.create(config_map("shared", namespace, ownerReferences=both))
    controlled.create(config_map("free", namespace))
    controlled.delete("cakes", namespace, "owner")
    controlled.wait_for("configmaps", namespace, "grandchild", is_gone)
    controlled.wait_for("configmaps", namespace, "child", is_gone)
    left = controlled.wait_for(
        "configmaps", namespace, "shared", lambda o: o and len(o["metadata"]["ownerReferences"]) == 1
    )
    assert left is not None
    assert left["metadata"]["ownerReferences"][0]["uid"] == other["metadata"]["uid"]
    assert controlled.get("configmaps", namespace, "free") is not None


def test_what_names_an_owner_that_is_not_there_is_garbage(controlled: Cluster, namespace: str) -> None:
    """Such as a dependent made after its owner went, or the owner of another namespace."""
    absent: Obj = cake("absent", namespace)
    absent["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555"
    controlled.create(config_map("late", namespace, **owned_by(absent)))
    controlled.wait_for("configmaps", namespace, "late", is_gone)
    elsewhere = controlled.create(cake("there", controlled.create_namespace()))
    controlled.create(config_map("astray", namespace, **owned_by(elsewhere)))
    controlled.wait_for("configmaps", namespace, "astray", is_gone)


def test_orphans_are_let_go(controlled: Cluster, namespace: str) -> None:
    """`propagationPolicy: Orphan` takes the references away instead."""
    owner = controlled.create(cake("owner", namespace))
    controlled.create(config_map("child", namespace, **owned_by(owner)))
    controlled.delete("cakes", namespace, "owner", propagation="Orphan")
    controlled.wait_for("cakes", namespace, "owner", is_gone)
    child = controlled.get("configmaps", namespace, "child")
    assert child is not None
    assert "ownerReferences" not in child["metadata"]


def test_a_foreground_deletion_waits_for_dependents(controlled: Cluster, namespace: str) -> None:
    """The owner stays while a dependent that blocks it is held."""
    owner = controlled.create(cake("owner", namespace))
    held = owned_by(owner, blockOwnerDeletion=True) | {"finalizers": ["test.dev/held"]}
    controlled.create(config_map("child", namespace, **held))
    controlled.delete("cakes", namespace, "owner", propagation="Foreground")
    child = controlled.wait_for(
        "configmaps", namespace, "child", lambda o: o and "deletionTimestamp" in o["metadata"]
    )
    assert child is not None
    marked = controlled.get("cakes", namespace, "owner")
    assert marked is not None
    assert marked["metadata"]["finalizers"] == ["foregroundDeletion"]
    controlled.patch("configmaps", namespace, "child", {"metadata": {"finalizers": None}})
    controlled.wait_for("cakes", namespace, "owner", is_gone)


def test_a_namespace_takes_everything_with_it(controlled: Cluster, namespace: str) -> None:
    """It stays, terminating and closed to new objects, while a finalizer holds something in it; status can be written."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": namespace}}
    controlled.create(secret | {"stringData": {"a": "b"}})
    controlled.create(cake("held", namespace, {"finalizers": ["test.dev/held"]}))
    controlled.create(cake("free", namespace))
    controlled.delete("namespaces", "", namespace)
    terminating = controlled.wait_for(
        "namespaces",
        "",
        namespace,
        lambda o: (
            o
            and "NamespaceFinalizersRemaining"
            in [condition["type"] for condition in o["status"].get("conditions", [])]
        ),
    )
    assert terminating is not None
    assert terminating["status"]["phase"] == "Terminating"
    assert terminating["metadata"]["deletionTimestamp"]
    assert controlled.get("secrets", namespace, "s") is None
    with refused(403, "Forbidden") as answer:
        controlled.create(config_map("new", namespace))
    assert answer.value.message == (
        f'configmaps "new" is forbidden: unable to create new content in namespace {namespace} '
        "because it is being terminated"
    )
    assert answer.value.details["causes"][0]["reason"] == "NamespaceTerminating"
    with refused(403, "Forbidden"):
        controlled.apply(cake("applied", namespace), "m")
    controlled.patch("cakes", namespace, "held", {"status": {"phase": "Going"}}, "status")
    controlled.patch("cakes", namespace, "held", {"metadata": {"finalizers": None}})
    controlled.wait_for("namespaces", "", namespace, is_gone)


def test_a_kind_goes_with_its_definition(controlled: Cluster, namespace: str) -> None:
    """Its objects first; then its URLs are gone."""
    other = crd()
    other["metadata"]["name"] = "pies.test.dev"
    other["spec"]["names"] = {"kind": "Pie", "plural": "pies"}
    controlled.install_crds([other])
    pie = cake("p", namespace, {"finalizers": ["test.dev/held"]}) | {"kind": "Pie"}
    controlled.create(pie)
    controlled.delete("customresourcedefinitions", "", "pies.test.dev")
    controlled.wait_for("pies", namespace, "p", lambda o: o and "deletionTimestamp" in o["metadata"])
    controlled.patch("pies", namespace, "p", {"metadata": {"finalizers": None}})
    controlled.wait_for("customresourcedefinitions", "", "pies.test.dev", is_gone)
    assert controlled.request("GET", "/apis/test.dev/v1/pies").status_code == 404


def test_controllers_can_be_held(emulator: KubeEmulator) -> None:
    """For looking at what is there before they act."""
    emulator.install_crds([crd()])
    cluster = emulated(emulator)
    owner = emulator.put(cake("owner"))
    emulator.put(config_map("child", **owned_by(owner)))
    emulator.pause_controllers()
    cluster.delete("cakes", "default", "owner")
    assert emulator.get("configmaps", "default", "child") is not None
    emulator.resume_controllers()
    emulator.until(lambda: emulator.get("configmaps", "default", "child") is None)
    cluster.close()


def test_pods_on_nodes_go_when_their_node_says_so(emulator: KubeEmulator) -> None:
    """Which nobody does here: a deletion without grace removes them, as for those that are on none."""
    cluster = emulated(emulator)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "free"}, "spec": {"containers": []}}
    cluster.create(pod, namespace="default")
    cluster.create(
        pod | {"metadata": {"name": "placed"}, "spec": {"containers": [], "nodeName": "n"}},
        namespace="default",
    )
    cluster.delete("pods", "default", "free")
    cluster.delete("pods", "default", "placed")
    assert cluster.get("pods", "default", "free") is None
    placed = cluster.get("pods", "default", "placed")
    assert placed is not None
    assert placed["metadata"]["deletionGracePeriodSeconds"] == 30
    cluster.request("DELETE", "/api/v1/namespaces/default/pods/placed", {"gracePeriodSeconds": 0})
    assert cluster.get("pods", "default", "placed") is None
    cluster.close()
