"""The examples of a cluster on a laptop: `innkeeper dev --manifests` with the real apps and their own manifests."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.harness import ROOT, Proc, Server, clean_env, ensure_shop, free_port, wait_until

pytestmark = pytest.mark.sdk

EXAMPLES = ROOT / "examples"


class Example:
    """An example app and a dev server under the example's manifests, with the app on a free port."""

    def __init__(self, folder: Path, name: str, port_in_manifests: int, argv: list[str], cwd: Path) -> None:
        self.port = free_port()
        self.manifests = folder / "k8s"
        self.manifests.mkdir()
        for path in (EXAMPLES / name / "k8s").iterdir():
            text = path.read_text()
            text = text.replace(f"port: {port_in_manifests}", f"port: {self.port}")
            (self.manifests / path.name).write_text(text)
        self.server = Server(folder, more=["--manifests", str(self.manifests), "--poll-interval", "0.2"])
        argv = [part.replace("PORT", str(self.port)) for part in argv]
        env = clean_env({"INNGEST_DEV": "1", "INNGEST_BASE_URL": self.server.url, "PORT": str(self.port)})
        self.app = Proc(name, argv, env=env, log=folder / "app.log", cwd=cwd)

    def start(self) -> "Example":
        """Start both; the server finds the app by its manifests alone."""
        self.server.start()
        self.app.start()
        return self

    def stop(self) -> None:
        """End both."""
        self.app.stop()
        self.server.stop()

    def functions(self) -> dict[str, dict[str, Any]]:
        """What is registered, by slug."""
        reply = self.server.api.http.get(f"{self.server.url}/dev").json()
        return {function["slug"]: function for function in reply["functions"]}

    def registered(self, count: int) -> None:
        """Wait until so many functions are there."""
        wait_until(
            lambda: len(self.functions()) == count, f"{count} functions", seen=self.server.proc.log_text
        )


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Example]:
    argv = [str(Path(sys.executable).parent / "uvicorn"), "main:app", "--port", "PORT"]
    example = Example(tmp_path, "pipeline", 8000, argv, EXAMPLES / "pipeline")
    try:
        yield example.start()
    finally:
        example.stop()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Example]:
    example = Example(tmp_path, "shop", 3000, ["node", "dist/main.js"], ensure_shop())
    try:
        yield example.start()
    finally:
        example.stop()


def test_the_pipeline_runs_by_a_trigger_that_only_its_manifests_have(pipeline: Example) -> None:
    pipeline.registered(3)
    api = pipeline.server.api
    data = {"name": "a.txt", "kind": "text", "text": "one two\nthree\n\nfour five six"}
    other = api.send("archive/file.stored", {**data, "kind": "image"})
    event = api.send("archive/file.stored", data)
    (run,) = api.wait_runs(event)
    ended = api.wait_end(str(run["run_id"]))
    assert ended["status"] == "Completed", ended
    assert ended["output"] == {"name": "a.txt", "parts": 3, "words": 6}
    # The event before it had another kind, and events are routed in their order.
    assert api.http.get(f"{api.url}/v1/events/{other}/runs").json()["data"] == []


def test_a_changed_manifest_holds_without_a_restart(pipeline: Example) -> None:
    pipeline.registered(3)
    api = pipeline.server.api
    path = pipeline.manifests / "innkeeper.yaml"
    path.write_text(path.read_text().replace("archive/file.stored", "vault/file.stored"))
    wait_until(
        lambda: any("vault/file.stored" in str(each["triggers"]) for each in pipeline.functions().values()),
        "the new trigger",
        seen=pipeline.server.proc.log_text,
    )
    event = api.send("vault/file.stored", {"name": "b.txt", "kind": "text", "text": "one"})
    (run,) = api.wait_runs(event)
    assert api.wait_end(str(run["run_id"]))["status"] == "Completed"


def test_a_pause_over_the_api_outlives_a_changed_manifest_and_a_sync(pipeline: Example) -> None:
    pipeline.registered(3)
    api, log = pipeline.server.api, pipeline.server.proc.log_text
    (slug,) = [
        slug for slug, each in pipeline.functions().items() if "archive/file.stored" in str(each["triggers"])
    ]
    app_id = pipeline.functions()[slug]["app"]
    paused = api.http.post(f"{api.url}/v1/functions/{slug}/pause", json={"reason": "a test"})
    assert paused.json()["data"]["paused"]["by"] == "switch", paused.text
    path = pipeline.manifests / "innkeeper.yaml"
    path.write_text(path.read_text().replace("archive/file.stored", "vault/file.stored"))
    synced = api.http.post(f"{api.url}/v1/apps/{app_id}/sync")
    assert (synced.status_code, synced.json()["data"]["sync"]) == (200, "Done"), synced.text
    wait_until(lambda: "vault/file.stored" in str(pipeline.functions()[slug]["triggers"]), "it", seen=log)
    data = {"name": "d.txt", "kind": "text", "text": "one"}
    (run,) = api.wait_runs(api.send("vault/file.stored", data))
    assert run["status"] == "Skipped"
    assert api.http.post(f"{api.url}/v1/functions/{slug}/resume").json()["data"]["paused"] is None
    (run,) = api.wait_runs(api.send("vault/file.stored", data))
    assert api.wait_end(str(run["run_id"]))["status"] == "Completed"


def test_a_manifest_that_cannot_be_used_leaves_things_as_they_were(pipeline: Example) -> None:
    pipeline.registered(3)
    path = pipeline.manifests / "innkeeper.yaml"
    path.write_text(path.read_text().replace("event.data.kind == 'text'", "event.data.kind =="))
    log = pipeline.server.proc.log_text
    wait_until(lambda: "InvalidExpression" in log(), "the mistake is told", seen=log)
    api = pipeline.server.api
    event = api.send("archive/file.stored", {"name": "c.txt", "kind": "text", "text": "one"})
    (run,) = api.wait_runs(event)
    assert api.wait_end(str(run["run_id"]))["status"] == "Completed"
    path.write_text("kind: [")
    wait_until(lambda: "the manifests stay as they were" in log(), "the broken file is told", seen=log)


def test_the_shop_sends_an_order_and_cancels_another(shop: Example) -> None:
    shop.registered(3)
    api = shop.server.api
    order = {"id": "1001", "customer": "ada", "cents": 4200, "email": "ada@example.com"}
    placed = api.http.post(f"http://127.0.0.1:{shop.port}/orders", json=order)
    assert placed.status_code == 202, placed.text
    (run,) = api.wait_runs(placed.json()["event"])
    ended = api.wait_end(str(run["run_id"]))
    assert ended["status"] == "Completed", ended
    assert ended["output"]["receipt"] == "receipt for ch_1001 sent to ada@example.com"
    second = api.send("shop/order.placed", {**order, "id": "1002"})
    (run,) = api.wait_runs(second)
    api.send("shop/order.cancelled", {"id": "1002"})
    assert api.wait_end(str(run["run_id"]))["status"] == "Cancelled"


def test_a_mistake_in_a_manifest_ends_the_start_with_one_sentence(
    tmp_path: Path,
) -> None:
    (tmp_path / "wrong.yaml").write_text(
        "apiVersion: innkeeper.dev/v1alpha1\nkind: Function\nmetadata: {name: f}\n"
        "spec: {appRef: {name: a}, id: f, concurency: []}\n"
    )
    server = Server(tmp_path, more=["--manifests", str(tmp_path / "wrong.yaml")])
    server.proc.start()
    wait_until(lambda: server.proc.ended() is not None, "it ends", seen=server.proc.log_text)
    assert server.proc.ended() == (1,)
    assert "wrong.yaml: Function f: spec.concurency: there is no such field" in server.proc.log_text()
    server.proc.stop()
