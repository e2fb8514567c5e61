"""Production mode: gateway and executor as processes of their own, every key in place, apps in cloud mode."""

import base64
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.sdk.harness import ALL, JS4, PY05, Api, App, Cluster, clean_env, free_port, make_app, wait_until

pytestmark = pytest.mark.sdk

MAIN, OLD, NEW = (f"signkey-prod-{secrets.token_hex(32)}" for _ in range(3))
EVENT_KEY = base64.urlsafe_b64encode(os.urandom(48)).decode()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Gateway and executor with a key and, as in a rotation, the key before it."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), MAIN, EVENT_KEY, fallback=OLD)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def in_production(sdk: str, folder: Path, api: Api, app_id: str, key: str, fallback: str = "") -> App:
    """The scenario app as it would be deployed: no dev mode, its keys in the environment."""
    env: dict[str, str | None] = {
        "INNGEST_SIGNING_KEY": key,
        "INNGEST_SIGNING_KEY_FALLBACK": fallback or None,
        "INNGEST_EVENT_KEY": EVENT_KEY,
        "NODE_ENV": "production",
    }
    return make_app(sdk, folder, api, app_id=app_id, env=env)


@pytest.mark.parametrize("sdk", ALL)
def test_signed_calls_are_accepted_and_unsigned_ones_are_not(
    sdk: str, cluster: Cluster, tmp_path: Path
) -> None:
    app = in_production(sdk, tmp_path, cluster.api, f"{sdk}-cloud", MAIN)
    try:
        app.start().sync_ok()
        run = app.trigger("parallel")
        assert run.end()["output"] == "ABC"
        assert run.bodies() == {"a": 1, "b": 1, "c": 1, "join": 1}
        assert all(call["signed"] for call in run.calls())
        (event_id,) = app.send_with_sdk([{"name": app.event("two-step"), "data": {"x": "é", "n": 1e21}}])
        assert app.run_of(event_id).end()["output"] == {"sum": 42}
        unsigned = app.http.post(f"/api/inngest?fnId={app.id}-no-step&stepId=step", json={})
        assert unsigned.status_code == 401
    finally:
        app.stop()


@pytest.mark.parametrize("sdk", ALL)
def test_the_sync_command_registers_an_app_in_band(sdk: str, cluster: Cluster, tmp_path: Path) -> None:
    """The app answers with its functions, signed; it need not reach the server itself."""
    app = in_production(sdk, tmp_path, cluster.api, f"{sdk}-in-band", MAIN)
    url = app.url
    try:
        app.start()
        for word in ("registered", "nothing has changed"):
            done = cluster.sync(url)
            assert (done.returncode, done.stdout) == (0, f"{url}: {word}\n"), done.stderr
        assert app.trigger("two-step").end()["output"] == {"sum": 42}
    finally:
        app.stop()
    gone = cluster.sync(url)
    assert gone.returncode == 1
    assert "refused" in gone.stderr


@pytest.mark.parametrize("sdk", [PY05, JS4])
def test_state_is_fetched_with_the_key(sdk: str, cluster: Cluster, tmp_path: Path) -> None:
    """What is too large for a request is asked for by the SDK, which must show its key."""
    app = in_production(sdk, tmp_path, cluster.api, f"{sdk}-cloud-large", MAIN)
    try:
        app.start().sync_ok()
        assert app.trigger("large-state").end(timeout_s=60)["output"]["length"] == 5 * 1024 * 1024
    finally:
        app.stop()


@pytest.mark.parametrize("sdk", ALL)
def test_an_app_that_knows_the_servers_key_as_its_fallback_goes_on_working(
    sdk: str, cluster: Cluster, tmp_path: Path
) -> None:
    """The app has been given its next key; the server does not know that one yet."""
    app = in_production(sdk, tmp_path, cluster.api, f"{sdk}-ahead", NEW, fallback=MAIN)
    try:
        app.start().sync_ok()
        assert app.trigger("two-step").end()["output"] == {"sum": 42}
    finally:
        app.stop()


@pytest.mark.parametrize("sdk", ALL)
def test_an_app_with_the_key_before_is_still_let_in(sdk: str, cluster: Cluster, tmp_path: Path) -> None:
    """The server has been given its next key; the app signs in with the old one and knows the new one."""
    app = in_production(sdk, tmp_path, cluster.api, f"{sdk}-behind", OLD, fallback=MAIN)
    try:
        app.start().sync_ok()
        assert app.trigger("two-step").end()["output"] == {"sum": 42}
    finally:
        app.stop()


@pytest.mark.parametrize("sdk", [PY05, JS4])
def test_an_app_with_a_wrong_key_is_not_registered(sdk: str, cluster: Cluster, tmp_path: Path) -> None:
    app = in_production(sdk, tmp_path, cluster.api, f"{sdk}-stranger", NEW)
    try:
        app.start()
        body = app.sync().text
        assert "Successfully registered" not in body
        assert '"ok":true' not in body.replace(" ", "")
    finally:
        app.stop()
    event_id = cluster.api.send(f"{sdk}-stranger/no-step")
    marker = in_production(sdk, tmp_path, cluster.api, f"{sdk}-known", MAIN)
    try:
        marker.start().sync_ok()
        marker.trigger("no-step").end()
        assert cluster.api.runs_of(event_id) == []
    finally:
        marker.stop()


def test_every_door_asks_for_its_key(cluster: Cluster) -> None:
    run_id = "01H08W4TMBNKMEWFD0TYC532GG"
    doors = [
        ("POST", "/fn/register"),
        ("GET", f"/v1/runs/{run_id}"),
        ("DELETE", f"/v1/runs/{run_id}"),
        ("GET", f"/v1/events/{run_id}/runs"),
        ("GET", f"/v0/runs/{run_id}/actions"),
        ("GET", f"/v0/runs/{run_id}/batch"),
        ("POST", "/v1/signals"),
        ("POST", f"/v1/checkpoint/{run_id}/async"),
        ("POST", "/invoke/anybody-anything"),
    ]
    with httpx.Client(base_url=cluster.api.url, trust_env=False) as stranger:
        for bearer in (None, "Bearer undefined", "Bearer", f"Bearer {NEW}"):
            headers = {} if bearer is None else {"Authorization": bearer}
            for method, path in doors:
                reply = stranger.request(method, path, headers=headers, json={})
                assert reply.status_code == 401, f"{bearer} {method} {path}: {reply.status_code} {reply.text}"
        event = {"name": "any/thing", "data": {}}
        for key in ("test", "NO_EVENT_KEY_SET", EVENT_KEY[:-1], MAIN):
            reply = stranger.post(f"/e/{key}", json=event)
            assert reply.status_code == 401, f"{key}: {reply.text}"
            assert reply.json()["error"] == "Event key not found"
        assert stranger.post(f"/e/{EVENT_KEY}", json=event).status_code == 200
        assert stranger.get("/ready").headers["x-inngest-server-kind"] == "cloud"


def test_no_key_is_written_to_a_log_or_to_the_disk(cluster: Cluster, tmp_path: Path) -> None:
    app = in_production(JS4, tmp_path, cluster.api, "js4-quiet", MAIN)
    try:
        app.start().sync_ok()
        app.trigger("ai-infer", {"token": "quiet"}).end()
    finally:
        app.stop()
    hidden = [key.removeprefix("signkey-prod-") for key in (MAIN, OLD)]
    hidden += [EVENT_KEY, cluster.encryption_key, "sk-innkeeper-secret"]
    for proc in cluster.procs:
        for secret in hidden:
            assert secret not in proc.log_text(), proc.name
    for file in cluster.folder.rglob("*"):
        if file.is_file():
            kept = file.read_bytes()
            assert not [s for s in hidden if s.encode() in kept], file


# What is sealed is for executors alone to open, and only the gateway meets senders.
@pytest.mark.parametrize(("role", "key"), [("gateway", "EVENT_KEY"), ("executor", "ENCRYPTION_KEY")])
def test_a_role_does_not_start_without_its_keys_and_names_them(role: str, key: str, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, MAIN, EVENT_KEY)
    bare = cluster.role(role, clean_env({"INNKEEPER_PORT": str(free_port())}))
    bare.start()
    try:
        code = wait_until(bare.ended, f"{role} without keys ended", timeout_s=20, seen=bare.tail)
        assert code[0] != 0
    finally:
        bare.stop()
    for name in ("INNKEEPER_REDIS_URL", "INNKEEPER_SIGNING_KEY", f"INNKEEPER_{key}"):
        assert name in bare.log_text()
