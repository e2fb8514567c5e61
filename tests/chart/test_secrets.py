"""Keys and passwords are made up once and survive upgrades; every one of them can be the user's own."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from helm_python import Chart, HelmRenderError

from innkeeper_cli import settings, spelling
from innkeeper_engine.store.connection import Address
from tests.chart.cluster import Cluster
from tests.chart.conftest import Render
from tests.chart.rendering import Json, Release, decoded, values_of


@pytest.fixture(scope="module")
def one_cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.close()


@pytest.fixture
def cluster(one_cluster: Cluster) -> Cluster:
    """A cluster with no Secret in it."""
    one_cluster.secrets.clear()
    one_cluster.asked.clear()
    return one_cluster


SMALL: Json = {"crds": {"install": False}}


def data(release: Release) -> dict[str, dict[str, str]]:
    return {each["metadata"]["name"]: decoded(each) for each in release.of("Secret")}


def test_an_install_makes_what_the_roles_can_use(default: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    found = data(default)
    assert found.keys() == {"innkeeper-encryption-key", "innkeeper-webhooks", "innkeeper-valkey"}
    password, url = found["innkeeper-valkey"]["password"], found["innkeeper-valkey"]["url"]
    assert len(password) == 40
    address = Address.parse(url)
    assert address.password == password
    service = default.one("Service", "valkey")
    assert address.host == f"{service['metadata']['name']}.{default.namespace}.svc"
    assert address.port == service["spec"]["ports"][0]["port"]
    monkeypatch.setenv("INNKEEPER_REDIS_URL", url)
    monkeypatch.setenv("INNKEEPER_ENCRYPTION_KEY", found["innkeeper-encryption-key"]["encryption-key"])
    monkeypatch.setenv("INNKEEPER_WEBHOOK_KEY", found["innkeeper-webhooks"]["webhook-key"])
    role = settings.load(settings.OperatorRole)
    assert role.webhook_key is not None
    for key in (role.encryption_key, role.webhook_key):
        assert len(key.get_secret_value()) == spelling.ENCRYPTION_KEY_BYTES


def test_two_installs_get_two_keys(render_chart: Render) -> None:
    one, other = (data(render_chart(SMALL)) for _ in range(2))
    for name in one:
        assert not set(one[name].values()) & set(other[name].values())


def test_an_upgrade_keeps_what_was_made(cluster: Cluster, chart: Chart) -> None:
    installed = cluster.render(chart, SMALL)
    cluster.apply(installed)
    for values in (SMALL, {**SMALL, "log": {"level": "debug"}, "valkey": {"maxMemory": "1gb"}}):
        assert data(cluster.render(chart, values, upgrade=True)) == data(installed)
    assert "/api/v1/namespaces/there/secrets/innkeeper-encryption-key" in cluster.asked


@pytest.mark.parametrize("name", ["encryption-key", "webhooks"])
def test_an_install_finds_the_key_that_an_uninstall_left(cluster: Cluster, chart: Chart, name: str) -> None:
    """Redis keeps what the key has sealed."""
    before = cluster.render(chart, SMALL)
    kept = before.one("Secret", name)
    assert kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    cluster.apply(before)
    after = data(cluster.render(chart, SMALL))
    assert after[f"innkeeper-{name}"] == decoded(kept)


def test_secrets_of_another_release_are_not_taken(cluster: Cluster, chart: Chart) -> None:
    cluster.apply(cluster.render(chart, SMALL, name="blue"))
    green = data(cluster.render(chart, SMALL, name="green"))
    assert set(green) == {
        "green-innkeeper-encryption-key",
        "green-innkeeper-webhooks",
        "green-innkeeper-valkey",
    }
    assert len(cluster.secrets) == 3


def test_an_upgrade_never_makes_another_encryption_key(cluster: Cluster, chart: Chart) -> None:
    """Lost, or not to be seen from here: what is sealed could not be opened any more."""
    with pytest.raises(
        HelmRenderError, match=r"Secret innkeeper-encryption-key .* is not in namespace there"
    ):
        cluster.render(chart, SMALL, upgrade=True)
    with pytest.raises(HelmRenderError, match=r"--dry-run=server"):
        chart.render(SMALL, name="innkeeper", namespace="there", is_upgrade=True, is_install=False)


def test_an_upgrade_may_turn_valkey_on(cluster: Cluster, chart: Chart) -> None:
    external = {**SMALL, "valkey": {"enabled": False}, "redis": {"existingSecret": "redis"}}
    cluster.apply(cluster.render(chart, external))
    assert set(data(cluster.render(chart, SMALL, upgrade=True))) == {
        "innkeeper-encryption-key",
        "innkeeper-webhooks",
        "innkeeper-valkey",
    }


def test_an_upgrade_makes_the_key_of_webhooks_where_there_is_none(cluster: Cluster, chart: Chart) -> None:
    """As after a release that knew no webhooks: what is sealed with this key, the operator can seal anew."""
    before = {**SMALL, "webhookKey": {"existingSecret": "mine"}}
    cluster.apply(cluster.render(chart, before))
    first = cluster.render(chart, SMALL, upgrade=True)
    assert len(decoded(first.one("Secret", "webhooks"))) == 1
    cluster.apply(first)
    assert data(cluster.render(chart, SMALL, upgrade=True)) == data(first)


def test_what_was_made_cannot_be_overwritten(default: Release) -> None:
    """A client that renders without a look at the cluster sends another value: the API server refuses it."""
    assert all(secret["immutable"] is True for secret in default.of("Secret"))


# ---- Secrets of the user's own


def secret_refs(found: Any) -> Iterator[tuple[str, str]]:
    """Name and key of every Secret that a pod mounts."""
    if isinstance(found, dict):
        name = found.get("secretName") or (found.get("name") if "items" in found else None)
        if name:
            yield from ((name, item["key"]) for item in found["items"])
        else:
            for value in found.values():
                yield from secret_refs(value)
    elif isinstance(found, list):
        for each in found:
            yield from secret_refs(each)


def test_every_secret_can_be_ones_own(releases: dict[str, Release]) -> None:
    release = releases["external-redis"]
    assert not release.of("Secret")
    assert not release.of("StatefulSet")
    refs = {role: set(secret_refs(release.pod(role).spec)) for role in ("gateway", "executor", "operator")}
    redis, key, hooks = ("redis-prod", "uri"), ("innkeeper-sealing", "current"), ("innkeeper-hooks", "newest")
    admin = ("innkeeper-admin", "token")
    assert refs == {
        "gateway": {redis, hooks, admin},
        "executor": {redis, key},
        "operator": {redis, key, hooks},
    }


def test_valkey_takes_a_password_of_ones_own(releases: dict[str, Release]) -> None:
    release = releases["namespaced"]
    assert set(data(release)) == {"durable-encryption-key", "durable-webhooks"}
    assert set(secret_refs(release.pod("valkey").spec)) == {("valkey-login", "password")}
    assert ("valkey-login", "url") in set(secret_refs(release.pod("gateway").spec))


def test_secrets_that_are_mounted_are_made_or_named(release: Release) -> None:
    """No pod waits for a Secret that neither the chart makes nor the values name."""
    made = {(name, key) for name, found in data(release).items() for key in found}
    given = json.dumps([values_of("external-redis"), values_of("namespaced")])
    for pod in release.pods():
        for name, key in secret_refs(pod.spec):
            assert (name, key) in made or f'"{name}"' in given


OWN = {"existingSecret": "mine"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"encryptionKey": OWN}, "valkey.existingSecret is empty"),
        ({"valkey": OWN}, "encryptionKey.existingSecret is empty"),
        ({"valkey": OWN, "encryptionKey": OWN}, "webhookKey.existingSecret is empty"),
        ({"valkey": {"enabled": False}, "redis": OWN}, "encryptionKey.existingSecret is empty"),
    ],
)
def test_nothing_is_made_up_where_that_is_off(render_chart: Render, values: Json, said: str) -> None:
    with pytest.raises(HelmRenderError, match=said):
        render_chart({"generateSecrets": False, **values})


def test_with_ones_own_secrets_two_renders_are_the_same(chart: Chart) -> None:
    """What Argo CD needs, which renders all the time and compares."""
    values = {"generateSecrets": False, "encryptionKey": OWN, "webhookKey": OWN, "valkey": OWN}
    one, other = (chart.render(values, name="innkeeper", namespace="there") for _ in range(2))
    assert one == other
