"""A function calls another and gets its result, its error or a timeout, exactly once."""

import pytest

from tests.sdk.harness import ALL, JS4, PY05, App, Run, World, on, wait_until

pytestmark = pytest.mark.sdk


def invoked_by(app: App, run: Run, fn: str) -> list[dict[str, object]]:
    """What bodies of `fn` recorded in runs that `run` has invoked."""
    found = []
    for effect in app.effects(fn=fn):
        inner = (effect.get("data") or {}).get("_inngest") or {}
        if str(inner.get("correlation_id", "")).startswith(run.id):
            found.append(effect)
    return found


@on(*ALL)
def test_the_callees_result_comes_back(app: App) -> None:
    run = app.trigger("invoke-ok")
    assert run.end()["output"] == {"got": {"double": 42}}
    (effect,) = invoked_by(app, run, "callee")
    assert effect["event"] == "inngest/function.invoked"
    data = effect["data"]
    assert isinstance(data, dict)
    assert data["n"] == 21
    assert data["_inngest"]["fn_id"] == f"{app.id}-callee"


@on(*ALL)
def test_the_callees_failure_fails_a_caller_that_does_not_catch_it(app: App) -> None:
    run = app.trigger("invoke-fail")
    assert "callee boom" in str(run.end("Failed")["output"])


@on(*ALL)
def test_the_callees_failure_can_be_caught(app: App) -> None:
    output = app.trigger("invoke-fail-caught").end()["output"]
    assert output["caught"]["message"] == "callee boom"


@on(*ALL)
def test_an_invoke_that_times_out_is_an_error_and_the_callee_goes_on(app: App) -> None:
    run = app.trigger("invoke-timeout")
    assert run.end()["output"] == {
        "caught": {
            "name": "InngestInvokeTimeoutError",
            "message": "Timed out waiting for invoked function to complete",
        }
    }
    assert invoked_by(app, run, "callee-slow") == []
    wait_until(lambda: invoked_by(app, run, "callee-slow"), "the callee went on after its caller gave up")


@on(*ALL)
def test_a_function_is_invoked_by_its_id(app: App) -> None:
    assert app.trigger("invoke-by-id").end()["output"] == {"got": {"double": 8}}


@on(PY05, JS4)
def test_a_function_of_another_app_in_another_language_is_invoked(app: App, world: World) -> None:
    other = world.app(JS4 if app.sdk == PY05 else PY05)
    run = app.trigger("invoke-cross", {"app": other.id})
    assert run.end()["output"] == {"got": {"double": 10}}
    assert len(invoked_by(other, run, "callee")) == 1
    assert invoked_by(app, run, "callee") == []


@on(*ALL)
def test_invoking_an_unknown_function_is_an_error_that_names_it(app: App) -> None:
    output = app.trigger("invoke-unknown").end()["output"]
    assert "could not find function" in output["caught"]["message"]
    assert f"{app.id}-nobody" in output["caught"]["message"]


@on(*ALL)
def test_a_function_is_invoked_over_http(app: App) -> None:
    reply = app.api.http.post(f"/invoke/{app.id}-callee", json={"data": {"n": 3}})
    assert reply.status_code == 200, reply.text
    run = app.run_of(reply.json()["id"])
    assert run.end()["output"] == {"double": 6}


@on(PY05)
def test_invoking_an_unknown_function_over_http_is_not_found(app: App) -> None:
    reply = app.api.http.post(f"/invoke/{app.id}-nobody", json={"data": {}})
    assert reply.status_code == 404
    assert f"{app.id}-nobody" in reply.json()["error"]
