"""Kinds that every cluster has: what is filled in and what is refused."""

from typing import Any

import pytest

from tests.kube.cluster import Cluster
from tests.kube.errors import Obj
from tests.kube.fixtures import refused


def plain(kind: str, namespace: str, api_version: str = "v1", **fields: Any) -> Obj:
    """An object of a built-in kind, called `x`."""
    metadata = {"name": "x", "namespace": namespace}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata} | fields


def endpoints(namespace: str, *addresses: str, kind: str = "IPv4") -> Obj:
    """An EndpointSlice."""
    return plain(
        "EndpointSlice",
        namespace,
        "discovery.k8s.io/v1",
        addressType=kind,
        endpoints=[{"addresses": [address]} for address in addresses],
        ports=[{"port": 80}],
    )


def event(namespace: str, **fields: Any) -> Obj:
    """An Event of events.k8s.io."""
    return plain(
        "Event",
        namespace,
        "events.k8s.io/v1",
        **{
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "type": "Normal",
            "reason": "Synced",
            "action": "Sync",
            "note": "all is well",
            "regarding": {"kind": "ConfigMap", "namespace": namespace, "name": "m"},
            "reportingController": "test.dev/x",
            "reportingInstance": "x-1",
        }
        | fields,
    )


def test_namespaces_begin_active(cluster: Cluster, namespace: str) -> None:
    """And carry their name as a label."""
    found = cluster.get("namespaces", "", namespace)
    assert found is not None
    assert found["status"]["phase"] == "Active"
    assert found["metadata"]["labels"]["kubernetes.io/metadata.name"] == namespace
    assert "generation" not in found["metadata"]


def test_secrets_take_plain_text(cluster: Cluster, namespace: str) -> None:
    """`stringData` becomes `data`, and goes over it; the type is Opaque and stays what it is."""
    made = cluster.create(plain("Secret", namespace, stringData={"a": "b"}, data={"a": "eA==", "c": "eQ=="}))
    assert made["data"] == {"a": "Yg==", "c": "eQ=="}
    assert made["type"] == "Opaque"
    assert "stringData" not in made
    assert [
        s["metadata"]["name"] for s in cluster.list("secrets", namespace, field_selector="type=Opaque")
    ] == ["x"]
    with refused(422, "Invalid"):
        cluster.patch("secrets", namespace, "x", {"type": "test.dev/other"})
    with refused(400, "BadRequest"):
        cluster.patch("secrets", namespace, "x", {"data": {"a": "not base64!"}})


def test_immutable_secrets(cluster: Cluster, namespace: str) -> None:
    """Their data do not change, and they stay immutable."""
    cluster.create(plain("Secret", namespace, stringData={"a": "b"}, immutable=True))
    for patch in ({"data": {"a": "eA=="}}, {"immutable": False}):
        with refused(422, "Invalid"):
            cluster.patch("secrets", namespace, "x", patch)
    cluster.patch("secrets", namespace, "x", {"metadata": {"labels": {"a": "b"}}})


def test_services_get_defaults(cluster: Cluster, namespace: str) -> None:
    """Protocol and target of each port; several ports need names."""
    made = cluster.create(plain("Service", namespace, spec={"ports": [{"port": 80}]}))
    assert made["spec"]["type"] == "ClusterIP"
    [port] = made["spec"]["ports"]
    assert port == {"port": 80, "protocol": "TCP", "targetPort": 80}
    for ports in ([{"port": 0}], [{"port": 80}, {"port": 81}], []):
        with refused(422, "Invalid"):
            cluster.create(plain("Service", namespace, spec={"ports": ports}))


@pytest.mark.parametrize(
    ("kind", "address", "word"),
    [
        ("IPv4", "127.0.0.1", "loopback"),
        ("IPv4", "169.254.1.1", "link-local"),
        ("IPv4", "::1", "valid"),
        ("IPv4", "0.0.0.0", "unspecified"),
        ("IPv6", "::1", "loopback"),
        ("FQDN", "host", "domain"),
    ],
)
def test_endpoints_on_addresses_that_no_pod_has(
    cluster: Cluster, namespace: str, kind: str, address: str, word: str
) -> None:
    """Loopback above all: tests that want their own processes must map addresses."""
    with refused(422, "Invalid") as answer:
        cluster.create(endpoints(namespace, "192.0.2.1" if kind == "IPv4" else address, address, kind=kind))
    assert word in answer.value.message


def test_endpoint_slices(cluster: Cluster, namespace: str) -> None:
    """They have a generation; their type is needed and stays."""
    made = cluster.create(endpoints(namespace, "192.0.2.1"))
    assert made["metadata"]["generation"] == 1
    assert made["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]
    after = cluster.patch("endpointslices", namespace, "x", {"endpoints": [{"addresses": ["192.0.2.2"]}]})
    assert after["metadata"]["generation"] == 2
    with refused(422, "Invalid"):
        cluster.patch("endpointslices", namespace, "x", {"addressType": "IPv6"})
    for bad in ({"addressType": None}, {"addressType": "IPX"}):
        with refused(422, "Invalid"):
            cluster.create(endpoints(namespace, "192.0.2.1") | bad)
    with refused(422, "Invalid"):
        cluster.create(endpoints(namespace) | {"endpoints": [{"addresses": []}]})


def test_pods_get_their_status_through_its_subresource(cluster: Cluster, namespace: str) -> None:
    """Which is how tests make them ready."""
    spec = {"containers": [{"name": "c", "image": "i"}]}
    made = cluster.create(plain("Pod", namespace, spec=spec, status={"phase": "Running"}))
    assert made["status"]["phase"] == "Pending"
    status = {"phase": "Running", "podIP": "192.0.2.1"}
    cluster.patch("pods", namespace, "x", {"status": status}, "status")
    found = cluster.list("pods", namespace, field_selector="status.phase=Running")
    assert [pod["status"]["podIP"] for pod in found] == ["192.0.2.1"]


def test_events_are_the_same_in_both_groups(cluster: Cluster, namespace: str) -> None:
    """Under each one's names of fields."""
    made = cluster.create(event(namespace))
    assert (made["note"], made["regarding"]["name"]) == ("all is well", "m")
    path = f"/api/v1/namespaces/{namespace}/events"
    old = cluster.request("GET", f"{path}/x").json()
    assert old["apiVersion"] == "v1"
    assert (old["message"], old["involvedObject"]["name"]) == ("all is well", "m")
    assert old["reportingComponent"] == "test.dev/x"
    assert "note" not in old
    selected = cluster.request("GET", path, params={"fieldSelector": "involvedObject.name=m,reason=Synced"})
    assert len(selected.json()["items"]) == 1
    new = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    [item] = cluster.request("GET", new, params={"fieldSelector": "regarding.name=m"}).json()["items"]
    assert item["note"] == "all is well"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"eventTime": None}, "eventTime"),
        ({"reportingController": ""}, "reportingController"),
        ({"reportingInstance": "x" * 129}, "reportingInstance"),
        ({"action": ""}, "action"),
        ({"reason": ""}, "reason"),
        ({"type": "Error"}, "type"),
        ({"note": "x" * 1025}, "message"),
        ({"regarding": {"kind": "Pod", "namespace": "other", "name": "p"}}, "involvedObject.namespace"),
    ],
)
def test_events_are_validated(cluster: Cluster, namespace: str, fields: Obj, named: str) -> None:
    """More strictly in the newer group."""
    with refused(422, "Invalid") as answer:
        cluster.create(event(namespace, **fields))
    assert named in [cause["field"] for cause in answer.value.details["causes"]]


def test_leases(cluster: Cluster, namespace: str) -> None:
    """A replacement must know the version, which is how one holder wins."""
    lease = plain(
        "Lease",
        namespace,
        "coordination.k8s.io/v1",
        spec={"holderIdentity": "one", "leaseDurationSeconds": 15},
    )
    made = cluster.create(lease)
    taken = cluster.replace(made | {"spec": {"holderIdentity": "two", "leaseDurationSeconds": 15}})
    assert taken["spec"]["holderIdentity"] == "two"
    with refused(409, "Conflict"):
        cluster.replace(made)
    with refused(422, "Invalid"):
        cluster.replace(lease)
    with refused(422, "Invalid"):
        cluster.patch("leases", namespace, "x", {"spec": {"leaseDurationSeconds": 0}})
