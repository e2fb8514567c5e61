"""What `helm test` and Prometheus ask, asked."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from innkeeper_engine import probes
from tests.chart.rendering import ROLES, Release

# ---- helm test


@contextmanager
def a_gateway(status: int) -> Iterator[str]:
    """A server that answers everything with a status; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *_: Any) -> None:
            """Silent."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run_helm_test(release: Release, gateway: str) -> "subprocess.CompletedProcess[str]":
    """Run what the test pod runs, against another gateway."""
    program, *arguments = release.pod("test").container["command"]
    assert program == "python"
    *arguments, url = arguments
    assert url.startswith("http://innkeeper-gateway.innkeeper-system.svc:8288/")
    path = url.removeprefix("http://innkeeper-gateway.innkeeper-system.svc:8288")
    return subprocess.run(
        [sys.executable, *arguments, gateway + path], capture_output=True, text=True, timeout=60, check=False
    )


def test_helm_test_asks_whether_the_gateway_is_ready(default: Release) -> None:
    with a_gateway(200) as ready:
        done = run_helm_test(default, ready)
    assert (done.returncode, done.stdout) == (0, "200 /ready\n")
    with a_gateway(503) as draining:
        done = run_helm_test(default, draining)
    assert (done.returncode, done.stdout) == (1, "503 /ready\n")
    gone = run_helm_test(default, draining)
    assert gone.returncode == 1
    assert draining in gone.stderr
    assert default.pod("test").owner["metadata"]["annotations"]["helm.sh/hook"] == "test"


# ---- metrics


async def test_what_is_scraped_is_served(releases: dict[str, Release]) -> None:
    everything = releases["everything"]
    monitors = everything.of("ServiceMonitor")
    assert len(monitors) == len(ROLES)
    for role, monitor in zip(ROLES, monitors, strict=True):
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        (endpoint,) = monitor["spec"]["endpoints"]
        (service,) = (
            each
            for each in everything.of("Service")
            if monitor["spec"]["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
            and any(port["name"] == endpoint["port"] for port in each["spec"]["ports"])
        )
        (port,) = service["spec"]["ports"]
        (at_pod,) = (
            each for each in everything.pod(role).container["ports"] if each["name"] == port["targetPort"]
        )
        assert at_pod["containerPort"] == port["port"]
        assert service["spec"]["selector"].items() <= everything.pod(role).labels.items()

    async def metrics() -> bytes:
        return b"up 1"

    request = f"GET {endpoint['path']} HTTP/1.1"
    status, content_type, body = await probes.answer(request, dict, metrics)
    assert (status, body) == (200, b"up 1")
    assert content_type.startswith("text/plain")
