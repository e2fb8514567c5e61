"""Starting a real API server, tried with programs that only look like it."""

import ssl
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.kube.cluster import Cluster
from tests.kube.connection import connection_from
from tests.kube.fixtures import refused
from tests.kube.realapi import ApiServer
from tests.kube.samples import cake, crd

_PRETENDER = """#!{python}
import http.server, ssl, sys
options = dict(argument[2:].split("=", 1) for argument in sys.argv[1:] if "=" in argument)
secure = "secure-port" in options

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        allowed = True
        if secure:
            token = open(options["token-auth-file"]).read().split(",")[0]
            allowed = self.headers["Authorization"] == "Bearer " + token
        self.send_response(200 if allowed and self.path in ("/health", "/readyz") else 403)
        self.end_headers()

port = options.get("secure-port") or options["listen-client-urls"].rpartition(":")[2]
server = http.server.HTTPServer(("127.0.0.1", int(port)), Handler)
if secure:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options["tls-cert-file"], options["tls-private-key-file"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def pretend(folder: Path, name: str, text: str) -> None:
    """Put a program there."""
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_servers_are_started_with_credentials_of_their_own_and_ended(tmp_path: Path) -> None:
    """The kubeconfig has the authority that signed the server's certificate, and a token that it knows."""
    binaries, data = tmp_path / "bin", tmp_path / "data"
    binaries.mkdir()
    data.mkdir()
    for name in ("etcd", "kube-apiserver"):
        pretend(binaries, name, _PRETENDER.format(python=sys.executable))
    with ApiServer(binaries, data) as server:
        assert not server.has_controllers
        connection = connection_from(server.config())
        assert connection.tls is not None
        headers = {"Authorization": f"Bearer {connection.token}"}
        with httpx.Client(verify=connection.tls, headers=headers, trust_env=False) as client:
            assert client.get(f"{connection.server}/readyz").status_code == 200
        with (
            httpx.Client(verify=ssl.create_default_context(), trust_env=False) as stranger,
            pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            stranger.get(f"{connection.server}/readyz")
        processes: list[subprocess.Popen[bytes]] = list(server.processes)
        assert [process.poll() for process in processes] == [None, None]
    assert all(process.poll() is not None for process in processes)


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """With what it wrote last."""
    pretend(tmp_path, "etcd", "#!/bin/sh\necho no space left on the moon\nexit 3\n")
    pretend(tmp_path, "kube-apiserver", "")
    with (
        pytest.raises(RuntimeError, match="etcd ended with 3:\nno space left on the moon"),
        ApiServer(tmp_path, tmp_path),
    ):
        pass


def test_a_folder_without_the_programs(tmp_path: Path) -> None:
    """Is told by name."""
    with pytest.raises(FileNotFoundError, match=r"there is no etcd in it \(setup-envtest downloads them\)"):
        ApiServer(tmp_path, tmp_path)


@pytest.mark.real_api
def test_rules_of_definitions_are_evaluated(cluster: Cluster) -> None:
    """Which the emulator leaves to others."""
    definition = crd()
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["x-kubernetes-validations"] = [{"rule": "self.layers < 5", "message": "too high"}]
    definition["metadata"]["name"] = "towers.test.dev"
    definition["spec"]["names"] = {"kind": "Tower", "plural": "towers"}
    cluster.install_crds([definition])
    namespace = cluster.create_namespace()
    with refused(422, "Invalid") as answer:
        cluster.create(cake(namespace=namespace, layers=6) | {"kind": "Tower"})
    assert "too high" in answer.value.message
