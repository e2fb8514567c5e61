"""`kubectl apply` of an InngestApp, and the functions of a real app run: the whole product on a Kubernetes API."""

import hashlib
import hmac
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kube.cluster import Cluster
from tests.kube.emulator import KubeEmulator
from tests.kube.fixtures import module_cluster, module_emulator, real_api  # noqa: F401 - fixtures
from tests.sdk.harness import ROOT, Proc, clean_env, ensure_shop, free_port, wait_until
from tests.sdk.kubernetes import Kubernetes, condition

pytestmark = [pytest.mark.sdk, pytest.mark.xdist_group("kubernetes")]

ORDER = {"id": "1001", "customer": "ada", "cents": 4200, "email": "ada@example.com"}
FILE = {"name": "a.txt", "text": "one two\nthree"}


@pytest.fixture(scope="module")
def kubernetes(
    tmp_path_factory: pytest.TempPathFactory,
    module_cluster: Cluster,  # noqa: F811
    request: pytest.FixtureRequest,
) -> Iterator[Kubernetes]:
    emulator: KubeEmulator | None = (
        None if module_cluster.real else request.getfixturevalue("module_emulator")
    )
    world = Kubernetes(tmp_path_factory.mktemp("kubernetes"), module_cluster, emulator)
    try:
        world.start()
        yield world
    finally:
        world.stop()


class RunningApp:
    """An example app with the environment that its Secret gives it: what `envFrom` does in a pod."""

    def __init__(self, kubernetes: Kubernetes, folder: Path, namespace: str, name: str) -> None:
        self.kubernetes, self.namespace, self.name = kubernetes, namespace, name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/inngest"
        uvicorn = str(Path(sys.executable).parent / "uvicorn")
        self._argv, self._cwd = {
            "pipeline": ([uvicorn, "main:app", "--port", str(self.port)], ROOT / "examples" / "pipeline"),
            "shop": (["node", "dist/main.js"], ensure_shop() if name == "shop" else ROOT),
        }[name]
        self._log = folder / f"{name}.log"
        self.proc: Proc | None = None

    def start(self) -> None:
        """Start it (again) with what the Secret says now."""
        if self.proc is not None:
            self.proc.stop()
        env = self.kubernetes.secret(self.namespace, f"{self.name}-inngest-env")
        env |= {"PORT": str(self.port), "HOST": "127.0.0.1"}
        self.proc = Proc(self.name, self._argv, env=clean_env(env), log=self._log, cwd=self._cwd)
        self.proc.start()
        self.proc.wait_ready(self.url.replace("/api/inngest", "/healthz"))

    def stop(self) -> None:
        """End it."""
        if self.proc is not None:
            self.proc.stop()


@pytest.fixture
def pipeline(kubernetes: Kubernetes, tmp_path: Path) -> Iterator[RunningApp]:
    namespace = kubernetes.cluster.create_namespace("data")
    app = RunningApp(kubernetes, tmp_path, namespace, "pipeline")
    try:
        kubernetes.declare(namespace, "pipeline", app.url)
        app.start()
        yield app
    finally:
        app.stop()


@pytest.fixture
def shop(kubernetes: Kubernetes, tmp_path: Path) -> Iterator[RunningApp]:
    namespace = kubernetes.cluster.create_namespace("prod")
    app = RunningApp(kubernetes, tmp_path, namespace, "shop")
    try:
        kubernetes.declare(namespace, "shop", app.url, appId="shop")
        app.start()
        yield app
    finally:
        app.stop()


def run_to_end(app: RunningApp, event: str, data: dict[str, Any]) -> dict[str, Any]:
    api = app.kubernetes.api(app.namespace)
    (run,) = api.wait_runs(api.send(event, data))
    return api.wait_end(str(run["run_id"]))


def test_an_app_that_is_applied_becomes_ready_and_runs(pipeline: RunningApp) -> None:
    kubernetes = pipeline.kubernetes
    ready = kubernetes.wait_condition("InngestApp", pipeline.namespace, "pipeline", "Ready", "True")
    status = ready["status"]
    assert status["appId"] == "pipeline"
    assert status["functions"] == 3
    assert (status["sdk"]["language"], status["sdk"]["framework"]) == ("py", "fast_api")
    functions = kubernetes.cluster.list("Function", pipeline.namespace)
    assert sorted(each["spec"]["id"] for each in functions) == ["count-part", "count-words", "sweep"]
    for function in functions:
        name = function["metadata"]["name"]
        kubernetes.wait_condition("Function", pipeline.namespace, name, "Ready", "True")
    ended = run_to_end(pipeline, "pipeline/file.arrived", FILE)
    assert ended["status"] == "Completed", ended
    assert ended["output"] == {"name": "a.txt", "parts": 2, "words": 3}


def test_an_app_in_typescript_too(shop: RunningApp) -> None:
    kubernetes = shop.kubernetes
    ready = kubernetes.wait_condition("InngestApp", shop.namespace, "shop", "Ready", "True")
    assert ready["status"]["sdk"]["language"] == "js"
    ended = run_to_end(shop, "shop/order.placed", ORDER)
    assert ended["status"] == "Completed", ended
    assert ended["output"]["receipt"] == "receipt for ch_1001 sent to ada@example.com"


def test_a_function_is_changed_and_paused_without_a_deployment(pipeline: RunningApp) -> None:
    kubernetes, namespace = pipeline.kubernetes, pipeline.namespace
    kubernetes.wait_condition("InngestApp", namespace, "pipeline", "Ready", "True")
    trigger = [{"event": "archive/file.stored", "if": "event.data.kind == 'text'"}]
    kubernetes.override(namespace, "counting", "pipeline", "count-words", triggers=trigger, retries=0)
    cluster = kubernetes.cluster
    cluster.wait_for(
        "Function",
        namespace,
        "counting",
        lambda function: (function or {}).get("status", {}).get("overridden") == ["retries", "triggers"],
        20,
    )
    ended = run_to_end(pipeline, "archive/file.stored", FILE | {"kind": "text"})
    assert ended["status"] == "Completed", ended
    # The operator's own object for the same function has gone.
    cluster.wait_for("Function", namespace, "pipeline-count-words", lambda function: function is None, 20)

    kubernetes.override(
        namespace, "counting", "pipeline", "count-words", triggers=trigger, retries=0, paused=True
    )
    api = kubernetes.api(namespace)

    def skipped() -> bool:
        (run,) = api.wait_runs(api.send("archive/file.stored", FILE | {"kind": "text"}))
        return str(api.run(str(run["run_id"]))["status"]) == "Skipped"

    wait_until(skipped, "a run is skipped")

    wrong = [{"event": "archive/file.stored", "if": "event.data.kind =="}]
    kubernetes.override(namespace, "counting", "pipeline", "count-words", triggers=wrong, retries=0)
    refused = kubernetes.wait_condition(
        "Function", namespace, "counting", "Accepted", "False", "InvalidExpression"
    )
    assert "spec.triggers[0].if" in condition(refused, "Accepted")["message"]
    # It is not paused any more, and its last good trigger holds.
    wait_until(
        lambda: run_to_end(pipeline, "archive/file.stored", FILE | {"kind": "text"})["status"] == "Completed",
        "the last good configuration runs on",
    )


def test_namespaces_do_not_see_each_other(pipeline: RunningApp, shop: RunningApp) -> None:
    kubernetes = pipeline.kubernetes
    for app in (pipeline, shop):
        kubernetes.wait_condition("InngestApp", app.namespace, app.name, "Ready", "True")
    ended = run_to_end(pipeline, "pipeline/file.arrived", FILE)
    theirs, ours = kubernetes.api(shop.namespace), kubernetes.api(pipeline.namespace)
    run_id = ended["run_id"]
    assert ours.http.get(f"/v1/runs/{run_id}").status_code == 200
    assert theirs.http.get(f"/v1/runs/{run_id}").status_code == 404
    event = theirs.send("pipeline/file.arrived", FILE)
    assert theirs.runs_of(event) == []
    assert ours.http.get(f"/v1/events/{event}/runs").json()["data"] == []
    assert kubernetes.anonymous().get(f"/v1/runs/{run_id}").status_code == 401
    assert kubernetes.anonymous().post("/e/guess", json={"name": "a"}).status_code == 401


def test_an_app_registers_itself_through_the_gateway(pipeline: RunningApp) -> None:
    kubernetes, namespace = pipeline.kubernetes, pipeline.namespace
    kubernetes.wait_condition("InngestApp", namespace, "pipeline", "Ready", "True")
    # What an app does at its own start or on `curl -X PUT`: it posts its functions, signed.
    api = kubernetes.api(namespace)
    answer = api.http.put(pipeline.url)
    assert answer.status_code == 200, answer.text
    stranger = {
        "url": pipeline.url,
        "deployType": "ping",
        "appName": "stranger",
        "sdk": "py:v0.5.19",
        "v": "0.1",
    }
    function = {
        "id": "stranger-f",
        "name": "f",
        "triggers": [{"event": "a"}],
        "steps": {"step": {"id": "step", "name": "s", "runtime": {"type": "http", "url": pipeline.url}}},
    }
    refused = api.http.post("/fn/register", json=stranger | {"framework": "fastapi", "functions": [function]})
    assert refused.status_code == 403, refused.text
    assert kubernetes.anonymous().post("/fn/register", json=stranger).status_code == 401


def test_the_signing_key_rotates_without_a_failed_run(pipeline: RunningApp) -> None:
    kubernetes, namespace = pipeline.kubernetes, pipeline.namespace
    kubernetes.wait_condition("InngestApp", namespace, "pipeline", "Ready", "True")
    old = kubernetes.secret(namespace, "innkeeper-keys")["signing-key"]
    new = f"signkey-{namespace.replace('-', '_')}-{'ab' * 32}"
    outcomes = [run_to_end(pipeline, "pipeline/file.arrived", FILE)["status"]]
    kubernetes.cluster.patch(
        "secrets",
        namespace,
        "innkeeper-keys",
        {"stringData": {"signing-key": new, "signing-key-fallback": old}},
    )

    def told() -> bool:
        env = kubernetes.secret(namespace, "pipeline-inngest-env")
        return (env["INNGEST_SIGNING_KEY"], env.get("INNGEST_SIGNING_KEY_FALLBACK")) == (new, old)

    # The app still has the old key alone.
    wait_until(told, "the app's Secret has both keys")
    outcomes += [run_to_end(pipeline, "pipeline/file.arrived", FILE)["status"] for _ in range(3)]
    pipeline.start()
    outcomes += [run_to_end(pipeline, "pipeline/file.arrived", FILE)["status"] for _ in range(3)]
    kubernetes.cluster.patch("secrets", namespace, "innkeeper-keys", {"data": {"signing-key-fallback": None}})
    with kubernetes.anonymous() as http:
        bearer = {"Authorization": f"Bearer {old}"}
        wait_until(
            lambda: http.get("/v1/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV", headers=bearer).status_code == 401,
            "the old key opens nothing",
        )
    outcomes += [run_to_end(pipeline, "pipeline/file.arrived", FILE)["status"] for _ in range(3)]
    assert outcomes == ["Completed"] * 10


def test_an_app_that_is_deleted_is_drained(shop: RunningApp) -> None:
    kubernetes, namespace = shop.kubernetes, shop.namespace
    kubernetes.wait_condition("InngestApp", namespace, "shop", "Ready", "True")
    api = kubernetes.api(namespace)
    (run,) = api.wait_runs(api.send("shop/parcel.requested", {"id": "7"}))
    wait_until(
        lambda: any(step.get("name") == "pack" for step in api.run(str(run["run_id"])).get("steps") or []),
        "the run is under way",
    )
    kubernetes.cluster.delete("InngestApp", namespace, "shop")
    assert api.wait_end(str(run["run_id"]))["status"] == "Completed"
    kubernetes.cluster.wait_for("InngestApp", namespace, "shop", lambda app: app is None, 30)
    event = api.send("shop/parcel.requested", {"id": "8"})
    assert api.runs_of(event) == []


def test_ready_comes_within_three_seconds_of_apply(kubernetes: Kubernetes, tmp_path: Path) -> None:
    """Measured for an app that answers; the figure is printed, the bound is generous for a busy machine."""
    namespace = kubernetes.cluster.create_namespace("quick")
    app = RunningApp(kubernetes, tmp_path, namespace, "pipeline")
    try:
        # Its keys are there before it is: the first object makes them.
        kubernetes.declare(namespace, "pipeline", app.url)
        app.start()
        kubernetes.wait_condition("InngestApp", namespace, "pipeline", "Ready", "True")
        kubernetes.cluster.delete("InngestApp", namespace, "pipeline")
        kubernetes.cluster.wait_for("InngestApp", namespace, "pipeline", lambda app: app is None, 30)
        began = time.monotonic()
        kubernetes.declare(namespace, "pipeline", app.url)
        kubernetes.wait_condition("InngestApp", namespace, "pipeline", "Ready", "True")
        took_s = time.monotonic() - began
        print(f"apply to Ready: {took_s:.2f} s")
        assert took_s < 10
    finally:
        app.stop()


def test_a_webhook_that_is_applied_takes_what_its_provider_sends(pipeline: RunningApp) -> None:
    """Its URL and its state are in the status; what is proved becomes an event, and a run."""
    kubernetes, namespace = pipeline.kubernetes, pipeline.namespace
    kubernetes.wait_condition("InngestApp", namespace, "pipeline", "Ready", "True")
    proof = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "uploads", "namespace": namespace, "labels": {"innkeeper.dev/key": "webhook"}},
        "stringData": {"secret": "as-typed-at-github"},
    }
    webhook = {
        "apiVersion": "innkeeper.dev/v1alpha1",
        "kind": "Webhook",
        "metadata": {"name": "uploads", "namespace": namespace},
        "spec": {
            "transform": {
                "script": "function transform(evt) { return {name: 'pipeline/file.arrived', id: evt.id, data: evt.file} }"
            },
            "verify": {"github": {"secretRef": {"name": "uploads", "key": "secret"}}},
        },
    }
    for manifest in (proof, webhook):
        kubernetes.cluster.apply(manifest)
    ready = kubernetes.wait_condition("Webhook", namespace, "uploads", "Ready", "True")
    url = ready["status"]["url"]
    assert url.startswith(f"{kubernetes.url}/w/")
    body = json.dumps({"id": "delivery-1", "file": FILE}).encode()

    def post(secret: bytes) -> tuple[int, list[str]]:
        signature = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
        reply = kubernetes.anonymous().post(url, content=body, headers={"x-hub-signature-256": signature})
        return reply.status_code, reply.json().get("ids", [])

    assert post(b"somebody-else") == (401, [])
    status, ids = post(b"as-typed-at-github")
    assert status == 200
    api = kubernetes.api(namespace)
    (run,) = api.wait_runs(ids[0])
    assert api.wait_end(str(run["run_id"]))["status"] == "Completed"
    kubernetes.cluster.delete("Webhook", namespace, "uploads")
    wait_until(lambda: post(b"as-typed-at-github")[0] == 404, "the URL is closed")


def test_a_webhook_that_a_site_asks_for_is_approved_and_starts_runs(pipeline: RunningApp) -> None:
    """The page, the operator, the provider: from the link on a site to a run."""
    kubernetes, namespace = pipeline.kubernetes, pipeline.namespace
    kubernetes.wait_condition("InngestApp", namespace, "pipeline", "Ready", "True")
    browser = kubernetes.anonymous()
    link = "/intent/create-webhook"
    assert "Pipeline asks for a webhook" in browser.get(link, params={"name": "Pipeline"}).text
    form = {"name": "Pipeline", "redirect_uri": "", "namespace": namespace}
    assert browser.post(link, data=form | {"token": "x" * 32}).status_code == 401
    page = browser.post(link, data=form | {"token": kubernetes.admin_token})
    assert page.status_code == 200, page.text
    (url,) = re.findall(r"<pre>(http[^<]+)</pre>", page.text)
    (webhook,) = (
        each
        for each in kubernetes.cluster.list("webhooks.innkeeper.dev", namespace)
        if each["metadata"]["name"].startswith("pipeline-")
    )
    assert webhook["metadata"]["annotations"]["innkeeper.dev/approved-by"] == "admin token"
    sent = browser.post(url, json={"type": "file.arrived", "data": FILE})
    assert sent.status_code == 200, sent.text
    api = kubernetes.api(namespace)
    (run,) = api.wait_runs(sent.json()["ids"][0])
    assert api.wait_end(str(run["run_id"]))["status"] == "Completed"


def test_prometheus_reads_every_role(pipeline: RunningApp) -> None:
    """What a run has left: the shard's numbers on gateway and executor alike, and each role's own."""
    kubernetes, namespace = pipeline.kubernetes, pipeline.namespace
    kubernetes.wait_condition("InngestApp", namespace, "pipeline", "Ready", "True")
    api = kubernetes.api(namespace)
    event_id = api.send("pipeline/file.arrived", FILE)
    (run,) = api.wait_runs(event_id)
    api.wait_end(str(run["run_id"]))
    ended = re.compile(
        rf'inngest_function_run_ended_total{{date="[0-9-]+",env="{namespace}",fn="[^"]+",status="Completed"}} [1-9]'
    )
    for role in ("gateway", "executor"):
        wait_until(
            lambda role=role: ended.search(kubernetes.metrics(role)) is not None, f"{role} shows the run"
        )
        assert "innkeeper_redis_up 1\n" in kubernetes.metrics(role)
    assert f'innkeeper_events_accepted_total{{env="{namespace}"}}' in kubernetes.metrics("gateway")
    assert "innkeeper_app_requests_total" in kubernetes.metrics("executor")
    assert "innkeeper_syncs_total" in kubernetes.metrics("operator")
    own = api.http.get(f"/v1/prom/{namespace}")
    assert own.status_code == 200
    assert "env=" not in own.text
    assert "inngest_function_run_ended_total" in own.text
    assert api.http.get("/v1/prom/somebody-else").status_code == 404
    assert kubernetes.anonymous().get(f"/v1/prom/{namespace}").status_code == 401
