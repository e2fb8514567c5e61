"""Keys: made where there are none, written where gateways look, and changed without a failed request."""

import secrets
from typing import Any

import msgspec

from innkeeper_apps.sealing import Sealer
from innkeeper_apps.wire.keys import signing_key_digests
from innkeeper_engine.model.environments import Environment, key_digest
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_operator.asking import MAX_SPREAD_MS, SPACING_MS
from tests.operator.house import SEALING, House, RunningOperator, ScriptedApp, condition

Json = dict[str, Any]


def environments(house: House) -> dict[str, Environment]:
    """What gateways know."""
    snapshot = house.store_run(lambda store: EnvironmentStore(store).read())
    return {environment.name: environment for environment in snapshot.environments}


def signing_keys(house: House, env: str) -> list[str]:
    """With what requests to the app are signed."""
    sealer = Sealer(SEALING)
    return [sealer.unseal(sealed).decode() for sealed in house.registry(env)["shop"].signing_keys]


def values(house: House, namespace: str, name: str) -> dict[str, str]:
    """A Secret's values."""
    found = house.cluster.get("secrets", namespace, name)
    assert found is not None
    return {
        key: msgspec.json.decode(f'"{value}"', type=bytes).decode() for key, value in found["data"].items()
    }


def test_a_namespace_without_keys_is_given_random_ones_and_pods_their_variables(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace(keys=False)
    app = house.app(namespace, "charge")
    app.keys = []
    house.deploy(namespace, app)
    house.declare(namespace)
    made = house.until("secrets", namespace, "innkeeper-keys", lambda secret: "data" in secret)
    assert made["metadata"]["labels"]["innkeeper.dev/key"] == "event.signing"
    keys = values(house, namespace, "innkeeper-keys")
    app.keys = [keys["signing-key"]]
    running.skip(SPACING_MS)
    house.until_ready(namespace)
    assert signing_keys(house, namespace) == [keys["signing-key"]]
    house.until("secrets", namespace, "shop-inngest-env", lambda secret: "data" in secret)
    variables = values(house, namespace, "shop-inngest-env")
    assert variables["INNGEST_SIGNING_KEY"] == keys["signing-key"]
    assert variables["INNGEST_EVENT_KEY"] == keys["event-key"]
    assert variables["INNGEST_BASE_URL"] == "http://innkeeper.example"
    assert variables["INNGEST_DEV"] == "0"
    running.idle()
    record = environments(house)[namespace]
    assert [key.digest for key in record.event_keys] == [key_digest(keys["event-key"])]
    assert [key.digests for key in record.signing_keys] == [signing_key_digests(keys["signing-key"])]
    assert record.apps == ("shop",)


def test_keys_that_are_there_are_never_replaced(house: House, running: RunningOperator) -> None:
    namespace = house.namespace()
    before = values(house, namespace, "innkeeper-keys")
    house.deploy(namespace, house.app(namespace, "charge"))
    house.declare(namespace)
    house.until_ready(namespace)
    running.idle()
    assert values(house, namespace, "innkeeper-keys") == before


def test_a_signing_key_rotates_with_the_old_one_as_its_fallback(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    old = house.key(namespace)
    app = house.app(namespace, "charge")
    house.deploy(namespace, app)
    house.declare(namespace)
    house.until_ready(namespace)
    new = "signkey-test-" + secrets.token_hex(32)

    running.skip(SPACING_MS)
    house.keys(namespace, signing_key=new, signing_key_fallback=old)
    house.until(
        "InngestApp",
        namespace,
        "shop",
        lambda obj: app.asked > 1 and condition(obj, "Ready")["status"] == "True",
    )
    running.idle()
    assert signing_keys(house, namespace) == [new, old]
    told = {e["reason"] for e in house.cluster.list("events.events.k8s.io", namespace)}
    assert "OldSigningKey" in told, "somebody should restart the pods before the old key goes"

    app.keys = [new]
    running.skip(SPACING_MS)
    house.keys(namespace, signing_key=new)
    running.idle()
    house.until_ready(namespace)
    assert set(signing_keys(house, namespace)) >= {new}


def test_more_event_keys_are_secrets_with_the_label_and_may_be_bounded(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"))
    house.declare(namespace)
    house.until_ready(namespace)
    key = secrets.token_hex(16)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "partner",
            "namespace": namespace,
            "labels": {"innkeeper.dev/key": "event"},
            "annotations": {
                "innkeeper.dev/allowed-events": "partner/*",
                "innkeeper.dev/allowed-cidrs": "192.0.2.0/24",
            },
        },
        "stringData": {"event-key": key},
    }
    house.cluster.apply(secret, "admin")
    running.idle()
    (found,) = [k for k in environments(house)[namespace].event_keys if k.digest == key_digest(key)]
    assert found.events == ("partner/*",)
    assert found.cidrs == ("192.0.2.0/24",)
    house.cluster.delete("secrets", namespace, "partner")
    running.idle()
    assert key_digest(key) not in [k.digest for k in environments(house)[namespace].event_keys]


def test_a_namespace_may_belong_to_another_environment(house: House, running: RunningOperator) -> None:
    first = house.namespace()
    house.deploy(first, house.app(first, "charge"))
    house.declare(first)
    house.until_ready(first)
    second = house.namespace(annotations={"innkeeper.dev/environment": first})
    house.deploy(second, ScriptedApp("other", "ship", keys=[house.key(second)]), name="other")
    house.declare(second, "other")
    house.until_ready(second, "other")
    assert set(house.registry(first)) == {"shop", "other"}
    assert environments(house)[first].namespaces == tuple(sorted((first, second)))
    assert second not in environments(house)


def test_an_app_moves_with_its_namespace_to_another_environment(
    house: House, running: RunningOperator
) -> None:
    namespace = house.namespace()
    app = house.app(namespace, "charge")
    house.deploy(namespace, app)
    house.declare(namespace)
    house.until_ready(namespace)
    running.idle()
    running.skip(SPACING_MS)
    there = f"{namespace}-live"
    house.cluster.patch(
        "namespaces", "", namespace, {"metadata": {"annotations": {"innkeeper.dev/environment": there}}}
    )
    running.idle()
    running.skip(MAX_SPREAD_MS)
    house.until(
        "InngestApp",
        namespace,
        "shop",
        lambda obj: obj["status"]["environment"] == there and condition(obj, "Ready")["status"] == "True",
    )
    running.idle()
    assert set(house.registry(there)) == {"shop"}
    running.skip(2_000)
    running.idle()
    assert house.registry(namespace) == {}


def test_one_signing_key_opens_one_environment(house: House, running: RunningOperator) -> None:
    first, second = house.namespace(), house.namespace()
    house.deploy(first, house.app(first, "charge"))
    house.declare(first)
    house.until_ready(first)
    house.keys(second, signing_key=house.key(first))
    house.deploy(second, ScriptedApp("other", "ship", keys=[house.key(first)]), name="other")
    house.declare(second, "other")
    found = house.until_app(second, "other", "Ready", "False", "KeyShared")
    assert first in condition(found, "Ready")["message"]


def test_no_secret_is_in_redis_in_clear(house: House, running: RunningOperator) -> None:
    namespace = house.namespace()
    house.deploy(namespace, house.app(namespace, "charge"))
    house.declare(namespace)
    house.until_ready(namespace)
    running.idle()
    plain = house.key(namespace).removeprefix("signkey-test-").encode()
    event_key = values(house, namespace, "innkeeper-keys")["event-key"].encode()

    async def everything(store: Any) -> bytes:
        found = b""
        for key in await store.command("KEYS", f"{house.prefix.replace('{', '?').replace('}', '?')}*"):
            found += await store.command("DUMP", key) or b""
        return found

    stored = house.store_run(everything)
    assert namespace.encode() in stored or stored
    assert plain not in stored
    assert event_key not in stored
