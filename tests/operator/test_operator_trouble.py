"""Restarts, expired watches, lost Redis, lost leases: the operator goes on where it was, and calls nobody for it.

What an API server does is done to the emulator here, so these tests need it.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest

from innkeeper_operator.election import LeaseLostError
from tests.conftest import ValkeyProcess
from tests.kube.cluster import Cluster
from tests.kube.emulator import KubeEmulator
from tests.operator.conftest import CRDS
from tests.operator.house import House, ScriptedApp, StartOperator, crds, says


@pytest.fixture(autouse=True)
def _emulated(module_cluster: Cluster) -> None:
    if module_cluster.real:
        pytest.skip("does to the API server what one does not do to a real one")


def synced(house: House, *functions: str, name: str = "shop") -> tuple[str, ScriptedApp]:
    """A namespace with a declared app behind a Service."""
    namespace = house.namespace()
    app = house.app(namespace, *functions, app_id=name)
    house.deploy(namespace, app, name=name)
    house.declare(namespace, name)
    return namespace, app


def ready(port: int) -> tuple[int, dict[str, str]]:
    """What `/ready` says."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=10) as reply:
            return reply.status, json.load(reply)["checks"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["checks"]


def test_it_waits_for_missing_definitions_and_says_what_to_do(
    house: House, start: StartOperator, module_emulator: KubeEmulator
) -> None:
    for crd in crds(CRDS):
        module_emulator.delete("customresourcedefinitions", "", crd["metadata"]["name"])
    operator = start()
    while "kubectl apply -f crds/" not in ready(operator.port)[1].get("cluster", ""):
        time.sleep(0.02)
    assert ready(operator.port)[0] == 503
    house.cluster.install_crds(crds(CRDS))
    operator.settled()
    namespace, _ = synced(house, "charge")
    house.until_ready(namespace)
    assert ready(operator.port) == (200, {"redis": "ok", "lease": "ok", "cluster": "ok"})


def test_it_survives_a_restart_of_the_api_server_and_sees_what_went_meanwhile(
    house: House, start: StartOperator, module_emulator: KubeEmulator
) -> None:
    start()
    namespace, app = synced(house, "charge", "refund")
    house.until_ready(namespace)
    house.declare_function(namespace, "mine", "charge", paused=True)
    house.until_function(namespace, "mine", "Ready", "True", "Paused")
    module_emulator.stop()
    module_emulator.delete("functions", namespace, "mine")
    time.sleep(1)  # long enough for requests to fail
    module_emulator.start()
    house.until_function(namespace, "shop-charge", "Ready", "True", "Registered")
    config = house.registered(namespace, "shop-charge")
    assert config is not None
    assert not config.paused
    assert app.asked == 1


def test_it_survives_watches_that_expire(
    house: House, start: StartOperator, module_emulator: KubeEmulator
) -> None:
    operator = start()
    namespace, app = synced(house, "charge")
    house.until_ready(namespace)
    house.declare_function(namespace, "mine", "charge", paused=True)
    house.until_function(namespace, "mine", "Ready", "True", "Paused")
    operator.idle()
    module_emulator.expire_watches()
    module_emulator.delete("functions", namespace, "mine")
    house.until_function(namespace, "shop-charge", "Ready", "True", "Registered")
    assert operator.metric("watch_restarts_total", kind="functions") >= 1
    assert app.asked == 1


def test_what_an_overloaded_api_server_refuses_is_tried_again(
    house: House, start: StartOperator, module_emulator: KubeEmulator
) -> None:
    operator = start()
    operator.settled()
    namespace = house.namespace()
    app = house.app(namespace, "charge")
    house.deploy(namespace, app)
    operator.idle()
    module_emulator.refuse(
        503, 3, matches=lambda asked: asked.verb == "patch" and asked.subresource == "status"
    )
    house.declare(namespace)
    house.until_ready(namespace)
    house.until_function(namespace, "shop-charge", "Ready", "True")
    assert app.asked == 1
    assert operator.metric("reconciles_total", kind="app", result="error") >= 1


def test_a_second_operator_waits_and_takes_over_at_once_when_the_first_ends(
    house: House, start: StartOperator
) -> None:
    first = start(identity="first")
    first.settled()
    second = start(identity="second")
    while second.operator.election.holder != "first":
        time.sleep(0.01)
    assert ready(second.port) == (200, {"redis": "ok", "lease": "ok"})
    assert not second.operator.settled.is_set()
    namespace, _ = synced(house, "charge")
    house.until_ready(namespace)
    first.stop()
    began_s = time.monotonic()
    second.settled()
    assert time.monotonic() - began_s < 14, "not when the lease has expired, but when it was given up"
    house.cluster.patch("InngestApp", namespace, "shop", {"spec": {"paused": True}})
    house.until("InngestApp", namespace, "shop", lambda obj: says(obj, "Ready", "True", reason="Paused"))
    assert second.metric("leading") == 1


def test_an_operator_that_loses_its_lease_ends_its_work(house: House, start: StartOperator) -> None:
    operator = start(identity="loser")
    operator.settled()
    lease = house.cluster.get("leases", house.lease_namespace, "innkeeper-operator")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "loser"
    spec = {"holderIdentity": "winner", "leaseDurationSeconds": 1}
    house.cluster.patch("leases", house.lease_namespace, "innkeeper-operator", {"spec": spec})
    error = operator.ended()
    assert isinstance(error, LeaseLostError)
    assert "winner holds it" in str(error)
    lease = house.cluster.get("leases", house.lease_namespace, "innkeeper-operator")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "winner", "what another holds is not given up"


def test_a_registry_that_lost_everything_is_written_again(
    house: House, start: StartOperator, private_valkey: Callable[..., ValkeyProcess]
) -> None:
    valkey = private_valkey()
    operator = start(address=valkey.address)
    operator.settled()
    namespace, app = synced(house, "charge")
    house.until_ready(namespace)
    before = house.cluster.get("InngestApp", namespace, "shop")
    assert before is not None
    valkey.stop()
    again = ValkeyProcess(valkey.path.parent)
    try:
        operator.skip(60_000)

        def synced_anew(obj: dict[str, dict[str, dict[str, str]]]) -> bool:
            return obj["status"]["sync"]["registry"] != before["status"]["sync"]["registry"]

        house.until("InngestApp", namespace, "shop", synced_anew)
        house.until_ready(namespace)
        assert app.asked == 2
        operator.stop()
    finally:
        again.stop()


def test_looking_again_writes_nothing(
    house: House, start: StartOperator, module_emulator: KubeEmulator
) -> None:
    operator = start()
    operator.settled()
    namespace, app = synced(house, "charge")
    house.declare_function(namespace, "mine", "charge", throttle={"limit": 1, "period": "1m"})
    house.until_ready(namespace)
    house.until_function(namespace, "mine", "Accepted", "True", "Accepted")
    operator.idle()
    module_emulator.reset()
    for _ in range(3):
        operator.look(("app", namespace, "shop"))
        operator.look(("environments", "", ""))
    assert [write for write in module_emulator.writes if write.resource != "leases"] == []
    assert app.asked == 1


@pytest.mark.slow
def test_a_restart_with_a_thousand_functions_writes_nothing_and_calls_nobody(
    house: House, start: StartOperator, module_emulator: KubeEmulator
) -> None:
    namespace = house.namespace()
    apps = []
    for n in range(10):
        name = f"app{n}"
        app = house.app(namespace, *(f"f{i}" for i in range(100)), app_id=name)
        house.deploy(namespace, app, name=name)
        apps.append(app)
    operator = start()
    operator.settled()
    began_s = time.monotonic()
    for n in range(10):
        house.declare(namespace, f"app{n}")
    for n in range(10):
        house.until_ready(namespace, f"app{n}")
    operator.idle()
    print(f"1,000 functions registered in {time.monotonic() - began_s:.1f} s")
    functions = house.cluster.list("Function", namespace)
    assert len(functions) == 1000
    assert all(says(each, "Ready", "True") for each in functions)
    operator.stop()

    asked = [app.asked for app in apps]
    calls = [len(app.calls) for app in apps]
    assert asked == [1] * 10
    module_emulator.reset()
    began_s = time.monotonic()
    operator = start()
    operator.settled()
    operator.idle()
    took_s = time.monotonic() - began_s
    print(f"restarted with 1,000 functions in {took_s:.1f} s")
    assert took_s < 60
    assert operator.metric("reconciles_total", kind="app", result="ok") >= 10
    assert [write for write in module_emulator.writes if write.resource != "leases"] == []
    assert [len(app.calls) for app in apps] == calls
