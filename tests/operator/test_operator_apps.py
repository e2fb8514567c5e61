"""From `kubectl apply` of an InngestApp to functions that run."""

import time

from tests.operator.house import House, RunningOperator, condition


def test_an_app_is_ready_within_seconds_of_its_manifest(house: House, running: RunningOperator) -> None:
    namespace = house.namespace()
    app = house.app(namespace, "charge", "refund")
    house.deploy(namespace, app)
    began_s = time.monotonic()
    house.declare(namespace)
    ready = house.until_ready(namespace)
    took_s = time.monotonic() - began_s
    print(f"Ready after {took_s:.2f} s")
    assert took_s < 3
    status = ready["status"]
    assert status["appId"] == "shop"
    assert status["functions"] == 2
    assert status["sdk"] == {"language": "js", "version": "4.24.0", "framework": "express"}
    assert condition(ready, "Synced")["status"] == "True"
    assert app.asked == 1
    assert set(house.registry(namespace)) == {"shop"}
    function = house.until_function(namespace, "shop-charge", "Ready", "True")
    assert function["status"]["slug"] == "shop-charge"
    assert function["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "innkeeper"}
