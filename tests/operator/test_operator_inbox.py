"""Apps that register themselves: the gateway leaves what they sent in the store, and the operator finds their app."""

import json
import time
from typing import Any

from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.registrations import RegistrationInbox
from tests.operator.house import House, StartOperator, condition, function

Json = dict[str, Any]


def body(*functions: str, app_id: str = "shop", url: str = "http://192.0.2.250:3000/api/inngest") -> bytes:
    """What an SDK posts to `/fn/register`."""
    return json.dumps(
        {
            "appName": app_id,
            "url": url,
            "deployType": "ping",
            "sdk": "js:v4.24.0",
            "framework": "express",
            "v": "0.1",
            "functions": [function(each, app_id) for each in functions],
        }
    ).encode()


def leave(house: House, env: str, sent: bytes, app_id: str = "shop") -> None:
    """What the gateway does with it."""
    now_ms = int(time.time() * 1000)
    house.store_run(lambda store: RegistrationInbox(store).leave_registration(env, app_id, sent, now_ms))


def left(house: House) -> list[Any]:
    """What still waits."""
    found: list[Any] = house.store_run(lambda store: RegistrationInbox(store).registrations_left())
    return found


def until_empty(house: House) -> None:
    """Wait until nothing waits any more."""
    deadline_s = time.monotonic() + 60
    while left(house):
        assert time.monotonic() < deadline_s, left(house)
        time.sleep(0.02)


def until_known(house: House, env: str) -> None:
    """Wait until gateways know the environment: before that they leave nothing for it."""
    deadline_s = time.monotonic() + 60
    while env not in [
        e.name for e in house.store_run(lambda store: EnvironmentStore(store).read()).environments
    ]:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_an_app_that_cannot_be_asked_in_band_registers_itself(
    house: House, start_settled: StartOperator
) -> None:
    start_settled()
    namespace = house.namespace()
    app = house.app(namespace, "charge")
    app.in_band = False
    house.deploy(namespace, app)
    house.declare(namespace)
    house.until_app(namespace, "shop", "Synced", "Unknown", "RegistersItself")
    leave(house, namespace, body("charge", "refund"))
    ready = house.until_ready(namespace)
    assert ready["status"]["appId"] == "shop"
    assert ready["status"]["functions"] == 2
    until_empty(house)
    url = f"http://shop.{namespace}.svc.cluster.local:3000/api/inngest"
    assert house.registry(namespace)["shop"].url == url, "the URL that it sends is ignored"
    assert all(f.url.startswith(url) for f in house.registry(namespace)["shop"].functions)


def test_a_registration_of_an_app_that_has_an_inngestapp_counts(
    house: House, start_settled: StartOperator
) -> None:
    operator = start_settled()
    namespace = house.namespace()
    app = house.app(namespace, "charge")
    house.deploy(namespace, app)
    house.declare(namespace)
    house.until_ready(namespace)
    operator.idle()
    app.declare("charge", "fresh")
    leave(house, namespace, body("charge", "fresh"))
    house.until("InngestApp", namespace, "shop", lambda obj: obj["status"]["functions"] == 2)
    until_empty(house)


def test_a_registration_that_was_left_while_no_operator_ran_is_taken_at_its_start(
    house: House, start_settled: StartOperator
) -> None:
    namespace = house.namespace()
    house.serve(namespace, "shop", [("shop-a", "r1", "192.0.2.250")])
    house.declare(namespace, appId="shop")
    leave(house, namespace, body("charge"))
    start_settled()
    house.until("InngestApp", namespace, "shop", lambda obj: obj.get("status", {}).get("functions") == 1)
    until_empty(house)


def test_an_app_that_nobody_declared_is_not_registered_unless_that_is_allowed(
    house: House, start_settled: StartOperator
) -> None:
    start_settled(auto_register="Existing")
    namespace = house.namespace()
    leave(house, namespace, body("charge"))
    until_empty(house)
    assert house.registry(namespace) == {}
    assert house.cluster.list("InngestApp", namespace) == []


def test_always_makes_an_inngestapp_for_it(house: House, start_settled: StartOperator) -> None:
    start_settled(auto_register="Always")
    namespace = house.namespace()
    until_known(house, namespace)
    face = house.apps.face(house.app(namespace, "charge", app_id="My_Shop"))
    url = f"http://{face.address}:3000/api/inngest"
    leave(house, namespace, body("charge", app_id="My_Shop", url=url), "My_Shop")
    until_empty(house)
    made = house.cluster.list("InngestApp", namespace)
    assert made == [], "addresses for documentation are not allowed"
    leave(house, namespace, body("charge", app_id="My_Shop", url="http://127.0.0.1:9/api/inngest"), "My_Shop")
    found = house.until("InngestApp", namespace, "my-shop-" + _digest("My_Shop"), lambda obj: "status" in obj)
    assert found["metadata"]["labels"] == {"innkeeper.dev/registered-by": "sdk"}
    assert found["spec"]["endpoint"] == {"url": "http://127.0.0.1:9/api/inngest"}
    assert found["spec"]["appId"] == "My_Shop"
    until_empty(house)
    house.until(
        "InngestApp", namespace, found["metadata"]["name"], lambda obj: obj["status"].get("functions") == 1
    )
    assert set(house.registry(namespace)) == {"My_Shop"}


def test_never_takes_only_what_was_asked_for(house: House, start_settled: StartOperator) -> None:
    start_settled(auto_register="Never")
    namespace = house.namespace()
    app = house.app(namespace, "charge")
    house.deploy(namespace, app)
    house.declare(namespace)
    house.until_ready(namespace)
    leave(house, namespace, body("charge", "more"))
    until_empty(house)
    assert len(house.registry(namespace)["shop"].functions) == 1


def test_what_cannot_be_read_is_put_away(house: House, start_settled: StartOperator) -> None:
    operator = start_settled()
    namespace = house.namespace()
    leave(house, namespace, b'{"appName": 3}')
    until_empty(house)
    assert operator.metric("registrations_total", result="invalid") == 1
    assert condition({}, "Ready") == {}


def _digest(app_id: str) -> str:
    import hashlib

    return hashlib.sha256(app_id.encode()).hexdigest()[:8]
