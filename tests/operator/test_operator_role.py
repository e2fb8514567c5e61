"""`innkeeper operator`: what it is told by its environment, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from innkeeper_cli.operator_role import identity, operator_settings
from innkeeper_cli.settings import OperatorRole, ReleaseRole, SettingsError, load
from innkeeper_engine.store.connection import Address
from tests.kube.cluster import Cluster
from tests.operator.conftest import CRDS
from tests.operator.house import API, crds

COMPLETE = {"INNKEEPER_REDIS_URL": "redis://redis:6379/0", "INNKEEPER_ENCRYPTION_KEY": "cd" * 32}


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that holds nothing of Innkeeper but what an operator needs."""
    for name in [name for name in os.environ if name.startswith("INNKEEPER_")]:
        monkeypatch.delenv(name)
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_defaults_look_after_all_namespaces(env: pytest.MonkeyPatch) -> None:
    role = load(OperatorRole)
    settings = operator_settings(role)
    assert role.port == 8290
    assert settings.namespaces == ()
    assert settings.secret_mode == "Labelled"
    assert settings.generate_keys
    assert settings.auto_register == "Existing"
    assert settings.cluster_domain == "cluster.local"
    assert settings.status_counters


def test_every_setting_of_the_chart_is_read(env: pytest.MonkeyPatch) -> None:
    for name, value in {
        "WATCH_NAMESPACES": "prod, test,prod",
        "SECRET_MODE": "Named",
        "KEYS_GENERATE": "true",
        "AUTO_REGISTER": "Always",
        "BASE_URL": "https://innkeeper.example",
        "LEASE_NAMESPACE": "innkeeper",
        "LEASE_NAME": "release-operator",
        "DEFAULT_ACCOUNT": "team",
        "ENVIRONMENTS": "prod=live, test=trial",
        "STATUS_COUNTERS": "false",
        "CLUSTER_DOMAIN": "example.internal",
        "EGRESS_ALLOW": "10.1.0.0/16",
        "PORT": "9000",
    }.items():
        env.setenv(f"INNKEEPER_{name}", value)
    role = load(OperatorRole)
    settings = operator_settings(role)
    assert settings.namespaces == ("prod", "test")
    assert settings.secret_mode == "Named"
    assert not settings.generate_keys, "where Secrets are granted by name, the admin makes them"
    assert settings.auto_register == "Always"
    assert settings.base_url == "https://innkeeper.example"
    assert (settings.lease_namespace, settings.lease_name) == ("innkeeper", "release-operator")
    assert settings.default_account == "team"
    assert settings.environments == {"prod": "live", "test": "trial"}
    assert not settings.status_counters
    assert settings.cluster_domain == "example.internal"
    assert role.egress_allow == ("10.1.0.0/16",)
    assert role.port == 9000
    assert load(ReleaseRole).watch_namespaces == ("prod", "test")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("REDIS_URL", "", "INNKEEPER_REDIS_URL (or INNKEEPER_REDIS_URL_FILE) is not set"),
        ("ENCRYPTION_KEY", "", "INNKEEPER_ENCRYPTION_KEY (or INNKEEPER_ENCRYPTION_KEY_FILE) is not set"),
        ("WATCH_NAMESPACES", "prod,Not_One", "'Not_One' is no name of a namespace"),
        ("ENVIRONMENTS", "prod", "'prod' is not a pair <namespace>=<environment>"),
        ("ENVIRONMENTS", "prod=a,prod=b", "'prod' is named twice"),
        ("SECRET_MODE", "Some", "INNKEEPER_SECRET_MODE"),
        ("AUTO_REGISTER", "Sometimes", "INNKEEPER_AUTO_REGISTER"),
    ],
)
def test_what_is_wrong_is_said(env: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    env.setenv(f"INNKEEPER_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load(OperatorRole)
    assert told in str(caught.value)


def test_no_two_processes_of_one_pod_have_one_name(env: pytest.MonkeyPatch) -> None:
    env.setenv("POD_NAME", "innkeeper-operator-abc")
    names = {identity() for _ in range(10)}
    assert len(names) == 10
    assert all(name.startswith("innkeeper-operator-abc_") for name in names)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def test_the_process_starts_leads_and_ends_in_good_order_on_sigterm(
    module_cluster: Cluster, valkey: Address, tmp_path: Path, env: pytest.MonkeyPatch
) -> None:
    module_cluster.install_crds(crds(CRDS))
    namespace = module_cluster.create_namespace("role")
    port = free_port()
    env.setenv("KUBECONFIG", str(module_cluster.kubeconfig(tmp_path / "kubeconfig")))
    env.setenv("INNKEEPER_REDIS_URL", f"unix://{valkey.path}")
    env.setenv("INNKEEPER_HOST", "127.0.0.1")
    env.setenv("INNKEEPER_PORT", str(port))
    env.setenv("INNKEEPER_LEASE_NAMESPACE", namespace)
    env.setenv("INNKEEPER_WATCH_NAMESPACES", namespace)
    env.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    process = subprocess.Popen(
        [sys.executable, "-m", "innkeeper_cli.main", "operator"], stderr=subprocess.PIPE, text=True
    )
    try:
        deadline_s = time.monotonic() + 60
        while not _is_ready(port):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        lease = module_cluster.get("leases", namespace, "innkeeper-operator")
        assert lease is not None
        assert lease["spec"]["holderIdentity"]
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, log
    lease = module_cluster.get("leases", namespace, "innkeeper-operator")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == ""
    entries = [json.loads(line) for line in log.splitlines()]
    assert "this operator is active" in [entry["event"] for entry in entries]
    assert not [entry for entry in entries if entry["level"] in ("error", "critical")]


def test_release_is_a_command_of_its_own(
    module_cluster: Cluster, tmp_path: Path, env: pytest.MonkeyPatch
) -> None:
    module_cluster.install_crds(crds(CRDS))
    namespace = module_cluster.create_namespace("role")
    app = {
        "apiVersion": API,
        "kind": "InngestApp",
        "metadata": {
            "name": "shop",
            "namespace": namespace,
            "finalizers": ["innkeeper.dev/runs", "example.com/x"],
        },
        "spec": {"endpoint": {"url": "http://192.0.2.1/api/inngest"}},
    }
    module_cluster.apply(app)
    env.setenv("KUBECONFIG", str(module_cluster.kubeconfig(tmp_path / "kubeconfig")))
    env.setenv("INNKEEPER_WATCH_NAMESPACES", namespace)
    env.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    done = subprocess.run(
        [sys.executable, "-m", "innkeeper_cli.main", "operator", "release"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["apps"] == 1
    found = module_cluster.get("InngestApp", namespace, "shop")
    assert found is not None
    assert found["metadata"]["finalizers"] == ["example.com/x"]


def test_without_a_way_to_the_api_server_it_says_what_to_set(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env.setenv("KUBECONFIG", str(tmp_path / "none"))
    env.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    done = subprocess.run(
        [sys.executable, "-m", "innkeeper_cli.main", "operator", "release"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "set KUBECONFIG" in done.stderr


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=10) as reply:
            return bool(reply.status == 200 and json.load(reply)["checks"].get("cluster") == "ok")
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False
