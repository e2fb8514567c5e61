"""How apps become known: by their own PUT, by the server's, by a raw registration; and what a refusal leaves."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sdk.harness import ALL, JS4, PY05, TYPESCRIPT, App, Server, make_app, on, wait_until

pytestmark = pytest.mark.sdk


def function(slug: str, **config: object) -> dict[str, object]:
    """One function as it stands in a registration."""
    runtime = {"type": "http", "url": f"http://127.0.0.1:9/api/inngest?fnId={slug}&stepId=step"}
    step = {"id": "step", "name": "step", "runtime": runtime, "retries": {"attempts": 0}}
    defaults = {"id": slug, "name": slug, "triggers": [{"event": "raw/go"}], "steps": {"step": step}}
    return defaults | config


def like_typescript(app_id: str, *functions: dict[str, object]) -> dict[str, object]:
    """A registration in the spelling of the TypeScript SDK."""
    return {
        "url": "http://127.0.0.1:9/api/inngest",
        "deployType": "ping",
        "framework": "express",
        "appName": app_id,
        "functions": list(functions),
        "sdk": "js:v4.24.0",
        "v": "0.1",
        "capabilities": {"trust_probe": "v1", "connect": "v1"},
        "featureObservations": {"sendEvents": {}},
    }


def like_python(app_id: str, *functions: dict[str, object]) -> dict[str, object]:
    """A registration in the spelling of the Python SDK, which differs in two keys."""
    body = like_typescript(app_id, *functions)
    body |= {"appname": body.pop("appName"), "deploy_type": body.pop("deployType"), "sdk": "py:v0.5.19"}
    del body["featureObservations"]
    return body


def register(server: Server, body: object, **headers: str) -> httpx.Response:
    """`POST /fn/register`."""
    return server.api.http.post("/fn/register", json=body, headers=headers)


def listed(server: Server) -> str:
    """What `GET /dev` tells."""
    return server.api.http.get("/dev").text


@on(*ALL)
def test_a_second_sync_changes_nothing(app: App) -> None:
    reply = app.sync()
    assert reply.status_code == 200, reply.text
    assert reply.json()["modified"] is False


@on(*ALL)
def test_the_server_says_what_it_is(app: App) -> None:
    assert app.api.http.get("/dev").headers["x-inngest-server-kind"] == "dev"
    assert f"{app.id}-two-step" in app.api.http.get("/dev").text


@pytest.mark.parametrize("sdk", [PY05, JS4])
def test_the_server_finds_an_app_that_starts_after_it(sdk: str, tmp_path: Path) -> None:
    server = Server(tmp_path)
    app = make_app(sdk, tmp_path, server.api)
    server = Server(tmp_path, app_urls=[app.url], port=server.port)
    try:
        server.start()
        app.start()
        wait_until(
            lambda: f"{app.id}-no-step" in listed(server),
            "the server synced the app by itself",
            timeout_s=20,
            seen=lambda: listed(server)[:2000],
        )
        app.trigger("no-step").end()
    finally:
        app.stop()
        server.stop()


# Version 3 of TypeScript takes only the mode from this variable, not the address.
@pytest.mark.parametrize("sdk", [PY05, JS4])
def test_an_app_is_pointed_at_the_server_by_inngest_dev(
    sdk: str, fresh_server: Server, tmp_path: Path
) -> None:
    env = {"INNGEST_DEV": fresh_server.url, "INNGEST_BASE_URL": None}
    app = make_app(sdk, tmp_path, fresh_server.api, app_id=f"{sdk}-pointed", env=env)
    try:
        app.start()
        app.sync_ok()
        assert app.trigger("no-step", {"name": "x"}).end()["output"]["hello"] == "x"
        (event_id,) = app.send_with_sdk([{"name": app.event("no-step"), "data": {"name": "y"}}])
        assert app.run_of(event_id).end()["output"]["hello"] == "y"
    finally:
        app.stop()


@on(*TYPESCRIPT)
def test_both_ways_in_which_typescript_sends_no_key_are_let_in(app: App) -> None:
    # An empty token leaves "Bearer ", and a field value has no space at its end (RFC 9110, section 5.5).
    for value in ("Bearer undefined", "Bearer"):
        headers = {"Authorization": value}
        assert app.api.http.get("/dev", headers=headers).status_code == 200
        event = {"name": app.event("nobody"), "data": {}}
        assert app.api.http.post("/e/NO_EVENT_KEY_SET", json=[event], headers=headers).status_code == 200


def test_both_spellings_of_a_registration_are_understood(fresh_server: Server) -> None:
    for app_id, spell in (("raw-js", like_typescript), ("raw-py", like_python)):
        body = spell(app_id, function(f"{app_id}-a"))
        reply = register(fresh_server, body)
        assert reply.status_code == 200, reply.text
        assert reply.json()["ok"] is True
        assert reply.json()["modified"] is True
        again = register(fresh_server, body)
        assert again.json()["modified"] is False
        assert again.json()["app_id"] == reply.json()["app_id"]
        assert f"{app_id}-a" in listed(fresh_server)


def test_a_sync_replaces_the_apps_functions(fresh_server: Server) -> None:
    assert register(fresh_server, like_typescript("raw", function("raw-a"), function("raw-b"))).is_success
    assert register(fresh_server, like_typescript("raw", function("raw-b"), function("raw-c"))).is_success
    names = listed(fresh_server)
    assert "raw-b" in names
    assert "raw-c" in names
    assert "raw-a" not in names
    assert register(fresh_server, like_typescript("raw")).json()["ok"] is True
    assert "raw-b" not in listed(fresh_server)


BAD: dict[str, dict[str, Any]] = {
    "cron of three fields": {"triggers": [{"cron": "* * *"}]},
    "expression that is no CEL": {"triggers": [{"event": "raw/go", "expression": "event.data.x >"}]},
    "trigger that is nothing": {"triggers": [{}]},
    "eleven triggers": {"triggers": [{"event": f"raw/{i}"} for i in range(11)]},
    "no url": {"steps": {"step": {"id": "step", "name": "step", "runtime": {"type": "http"}}}},
    "cancellation that is no CEL": {"cancel": [{"event": "raw/stop", "if": "event.data.x = 1"}]},
}


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that knows one raw app."""
    server = Server(tmp_path_factory.mktemp("registered")).start()
    assert register(server, like_typescript("raw", function("raw-a"))).is_success
    yield server
    server.stop()


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_refused_registration_says_why_and_keeps_the_old_one(
    registered: Server, bad: dict[str, Any]
) -> None:
    body = like_typescript("raw", function("raw-good"), function("raw-bad", **bad))
    reply = register(registered, body)
    assert reply.status_code == 400, reply.text
    assert "raw-bad" in reply.json()["error"], "all or nothing, and the one that is wrong is named"
    names = listed(registered)
    assert "raw-a" in names
    assert "raw-good" not in names


def test_registrations_that_are_no_registrations_are_refused(registered: Server) -> None:
    http = registered.api.http
    no_json = http.post("/fn/register", content=b"{", headers={"content-type": "application/json"})
    assert no_json.status_code == 400
    assert no_json.json()["error"]
    no_name = register(registered, like_typescript("", function("raw-a")))
    assert no_name.status_code == 400
    assert no_name.json()["error"].startswith("App ID required")
    wrong_kind = register(
        registered,
        like_typescript("other", function("other-a")),
        **{"x-inngest-expected-server-kind": "cloud"},
    )
    assert wrong_kind.status_code == 400
    assert "Expected server kind cloud, got dev" in wrong_kind.json()["error"]
    assert "other-a" not in listed(registered)


# The SDKs pass bad configuration on and show what the server said about it.
def test_the_sdk_tells_its_developer_what_the_server_refused(registered: Server, tmp_path: Path) -> None:
    env = {"INNGEST_DEV": "1", "BAD_CRON": "* * *"}
    for sdk in ALL:
        app = make_app(sdk, tmp_path, registered.api, app_id=f"{sdk}-bad", env=env)
        try:
            app.start()
            reply = app.sync()
            assert "bad-cron" in reply.text, f"{sdk}: {reply.status_code} {reply.text}"
            assert f"{sdk}-bad-no-step" not in listed(registered)
        finally:
            app.stop()
