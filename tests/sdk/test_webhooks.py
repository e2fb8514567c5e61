"""From a provider's request to a run of a real SDK's function: `innkeeper dev --manifests` with a Webhook."""

import hashlib
import hmac
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.sdk.harness import ROOT, Proc, Server, clean_env, free_port, wait_until

pytestmark = pytest.mark.sdk

PIPELINE = ROOT / "examples" / "pipeline"
SECRET = b"as-typed-at-github"
MANIFESTS = """
apiVersion: innkeeper.dev/v1alpha1
kind: Webhook
metadata: {name: uploads}
spec:
  transform: {configMapRef: {name: uploads, key: uploads.js}}
  verify: {github: {secretRef: {name: uploads, key: secret}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: uploads}
data:
  uploads.js: |
    function transform(evt, headers) {
      if (!evt.file) throw new Error("no file");
      return {name: headers["X-Action"], id: evt.id, data: {name: evt.file, kind: "text", text: evt.text}};
    }
---
apiVersion: v1
kind: Secret
metadata: {name: uploads, labels: {innkeeper.dev/key: webhook}}
stringData: {secret: as-typed-at-github}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A dev server with the example `pipeline`, its manifests and a Webhook."""
    port, manifests = free_port(), tmp_path / "k8s"
    manifests.mkdir()
    for path in (PIPELINE / "k8s").iterdir():
        (manifests / path.name).write_text(path.read_text().replace("port: 8000", f"port: {port}"))
    (manifests / "webhook.yaml").write_text(MANIFESTS)
    server = Server(tmp_path, more=["--manifests", str(manifests), "--poll-interval", "0.2"])
    argv = [str(Path(sys.executable).parent / "uvicorn"), "main:app", "--port", str(port)]
    env = clean_env({"INNGEST_DEV": "1", "INNGEST_BASE_URL": server.url})
    app = Proc("pipeline", argv, env=env, log=tmp_path / "app.log", cwd=PIPELINE)
    try:
        server.start()
        app.start()
        yield server
    finally:
        app.stop()
        server.stop()


def test_a_request_of_a_provider_starts_a_function(server: Server) -> None:
    """Signed, proved, transformed, run; what no event can be made of is kept as a dead letter."""
    api, log = server.api, server.proc.log_text
    wait_until(
        lambda: len(api.http.get(f"{server.url}/dev").json()["functions"]) == 3, "3 functions", seen=log
    )
    wait_until(lambda: "Webhook uploads: post to" in log(), "the URL is told", seen=log)
    found = re.search(r"Webhook uploads: post to\s+(http://\S+/w/\w+)", log())
    assert found is not None, log()

    def post(body: bytes, secret: bytes = SECRET) -> tuple[int, list[str]]:
        signature = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
        headers = {"x-hub-signature-256": signature, "x-action": "archive/file.stored"}
        reply = api.http.post(found[1], content=body, headers=headers)
        return reply.status_code, reply.json().get("ids", [])

    body = orjson.dumps({"id": "delivery-1", "file": "a.txt", "text": "one two\nthree"})
    assert post(body, b"another") == (401, [])
    status, (event,) = post(body)
    assert status == 200
    # The provider sends it once more: its id is known.
    assert post(body)[0] == 200
    (run,) = api.wait_runs(event)
    ended = api.wait_end(str(run["run_id"]))
    assert (ended["status"], ended["output"]["name"]) == ("Completed", "a.txt"), ended
    assert post(b"{}") == (202, [])
    (letter,) = api.http.get(f"{server.url}/v1/deadletters").json()["data"]
    assert (letter["webhook"], letter["failure"]["code"]) == ("default/uploads", "threw")
