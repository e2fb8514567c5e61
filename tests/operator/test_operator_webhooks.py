"""Webhooks: from objects to records in the store, and what their status says."""

import base64
from typing import Any

import pytest

from innkeeper_apps.sealing import Sealer
from innkeeper_engine.durations import MINUTE_MS
from innkeeper_engine.model.environments import key_digest
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.webhooks import WebhookStore
from tests.operator.house import API, WEBHOOK_SEALING, House, RunningOperator, condition, says, seen_newest

Json = dict[str, Any]

SCRIPT = "function transform(evt) { return {name: 'acme/' + evt.type, data: evt} }"
OTHER = "function transform(evt) { return {name: 'other', data: evt} }"
BAD = "function transform(evt) {\n  return {name: 'acme' data: evt}\n}"
GITHUB: Json = {"github": {"secretRef": {"name": "hook", "key": "secret"}}}


def declare(house: House, namespace: str, name: str = "acme", *, script: str = SCRIPT, **spec: Any) -> Json:
    """Apply a Webhook."""
    transform = spec.pop("transform", {"script": script})
    return house.cluster.apply(
        {
            "apiVersion": API,
            "kind": "Webhook",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"transform": transform, **spec},
        }
    )


def secret(house: House, namespace: str, *, label: str = "webhook", **values: str) -> None:
    """Apply the Secret that `GITHUB` names."""
    labels = {"innkeeper.dev/key": label} if label else {}
    house.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "hook", "namespace": namespace, "labels": labels},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
        },
        "admin",
        force=True,
    )


def config_map(house: House, namespace: str, script: str) -> None:
    """Apply the ConfigMap `transforms`."""
    house.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "transforms", "namespace": namespace},
            "data": {"acme.js": script},
        },
        "admin",
        force=True,
    )


def until(house: House, namespace: str, status: str, reason: str, name: str = "acme") -> Json:
    """Wait until the newest spec is ready, or not, for a reason."""
    return house.until(
        "Webhook",
        namespace,
        name,
        lambda webhook: says(webhook, "Ready", status, reason=reason) and seen_newest(webhook),
    )


def records(house: House, namespace: str) -> list[Webhook]:
    """What the store holds of a namespace's Webhooks."""
    snapshot = house.store_run(lambda store: WebhookStore(store).read())
    return [each for each in snapshot.webhooks if each.name.startswith(f"{namespace}/")]


def record(house: House, namespace: str) -> Webhook:
    """The only one."""
    (found,) = records(house, namespace)
    return found


def proofs(house: House, namespace: str) -> list[str]:
    """The secrets of the record's proof, in clear."""
    proof = record(house, namespace).proof
    assert proof is not None
    return [Sealer(WEBHOOK_SEALING).unseal(sealed).decode() for sealed in proof.secrets]


def url(house: House, namespace: str, name: str = "acme") -> dict[str, str]:
    """What the Secret with the URL holds."""
    found = house.cluster.get("secrets", namespace, f"{name}-webhook-url")
    assert found is not None
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


@pytest.fixture
def namespace(house: House, running: RunningOperator) -> str:
    """A namespace that the module's operator sees."""
    return house.namespace(keys=False)


def test_a_webhook_without_proof_has_its_url_in_a_secret_alone(house: House, namespace: str) -> None:
    webhook = declare(house, namespace)
    status = until(house, namespace, "True", "Ready")["status"]
    assert status["urlSecretRef"] == {"name": "acme-webhook-url", "key": "url"}
    assert "url" not in status
    kept = url(house, namespace)
    assert kept["url"] == f"http://innkeeper.example/w/{kept['token']}"
    found = house.cluster.get("secrets", namespace, "acme-webhook-url")
    assert found is not None
    assert found["metadata"]["labels"]["innkeeper.dev/key"] == "webhook"
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Webhook", webhook["metadata"]["uid"])
    assert record(house, namespace) == Webhook(
        name=f"{namespace}/acme", env=namespace, digest=key_digest(kept["token"]), transform=SCRIPT
    )
    told = house.cluster.list("events.events.k8s.io", namespace)
    assert [(each["type"], each["reason"]) for each in told] == [("Normal", "Ready")]
    assert kept["token"] not in str(told)


def test_a_webhook_with_a_proof_shows_its_url_before_the_secret_is_there(
    house: House, namespace: str
) -> None:
    """Some providers show their secret only once they have the URL."""
    declare(house, namespace, verify=GITHUB, allowCIDRs=["192.0.2.7/24"])
    missing = until(house, namespace, "False", "SecretNotFound")["status"]
    assert missing["url"] == url(house, namespace)["url"]
    assert records(house, namespace) == []
    secret(house, namespace, secret="shh\n")
    until(house, namespace, "True", "Ready")
    assert proofs(house, namespace) == ["shh"]
    assert record(house, namespace).cidrs == ("192.0.2.0/24",)


def test_a_changed_transform_is_another_record_of_the_same_url(house: House, namespace: str) -> None:
    declare(house, namespace)
    until(house, namespace, "True", "Ready")
    before = record(house, namespace)
    declare(house, namespace, script=OTHER)
    until(house, namespace, "True", "Ready")
    after = record(house, namespace)
    assert (after.transform, after.digest) == (OTHER, before.digest)


def test_a_transform_with_an_error_is_told_with_its_line_and_changes_nothing(
    house: House, namespace: str
) -> None:
    declare(house, namespace)
    until(house, namespace, "True", "Ready")
    before = record(house, namespace)
    declare(house, namespace, script=BAD)
    message = condition(until(house, namespace, "False", "InvalidTransform"), "Ready")["message"]
    assert message.startswith("line 2, column ")
    assert "goes on as it was before" in message
    assert record(house, namespace) == before
    declare(house, namespace, script=OTHER)
    until(house, namespace, "True", "Ready")
    assert record(house, namespace).transform == OTHER


def test_a_secret_rotates_with_the_old_one_as_its_fallback(
    house: House, running: RunningOperator, namespace: str
) -> None:
    secret(house, namespace, secret="old")
    declare(house, namespace, verify=GITHUB)
    until(house, namespace, "True", "Ready")
    assert proofs(house, namespace) == ["old"]
    before = record(house, namespace)
    assert before.proof is not None
    secret(house, namespace, **{"secret": "new", "secret-fallback": "old"})
    running.idle()
    assert proofs(house, namespace) == ["new", "old"]
    after = record(house, namespace).proof
    assert after is not None
    assert after.secrets[1] == before.proof.secrets[0], "what is encrypted already is not encrypted anew"
    secret(house, namespace, secret="new")
    running.idle()
    assert proofs(house, namespace) == ["new"]


@pytest.mark.parametrize(("label", "reason"), [("", "SecretNotFound"), ("event", "SecretNotLabelled")])
def test_a_secret_without_the_label_is_not_read(
    house: House, namespace: str, label: str, reason: str
) -> None:
    secret(house, namespace, label=label, secret="shh")
    declare(house, namespace, verify=GITHUB)
    message = condition(until(house, namespace, "False", reason), "Ready")["message"]
    assert "innkeeper.dev/key: webhook" in message
    assert "shh" not in message
    assert records(house, namespace) == []
    secret(house, namespace, secret="shh")
    until(house, namespace, "True", "Ready")


def test_a_secret_of_another_form_is_refused(house: House, namespace: str) -> None:
    secret(house, namespace, secret="no colon")
    declare(house, namespace, verify={"basic": {"secretRef": {"name": "hook", "key": "secret"}}})
    message = condition(until(house, namespace, "False", "InvalidKey"), "Ready")["message"]
    assert "user:password" in message
    assert "no colon" not in message


def test_a_config_map_is_followed(house: House, running: RunningOperator, namespace: str) -> None:
    ref = {"configMapRef": {"name": "transforms", "key": "acme.js"}}
    declare(house, namespace, transform=ref)
    until(house, namespace, "False", "ConfigMapNotFound")
    config_map(house, namespace, SCRIPT)
    until(house, namespace, "True", "Ready")
    assert record(house, namespace).transform == SCRIPT
    config_map(house, namespace, BAD)
    until(house, namespace, "False", "InvalidTransform")
    assert record(house, namespace).transform == SCRIPT
    config_map(house, namespace, OTHER)
    until(house, namespace, "True", "Ready")
    assert record(house, namespace).transform == OTHER
    house.cluster.delete("configmaps", namespace, "transforms")
    until(house, namespace, "False", "ConfigMapNotFound")
    assert record(house, namespace).transform == OTHER


def test_a_deleted_webhook_takes_nothing_any_more(
    house: House, running: RunningOperator, namespace: str
) -> None:
    declare(house, namespace)
    until(house, namespace, "True", "Ready")
    house.cluster.delete("Webhook", namespace, "acme")
    house.until_gone("Webhook", namespace, "acme")
    running.idle()
    assert records(house, namespace) == []


def test_whoever_deletes_the_secret_gets_another_url(
    house: House, running: RunningOperator, namespace: str
) -> None:
    declare(house, namespace)
    until(house, namespace, "True", "Ready")
    before = url(house, namespace)["token"]
    house.cluster.delete("secrets", namespace, "acme-webhook-url")
    house.until("secrets", namespace, "acme-webhook-url", lambda found: "data" in found)
    running.idle()
    after = url(house, namespace)["token"]
    assert after != before
    assert record(house, namespace).digest == key_digest(after)


def test_a_secret_of_somebody_else_is_not_touched(
    house: House, running: RunningOperator, namespace: str
) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "acme-webhook-url", "namespace": namespace},
        "data": {"mine": base64.b64encode(b"x").decode()},
    }
    before = house.cluster.apply(theirs, "admin")
    declare(house, namespace)
    until(house, namespace, "False", "SecretNotFound")
    after = house.cluster.get("secrets", namespace, "acme-webhook-url")
    assert after is not None
    assert (after["data"], after["metadata"]["resourceVersion"]) == (
        before["data"],
        before["metadata"]["resourceVersion"],
    )
    house.cluster.delete("secrets", namespace, "acme-webhook-url")
    running.skip(2 * MINUTE_MS)
    until(house, namespace, "True", "Ready")


def test_a_namespace_that_comes_into_another_environment_takes_its_webhooks_along(
    house: House, running: RunningOperator, namespace: str
) -> None:
    declare(house, namespace)
    until(house, namespace, "True", "Ready")
    annotation = {"metadata": {"annotations": {"innkeeper.dev/environment": f"{namespace}-live"}}}
    house.cluster.patch("namespaces", "", namespace, annotation)
    running.idle()
    assert record(house, namespace).env == f"{namespace}-live"


def test_a_token_that_another_webhook_has_is_refused(
    house: House, running: RunningOperator, namespace: str
) -> None:
    declare(house, namespace)
    until(house, namespace, "True", "Ready")
    copy = house.cluster.get("secrets", namespace, "acme-webhook-url")
    assert copy is not None
    elsewhere = house.namespace(keys=False)
    meta = {"name": "acme-webhook-url", "namespace": elsewhere, "labels": copy["metadata"]["labels"]}
    house.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": copy["data"]})
    declare(house, elsewhere)
    until(house, elsewhere, "False", "KeyShared")
    assert records(house, elsewhere) == []


# ---- operators of their own


@pytest.fixture
def alone(running: RunningOperator) -> None:
    """The module's operator is away for the rest of the module."""
    if not running.stopped:
        running.stop()


@pytest.mark.usefixtures("alone")
def test_a_restarted_operator_writes_nothing_and_removes_what_has_gone(house: House) -> None:
    namespace, broken = house.namespace(keys=False), house.namespace(keys=False)
    first = house.operator()
    first.settled()
    secret(house, namespace, secret="shh")
    declare(house, namespace, verify=GITHUB)
    declare(house, namespace, "gone")
    declare(house, broken, script=BAD)
    until(house, namespace, "True", "Ready")
    until(house, namespace, "True", "Ready", "gone")
    until(house, broken, "False", "InvalidTransform")
    first.idle()
    first.stop()
    house.cluster.delete("Webhook", namespace, "gone")
    house.until_gone("Webhook", namespace, "gone")
    before = [each for each in records(house, namespace) if not each.name.endswith("/gone")]

    again = house.operator()
    again.settled()
    again.idle()
    assert records(house, namespace) == before
    assert again.metric("status_writes_total", kind="Webhook") == 0
    for verb in ("POST", "PATCH"):
        assert again.metric("writes_total", verb=verb, kind="secrets") == 0
    again.stop()


@pytest.mark.usefixtures("alone")
def test_an_operator_of_one_namespace_leaves_the_records_of_others_alone(house: House) -> None:
    inside, outside = house.namespace(keys=False), house.namespace(keys=False)
    theirs = Webhook(name=f"{outside}/acme", env=outside, digest="0" * 64, transform=SCRIPT)
    house.store_run(lambda store: WebhookStore(store).write(theirs))
    gone = Webhook(name=f"{inside}/gone", env=inside, digest="1" * 64, transform=SCRIPT)
    house.store_run(lambda store: WebhookStore(store).write(gone))
    operator = house.operator(
        namespaces=(inside,), environments={inside: "live"}, webhooks_url="https://hooks.example"
    )
    operator.settled()
    declare(house, inside)
    until(house, inside, "True", "Ready")
    operator.idle()
    assert url(house, inside)["url"].startswith("https://hooks.example/w/")
    assert records(house, outside) == [theirs]
    assert [(each.env, each.name) for each in records(house, inside)] == [("live", f"{inside}/acme")]
    operator.stop()


@pytest.mark.usefixtures("alone")
def test_where_secrets_are_granted_by_name_the_admin_makes_the_url(house: House) -> None:
    namespace, token = house.namespace(keys=False), "t" * 40
    operator = house.operator(secret_mode="Named", generate_keys=False)
    operator.settled()
    secret(house, namespace, secret="shh")
    declare(house, namespace, verify=GITHUB)
    message = condition(until(house, namespace, "False", "SecretNotFound"), "Ready")["message"]
    assert "acme-webhook-url" in message
    meta = {"name": "acme-webhook-url", "namespace": namespace, "labels": {"innkeeper.dev/key": "webhook"}}
    house.cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"token": token}}, "admin"
    )
    status = until(house, namespace, "True", "Ready")["status"]
    assert status["url"] == f"http://innkeeper.example/w/{token}"
    assert status["urlSecretRef"] == {"name": "acme-webhook-url", "key": "token"}
    assert record(house, namespace).digest == key_digest(token)
    operator.stop()


@pytest.mark.usefixtures("alone")
def test_a_store_that_lost_everything_is_filled_again_with_the_same_url(house: House) -> None:
    namespace = house.namespace(keys=False)
    operator = house.operator()
    operator.settled()
    declare(house, namespace)
    until(house, namespace, "True", "Ready")
    before = record(house, namespace)
    operator.idle()
    operator.stop()
    house.store_run(lambda store: WebhookStore(store).remove(namespace, before.name))
    again = house.operator()
    again.settled()
    again.idle()
    assert records(house, namespace) == [before]
    again.stop()
