"""Runs once more: from one of their steps, with other input, and many at once."""

import uuid
from typing import Any

import pytest

from tests.sdk.harness import ALL, JS3, JS4, PY05, PYTHON, TYPESCRIPT, App, Run, on, step_hash, wait_until

pytestmark = pytest.mark.sdk


def rerun(run: Run, step_id: str, **from_step: Any) -> Run:
    """The run once more, from this step on."""
    body = {"from_step": {"step_id": step_hash(step_id), **from_step}}
    reply = run.app.api.http.post(f"/v1/runs/{run.id}/rerun", json=body)
    assert reply.status_code == 200, reply.text
    return Run(run.app, run.event_id, reply.json()["data"]["run_id"])


@on(*ALL)
def test_a_rerun_from_a_step_takes_over_what_was_before_it(app: App) -> None:
    """The step before it does not run again."""
    run = app.trigger("two-step")
    run.end()
    again = rerun(run, "b")
    assert again.end()["output"] == {"sum": 42}
    assert again.bodies() == {"b": 1}
    assert again.wait_step("a")["inherited"] is True
    assert again.now()["rerun_of"] == run.id


@on(*ALL)
def test_a_rerun_from_the_first_step_runs_them_all(app: App) -> None:
    run = app.trigger("two-step")
    run.end()
    again = rerun(run, "a")
    assert again.end()["output"] == {"sum": 42}
    assert again.bodies() == {"a": 1, "b": 1}


@on(*ALL)
def test_a_rerun_from_a_parallel_step_runs_what_came_after_it(app: App) -> None:
    run = app.trigger("parallel")
    run.end()
    order = [e["step"] for e in run.effects()]
    again = rerun(run, "join")
    assert again.end()["output"] == "ABC"
    assert again.bodies() == {"join": 1}
    again = rerun(run, order[0])
    assert again.end()["output"] == "ABC"
    assert set(again.bodies()) >= {order[0], "join"}
    assert set(again.bodies().values()) == {1}


@on(*TYPESCRIPT)
@pytest.mark.parametrize("step", ["first", "left", "right", "last"])
def test_a_step_runs_with_the_arguments_that_were_edited(app: App, step: str) -> None:
    """Also one of a parallel group; what follows sees its new result, and no step runs twice."""
    run = app.trigger("arguments")
    assert run.end()["output"] == [13, 103, 116]
    again = rerun(run, step, input=[1000, 1])
    first = 1001 if step == "first" else 3
    left = 1001 if step == "left" else first + 10
    right = 1001 if step == "right" else first + 100
    last = 1001 if step == "last" else left + right
    assert again.end()["output"] == [left, right, last]
    (effect,) = again.effects(step)
    assert (effect["a"], effect["b"]) == (1000, 1)
    assert set(again.bodies().values()) == {1}


@on(*TYPESCRIPT)
def test_a_wrapped_model_call_runs_with_another_prompt(app: App) -> None:
    run = app.trigger("ai-wrap")
    run.end()
    assert rerun(run, "wrap", input=["other"]).end()["output"] == {"got": {"echo": "other"}}


@on(PY05, JS4, JS3)
def test_a_model_is_asked_with_another_prompt(app: App) -> None:
    """Here in the request: no SDK has to know."""
    run = app.trigger("ai-infer", {"token": uuid.uuid4().hex})
    run.end()
    other = uuid.uuid4().hex
    again = rerun(run, "infer", input={"messages": [{"role": "user", "content": other}]})
    assert again.end()["output"] == {"text": f"echo: {other}", "auth_ok": True}
    assert len(app.effects(fn="_provider", token=other)) == 1


@on(*PYTHON)
def test_python_takes_no_edited_input(app: App) -> None:
    """It would take it for the step's result."""
    run = app.trigger("two-step")
    run.end()
    body = {"from_step": {"step_id": step_hash("b"), "input": [1]}}
    reply = app.api.http.post(f"/v1/runs/{run.id}/rerun", json=body)
    assert (reply.status_code, "only the TypeScript SDK" in reply.json()["error"]) == (400, True)


@on(JS4, PY05)
def test_what_failed_is_run_once_more(app: App) -> None:
    """A replay of the function's failed runs with this event."""
    token = uuid.uuid4().hex
    runs = [app.trigger("fn-fails", {"token": token}) for _ in range(3)]
    for run in runs:
        run.end("Failed")
    body = {
        "app_id": runs[0].now()["app_id"],
        "function_id": "fn-fails",
        "if": f"event.data.token == '{token}'",
    }
    reply = app.api.http.post("/v1/replays", json=body)
    assert reply.status_code == 200, reply.text
    path = f"/v1/replays/{reply.json()['data']['id']}"

    def done() -> dict[str, Any] | None:
        shown: dict[str, Any] = app.api.http.get(path).json()["data"]
        return shown if shown["done"] else None

    assert wait_until(done, "the replay's end", timeout_s=20.0, seen=lambda: None)["replayed"] == 3
    for run in runs:
        (_, again) = app.api.wait_runs(run.event_id, 2)
        found = app.api.wait_end(again["run_id"], timeout_s=20.0)
        assert (found["rerun_of"], found["status"]) == (run.id, "Failed")
