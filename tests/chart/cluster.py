"""A cluster as Helm's `lookup` sees it: discovery of `v1`, and Secrets."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml
from helm_python import Chart, Config

from tests.chart.rendering import Json, Release, read

_DISCOVERY: Json = {
    "apiVersion": "v1",
    "kind": "APIResourceList",
    "groupVersion": "v1",
    "resources": [
        {"name": "secrets", "singularName": "secret", "namespaced": True, "kind": "Secret", "verbs": ["get"]}
    ],
}


class Cluster:
    """Answers on loopback until `close`; `apply` keeps the Secrets of a release, as `helm install` would."""

    def __init__(self) -> None:
        self.secrets: dict[str, Json] = {}
        self.asked: list[str] = []
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                found = _DISCOVERY if path == "/api/v1" else cluster.secrets.get(path)
                cluster.asked.append(path)
                missing = {
                    "apiVersion": "v1",
                    "kind": "Status",
                    "status": "Failure",
                    "reason": "NotFound",
                    "code": 404,
                }
                body = json.dumps(found or missing).encode()
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        url = f"http://127.0.0.1:{self._server.server_port}"
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "it", "cluster": {"server": url}}],
            "users": [{"name": "me", "user": {"token": "none"}}],
            "contexts": [{"name": "here", "context": {"cluster": "it", "user": "me"}}],
            "current-context": "here",
        }
        self.helm = Config(kubeconfig_content=yaml.safe_dump(kubeconfig), storage_driver="memory", qps=1000)

    def render(
        self, chart: Chart, values: Json, *, upgrade: bool = False, name: str = "innkeeper"
    ) -> Release:
        """What `helm install` or `helm upgrade` would send, `lookup` included."""
        rendered = self.helm.render(
            chart, values, name=name, namespace="there", is_install=not upgrade, is_upgrade=upgrade
        )
        return read(rendered, name, "there")

    def apply(self, release: Release) -> None:
        """Keep the release's Secrets."""
        for secret in release.of("Secret"):
            meta = secret["metadata"]
            self.secrets[f"/api/v1/namespaces/{meta['namespace']}/secrets/{meta['name']}"] = secret

    def close(self) -> None:
        """Stop."""
        self.helm.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
