"""`Cluster` and `KubeEmulator` as tests use them."""

import asyncio
import threading
from pathlib import Path

import pytest
import yaml

from tests.kube.cluster import Cluster
from tests.kube.connection import connection_from
from tests.kube.emulator import KubeEmulator
from tests.kube.errors import Obj
from tests.kube.fixtures import emulated
from tests.kube.samples import cake, config_map, crd


def is_eaten(obj: Obj | None) -> bool:
    """For `wait_for`."""
    return bool(obj and obj["spec"].get("eaten"))


def test_several_manifests_are_applied_in_order(cluster: Cluster, namespace: str) -> None:
    """In the namespace given, unless they name one."""
    here, there = config_map("here"), config_map("there", "default")
    del here["metadata"]["namespace"]
    applied = cluster.apply([here, there], namespace=namespace)
    assert [obj["metadata"]["namespace"] for obj in applied] == [namespace, "default"]
    assert cluster.delete("configmaps", "default", "there")


@pytest.mark.parametrize("kind", ["Cake", "cakes", "ck", "cakes.test.dev"])
def test_kinds_go_by_all_their_names(cluster: Cluster, namespace: str, kind: str) -> None:
    """As with kubectl."""
    cluster.apply(cake(namespace=namespace))
    found = cluster.get(kind, namespace, "a")
    assert found is not None
    assert found["kind"] == "Cake"


def test_a_kind_that_is_not_served(cluster: Cluster) -> None:
    """An error that says so."""
    with pytest.raises(LookupError, match="serves no biscuits"):
        cluster.list("biscuits")


def test_waiting_sees_what_comes(cluster: Cluster, namespace: str) -> None:
    """And what is already so, and that something is gone."""
    cluster.apply(cake(namespace=namespace))
    change = threading.Timer(0.05, lambda: cluster.patch("cakes", namespace, "a", {"spec": {"eaten": True}}))
    change.start()
    found = cluster.wait_for("cakes", namespace, "a", is_eaten)
    change.join()
    assert found is not None
    assert cluster.wait_for("cakes", namespace, "a", is_eaten) == found
    removal = threading.Timer(0.05, lambda: cluster.delete("cakes", namespace, "a"))
    removal.start()
    assert cluster.wait_for("cakes", namespace, "a", lambda obj: obj is None) is None
    removal.join()


def test_waiting_in_vain_tells_what_was_last_seen(cluster: Cluster, namespace: str) -> None:
    """Without the values of Secrets."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": namespace}}
    cluster.create(secret | {"stringData": {"key": "hidden"}})
    with pytest.raises(TimeoutError) as error:
        cluster.wait_for("secrets", namespace, "s", lambda _: False, timeout_s=0.1)
    assert "key: '...'" in str(error.value)
    assert "aGlkZGVu" not in str(error.value)
    with pytest.raises(TimeoutError, match="absent"):
        cluster.wait_for("cakes", namespace, "none", is_eaten, timeout_s=0.1)


def test_waiting_survives_restarts_and_expired_watches(emulator: KubeEmulator) -> None:
    """As it must where the test is about them."""
    emulator.install_crds([crd()])
    emulator.put(cake())
    cluster = emulated(emulator)

    def trouble() -> None:
        emulator.until(lambda: emulator.watching == 1)
        emulator.expire_watches()
        emulator.until(lambda: emulator.watching == 1)
        emulator.drop_watches()
        emulator.until(lambda: emulator.watching == 1)
        emulator.stop()
        emulator.put(cake(eaten=True))
        emulator.start()

    troubled = threading.Thread(target=trouble)
    troubled.start()
    assert cluster.wait_for("cakes", "default", "a", is_eaten)
    troubled.join()
    cluster.close()


async def test_async_tests_have_the_same(cluster: Cluster, namespace: str) -> None:
    """In threads, while their loop goes on."""
    waiting = asyncio.create_task(cluster.aio.wait_for("cakes", namespace, "a", is_eaten))
    await cluster.aio.apply(cake(namespace=namespace))
    await cluster.aio.patch("cakes", namespace, "a", {"spec": {"eaten": True}})
    assert await waiting == await cluster.aio.get("cakes", namespace, "a")
    await cluster.aio.apply_all([config_map("m", namespace)])
    assert await cluster.aio.delete("configmaps", namespace, "m")
    assert len(await cluster.aio.list("cakes", namespace)) == 1
    assert (await cluster.aio.create(cake("b", namespace)))["metadata"]["name"] == "b"
    assert (await cluster.aio.create_namespace("other")).startswith("other-")


def test_kubeconfigs_say_how_to_connect(emulator: KubeEmulator, tmp_path: Path) -> None:
    """With the token and namespace asked for."""
    cluster = emulated(emulator)
    path = cluster.kubeconfig(tmp_path / "config", token="t", namespace="n")
    config = yaml.safe_load(path.read_text())
    assert config["contexts"][0]["context"]["namespace"] == "n"
    assert connection_from(config).token == "t"
    own = yaml.safe_load(emulator.kubeconfig(tmp_path / "own").read_text())
    assert connection_from(own).token == emulator.token
    cluster.close()


def test_kubeconfigs_that_are_not_supported(emulator: KubeEmulator) -> None:
    """Are refused with what would be right."""
    config = emulator.config()
    config["users"][0]["user"] = {"exec": {"command": "cloud"}}
    with pytest.raises(ValueError, match="a user with 'exec' is not supported"):
        connection_from(config)
    with pytest.raises(ValueError, match="there is no 'other' in contexts"):
        connection_from(emulator.config() | {"current-context": "other"})


def test_stored_objects_are_looked_at_and_set_directly(emulator: KubeEmulator) -> None:
    """Without a request, and without a write that tests would count; status included."""
    emulator.install_crds([crd()])
    made = emulator.put(cake() | {"status": {"phase": "Baked"}})
    assert made["status"] == {"phase": "Baked"}
    again = emulator.put(cake(layers=2) | {"status": {"phase": "Eaten"}})
    assert again["metadata"]["uid"] == made["metadata"]["uid"]
    assert emulator.get("Cake", "default", "a") == again
    assert emulator.list("ck") == [again]
    emulator.delete("cakes", "default", "a")
    assert emulator.get("cakes", "default", "a") is None
    assert emulator.writes == []
    assert emulator.requests == []
    with pytest.raises(KeyError, match="no kind is called 'pies'"):
        emulator.get("pies", "", "x")
    with pytest.raises(KeyError):
        emulator.delete("cakes", "default", "a")


def test_failures_of_the_emulator_itself_are_not_passed_over() -> None:
    """They are answered with 500, and raised at its end."""
    emulator = KubeEmulator()
    emulator.start()
    emulator.install_crds([crd()])

    def broken(*_: object) -> list[str]:
        raise ZeroDivisionError("a bug")

    emulator.set_validator(broken)
    cluster = emulated(emulator)
    assert cluster.request("POST", "/apis/test.dev/v1/namespaces/default/cakes", cake()).status_code == 500
    cluster.close()
    with pytest.raises(ExceptionGroup) as raised:
        emulator.close()
    assert isinstance(raised.value.exceptions[0], ZeroDivisionError)


def test_waiting_for_the_emulator_has_an_end(emulator: KubeEmulator) -> None:
    """TimeoutError if nothing of the kind happens."""
    with pytest.raises(TimeoutError):
        emulator.until(lambda: False, timeout_s=0.05)
