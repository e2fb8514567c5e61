"""Requests to the API server: actions that may be repeated, and errors that say what went wrong."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.client import Configuration

from innkeeper_engine.model.clock import SystemClock
from innkeeper_operator.actions import Apply, Create, Delete, SetFinalizer, SetStatus, Tell
from innkeeper_operator.cluster import Cluster, merge_patch
from innkeeper_operator.errors import ApiError, OperatorStoppedError
from tests.kube.cluster import Cluster as Emulated
from tests.operator.conftest import CRDS
from tests.operator.house import API, crds, read_configuration

Json = dict[str, Any]


@pytest.fixture(scope="module")
def served(module_cluster: Emulated) -> Emulated:
    """A cluster that knows the operator's kinds."""
    module_cluster.install_crds(crds(CRDS))
    return module_cluster


@pytest.fixture
async def api(served: Emulated) -> AsyncIterator[Cluster]:
    """The operator's own client."""
    with tempfile.TemporaryDirectory() as folder:
        client = Cluster(read_configuration(served, Path(folder) / "kubeconfig"), SystemClock())
        yield client
        await client.close()


@pytest.fixture
def namespace(served: Emulated) -> str:
    """A namespace of the test's own."""
    return served.create_namespace()


def function(namespace: str, name: str = "pay", **meta: Any) -> Json:
    """A bare Function."""
    return {
        "apiVersion": API,
        "kind": "Function",
        "metadata": {"name": name, "namespace": namespace, **meta},
        "spec": {"appRef": {"name": "shop"}, "id": name},
    }


def app(namespace: str) -> Json:
    """An InngestApp."""
    return {
        "apiVersion": API,
        "kind": "InngestApp",
        "metadata": {"name": "shop", "namespace": namespace},
        "spec": {"endpoint": {"url": "http://192.0.2.1/api/inngest"}},
    }


async def test_applying_twice_is_applying_once(api: Cluster, namespace: str) -> None:
    first = await api.do(Apply(manifest=function(namespace)))
    second = await api.do(Apply(manifest=function(namespace)))
    assert first is not None
    assert first == second
    assert [entry["manager"] for entry in first["metadata"]["managedFields"]] == ["innkeeper-operator"]


async def test_applying_to_an_object_that_is_another_by_now_is_refused(api: Cluster, namespace: str) -> None:
    with pytest.raises(ApiError) as caught:
        await api.do(Apply(manifest=function(namespace, uid="0")))
    assert caught.value.status == 409
    assert await api.get("functions", namespace, "pay") is None


async def test_what_is_created_once_stays_as_it_is(api: Cluster, namespace: str) -> None:
    def secret(value: str) -> Create:
        meta = {"name": "keys", "namespace": namespace}
        return Create(manifest={"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"k": value}})

    assert await api.do(secret("YQ==")) is not None
    assert await api.do(secret("Yg==")) is None
    found = await api.get("secrets", namespace, "keys")
    assert found is not None
    assert found["data"] == {"k": "YQ=="}
    assert "YQ==" not in repr(secret("YQ=="))


async def test_only_the_very_object_is_deleted(api: Cluster, namespace: str) -> None:
    made = await api.do(Apply(manifest=function(namespace)))
    assert made is not None
    meant = Delete(kind="Function", namespace=namespace, name="pay", uid="another")
    await api.do(meant)
    assert await api.get("functions", namespace, "pay") is not None
    await api.do(Delete(kind="Function", namespace=namespace, name="pay", uid=made["metadata"]["uid"]))
    assert await api.get("functions", namespace, "pay") is None
    await api.do(meant)


async def test_a_status_becomes_the_whole_of_it_and_nothing_else_changes(
    api: Cluster, namespace: str
) -> None:
    made = await api.do(Apply(manifest=function(namespace)))
    assert made is not None

    def status(**fields: Any) -> SetStatus:
        return SetStatus(
            kind="Function", namespace=namespace, name="pay", uid=made["metadata"]["uid"], status=fields
        )

    first = await api.do(status(slug="shop-pay", source="SDK"))
    assert first is not None
    second = await api.do(status(slug="shop-pay2"), status_now=first["status"])
    assert second is not None
    assert second["status"] == {"slug": "shop-pay2"}
    assert second["spec"] == made["spec"]
    assert second["metadata"]["generation"] == 1
    other = SetStatus(kind="Function", namespace=namespace, name="pay", uid="another", status={"slug": "x"})
    assert await api.do(other) is None
    assert (
        await api.do(SetStatus(kind="Function", namespace=namespace, name="gone", uid="1", status={})) is None
    )


async def test_a_finalizer_is_put_on_and_taken_off_and_others_stay(
    api: Cluster, namespace: str, module_cluster: Emulated
) -> None:
    made = app(namespace)
    made["metadata"]["finalizers"] = ["example.com/other"]
    uid = module_cluster.apply(made)["metadata"]["uid"]

    def action(*, present: bool) -> SetFinalizer:
        return SetFinalizer(namespace=namespace, name="shop", uid=uid, present=present)

    for _ in range(2):
        raw = await api.do(action(present=True))
        assert raw is not None
        assert raw["metadata"]["finalizers"] == ["example.com/other", "innkeeper.dev/runs"]
    for _ in range(2):
        raw = await api.do(action(present=False))
        assert raw is not None
        assert raw["metadata"]["finalizers"] == ["example.com/other"]
    gone = SetFinalizer(namespace=namespace, name="shop", uid="another", present=True)
    assert await api.do(gone) is None


async def test_the_same_news_is_told_once_in_a_while(
    api: Cluster, namespace: str, module_cluster: Emulated
) -> None:
    news = Tell(
        kind="Function",
        namespace=namespace,
        name="pay",
        uid="1",
        type="Warning",
        reason="Bad",
        message="no" * 2000,
    )
    for _ in range(3):
        await api.do(news)
    (event,) = module_cluster.list("events.events.k8s.io", namespace)
    assert (event["type"], event["reason"]) == ("Warning", "Bad")
    assert len(event["note"]) == 1024
    assert event["regarding"]["name"] == "pay"


async def test_news_of_a_namespace_are_kept_where_the_api_server_wants_them(
    api: Cluster, module_cluster: Emulated
) -> None:
    name = module_cluster.create_namespace()
    await api.do(
        Tell(kind="Namespace", namespace="", name=name, uid="1", type="Warning", reason="Odd", message="odd")
    )
    events = module_cluster.list("events.events.k8s.io", "default")
    assert name in [event["regarding"]["name"] for event in events]


async def test_news_that_cannot_be_written_are_no_error(api: Cluster) -> None:
    await api.do(
        Tell(kind="Function", namespace="nowhere", name="x", uid="1", type="Normal", reason="R", message="m")
    )


async def test_long_lists_come_in_pages_and_metadata_without_the_rest(
    api: Cluster, namespace: str, module_cluster: Emulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper_operator.cluster._PAGE", 2)
    for n in range(5):
        module_cluster.apply(function(namespace, f"f{n}"))
    found = await api.list_all("functions", namespace)
    assert [raw["metadata"]["name"] for raw in found] == [f"f{n}" for n in range(5)]
    light = await api.list_all("functions", namespace, metadata_only=True)
    assert ["spec" in raw for raw in light] == [False] * 5


async def test_errors_name_the_request_and_what_the_server_said(api: Cluster, namespace: str) -> None:
    with pytest.raises(ApiError) as caught:
        await api.request("GET", f"/apis/{API}/namespaces/{namespace}/functions/nope")
    assert caught.value.status == 404
    assert caught.value.reason == "NotFound"
    assert "functions/nope" in str(caught.value)


async def test_a_server_that_is_not_there_is_an_error_without_a_status() -> None:
    client = Cluster(Configuration(host="http://127.0.0.1:1"), SystemClock())
    with pytest.raises(ApiError) as caught:
        await client.list_all("functions")
    assert caught.value.status == 0
    assert "did not answer GET" in str(caught.value)
    await client.close()


def test_without_any_configuration_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from innkeeper_operator.cluster import find_configuration

    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(OperatorStoppedError, match="set KUBECONFIG"):
        find_configuration(str(tmp_path / "none"))


_JSON = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(st.sampled_from("abcd"), _JSON, max_size=4)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, as it is written there."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


@given(_OBJECTS, _OBJECTS)
def test_a_merge_patch_makes_the_one_of_the_other(now: Json, wanted: Json) -> None:
    assert merged(now, merge_patch(now, wanted)) == wanted


@given(_OBJECTS)
def test_nothing_is_sent_where_nothing_differs(value: Json) -> None:
    assert merge_patch(value, value) == {}
