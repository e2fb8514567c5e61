"""What the server does on a step's behalf: signals, HTTP requests, model calls."""

import uuid
from pathlib import Path

import pytest

from tests.sdk.harness import JS3, JS4, PY05, TYPESCRIPT, App, World, on

pytestmark = pytest.mark.sdk

SECRET = b"sk-innkeeper-secret"


def unique() -> str:
    """A value that no other test uses."""
    return uuid.uuid4().hex


# Python has no signals.
@on(*TYPESCRIPT)
def test_a_signal_sent_over_http_resumes_the_run_that_waits_for_it(app: App) -> None:
    name = unique()
    run = app.trigger("signal-wait", {"signal": name})
    run.wait_step("wait")
    reply = app.api.http.post("/v1/signals", json={"signal": name, "data": {"a": [1]}})
    assert reply.status_code == 200, reply.text
    assert reply.json()["data"]["run_id"] == run.id
    assert run.end()["output"] == {"signal": name, "data": {"a": [1]}}


@on(*TYPESCRIPT)
def test_a_signal_sent_by_a_step_resumes_the_run_that_waits_for_it(app: App) -> None:
    name = unique()
    run = app.trigger("signal-wait", {"signal": name})
    run.wait_step("wait")
    app.trigger("signal-send", {"signal": name}).end()
    assert run.end()["output"] == {"signal": name, "data": {"from": "step"}}


@on(*TYPESCRIPT)
def test_a_signal_that_does_not_come_times_out(app: App) -> None:
    run = app.trigger("signal-wait", {"signal": unique(), "timeout": "1s"})
    assert run.end()["output"] == {"timed_out": True}


@on(*TYPESCRIPT)
def test_a_second_run_cannot_wait_for_the_same_signal(app: App) -> None:
    name = unique()
    first = app.trigger("signal-wait", {"signal": name})
    first.wait_step("wait")
    second = app.trigger("signal-wait", {"signal": name})
    assert "signal" in str(second.end("Failed")["output"]).lower()
    app.api.http.post("/v1/signals", json={"signal": name, "data": 1})
    assert first.end()["output"] == {"signal": name, "data": 1}


@on(JS4)
def test_a_signal_that_nobody_waits_for_is_not_found(app: App) -> None:
    assert app.api.http.post("/v1/signals", json={"signal": unique(), "data": 1}).status_code == 404


# Python has no step.fetch.
@on(*TYPESCRIPT)
def test_the_server_fetches_for_a_step_once(app: App) -> None:
    token = unique()
    output = app.trigger("fetch", {"token": token}).end()["output"]
    assert output["status"] == 200
    assert output["type"].startswith("application/json")
    assert output["seen"]["method"] == "POST"
    assert output["seen"]["body"] == {"token": token}
    assert output["seen"]["mine"] == "yes"
    assert len(app.effects(fn="_echo", token=token)) == 1


@on(*TYPESCRIPT)
def test_a_fetch_answers_whatever_the_status_is(app: App) -> None:
    output = app.trigger("fetch", {"token": unique(), "status": 503}).end()["output"]
    assert output["status"] == 503


@on(*TYPESCRIPT)
def test_fetches_run_in_parallel_and_keep_their_order(app: App) -> None:
    assert app.trigger("fetch-parallel").end()["output"] == ["one", "two"]


@on(*TYPESCRIPT)
def test_a_fetch_that_reaches_nobody_is_an_error_after_its_retries(app: App) -> None:
    output = app.trigger("fetch-unreachable").end()["output"]
    assert output["caught"]["name"] == "GatewayError"
    assert "Error making gateway request" in output["caught"]["message"]


# Python has step.ai since 0.5.
@on(PY05, JS4, JS3)
def test_the_server_calls_the_model_for_a_step_once(app: App) -> None:
    token = unique()
    output = app.trigger("ai-infer", {"token": token}).end()["output"]
    assert output == {"text": f"echo: {token}", "auth_ok": True}
    assert len(app.effects(fn="_provider", token=token)) == 1


@on(PY05, JS4, JS3)
def test_a_model_that_refuses_is_asked_again_and_then_is_an_error(app: App) -> None:
    token = unique()
    output = app.trigger("ai-fails", {"token": token}).end()["output"]
    assert output["caught"]["name"] == "AIGatewayError"
    assert "unsuccessful status code: 429" in output["caught"]["message"]
    assert len(app.effects(fn="_provider", token=token)) == 2


@on(PY05, JS4, JS3)
def test_the_providers_key_is_shown_and_kept_nowhere(app: App, world: World) -> None:
    run = app.trigger("ai-infer", {"token": unique()})
    run.end()
    assert SECRET.decode() not in app.api.http.get(f"/v1/runs/{run.id}").text
    assert SECRET.decode() not in world.server.proc.log_text()
    kept = [p for p in files_of(world.server.data) if SECRET in p.read_bytes()]
    assert kept == []


def files_of(folder: Path) -> list[Path]:
    """Every regular file below a folder."""
    return [p for p in folder.rglob("*") if p.is_file()]


@on(*TYPESCRIPT)
def test_a_wrapped_model_call_is_a_step_of_the_app(app: App) -> None:
    run = app.trigger("ai-wrap")
    assert run.end()["output"] == {"got": {"echo": "hello"}}
    assert run.bodies() == {"wrapped": 1}
