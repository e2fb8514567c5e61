"""The official client of Python against the emulator."""

import threading
from collections.abc import Iterator
from typing import Any

import kubernetes
import pytest
from kubernetes.client.exceptions import ApiException

from tests.kube.emulator import KubeEmulator
from tests.kube.samples import cake, crd

k8s: Any = kubernetes
"""Typed in parts only."""

_CAKES = {"group": "test.dev", "version": "v1", "plural": "cakes", "namespace": "default"}


@pytest.fixture
def client(emulator: KubeEmulator, tmp_path: Any) -> Iterator[Any]:
    """Its ApiClient, configured by a kubeconfig; Cakes are installed."""
    emulator.install_crds([crd()])
    path = emulator.kubeconfig(tmp_path / "kubeconfig")
    made = k8s.config.new_client_from_config(str(path))
    yield made
    made.close()


def test_typed_objects(emulator: KubeEmulator, client: Any) -> None:
    """Created, read, listed, patched, deleted."""
    core = k8s.client.CoreV1Api(client)
    secret = k8s.client.V1Secret(
        metadata=k8s.client.V1ObjectMeta(name="s", labels={"a": "b"}), string_data={"k": "v"}
    )
    made = core.create_namespaced_secret("default", secret, field_manager="mine")
    assert made.data == {"k": "dg=="}
    assert made.metadata.managed_fields[0].manager == "mine"
    assert emulator.secret("default", "s") == {"k": "v"}
    listed = core.list_secret_for_all_namespaces(label_selector="a=b", limit=1)
    assert [item.metadata.name for item in listed.items] == ["s"]
    after = core.patch_namespaced_secret("s", "default", {"stringData": {"k": "w"}})
    assert after.data == {"k": "dw=="}
    assert core.delete_namespaced_secret("s", "default")["status"] == "Success"
    with pytest.raises(ApiException) as answer:
        core.read_namespaced_secret("s", "default")
    assert answer.value.status == 404


def test_custom_objects(client: Any) -> None:
    """With status, and a conflict."""
    api = k8s.client.CustomObjectsApi(client)
    made = api.create_namespaced_custom_object(body=cake(), **_CAKES)
    after = api.patch_namespaced_custom_object(name="a", body={"spec": {"layers": 2}}, **_CAKES)
    assert after["metadata"]["generation"] == 2
    status = api.patch_namespaced_custom_object_status(name="a", body={"status": {"phase": "x"}}, **_CAKES)
    assert status["status"] == {"phase": "x"}
    with pytest.raises(ApiException) as answer:
        api.replace_namespaced_custom_object(name="a", body=made, **_CAKES)
    assert answer.value.reason == "Conflict"
    assert len(api.list_namespaced_custom_object(**_CAKES)["items"]) == 1
    assert api.delete_namespaced_custom_object(name="a", **_CAKES)["status"] == "Success"


def test_server_side_apply(client: Any) -> None:
    """Through the dynamic client, which discovers kinds by itself."""
    dynamic = k8s.dynamic.DynamicClient(client)
    cakes = dynamic.resources.get(api_version="test.dev/v1", kind="Cake")
    made = cakes.server_side_apply(body=cake(), field_manager="one")
    assert made.metadata.managedFields[0].operation == "Apply"
    with pytest.raises(ApiException) as answer:
        cakes.server_side_apply(body=cake(flavour="nut"), field_manager="two")
    assert answer.value.status == 409
    forced = cakes.server_side_apply(body=cake(flavour="nut"), field_manager="two", force_conflicts=True)
    assert forced.spec.flavour == "nut"


def test_watching(emulator: KubeEmulator, client: Any) -> None:
    """From a list on, until what was awaited has come."""
    api = k8s.client.CustomObjectsApi(client)
    listed = api.list_namespaced_custom_object(**_CAKES)
    watch = k8s.watch.Watch()
    writer = threading.Thread(target=lambda: [emulator.put(cake(name)) for name in "abc"])
    writer.start()
    names = []
    for event in watch.stream(
        api.list_namespaced_custom_object,
        resource_version=listed["metadata"]["resourceVersion"],
        timeout_seconds=20,
        **_CAKES,
    ):
        names.append((event["type"], event["object"]["metadata"]["name"]))
        if len(names) == 3:
            watch.stop()
    writer.join()
    assert names == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]


def test_an_expired_watch_is_an_error(emulator: KubeEmulator, client: Any) -> None:
    """410, from which clients list again."""
    emulator.compact()
    api = k8s.client.CustomObjectsApi(client)
    with pytest.raises(ApiException) as answer:
        list(
            k8s.watch.Watch().stream(
                api.list_namespaced_custom_object, resource_version="1", timeout_seconds=20, **_CAKES
            )
        )
    assert answer.value.status == 410
