"""Runs are cancelled by events and by hand; what ended is told by internal events."""

import uuid

import pytest

from tests.sdk.harness import ALL, PY05, App, Run, on, wait_until

pytestmark = pytest.mark.sdk


def unique() -> str:
    """A value that no other test uses."""
    return uuid.uuid4().hex


def told(app: App, end: str, run: Run) -> dict[str, object]:
    """The event `inngest/function.{end}` of a run, as a function got it; exactly one."""
    seen = wait_until(
        lambda: [
            e
            for e in app.effects(fn="observe", event=f"inngest/function.{end}")
            if e["data"]["run_id"] == run.id
        ],
        f"function.{end} of {run.id}",
    )
    assert len(seen) == 1
    data: dict[str, object] = seen[0]["data"]
    return data


@on(*ALL)
def test_an_event_cancels_the_runs_that_its_expression_accepts(app: App) -> None:
    key = unique()
    run, other = app.trigger("cancel-on", {"key": key}), app.trigger("cancel-on", {"key": unique()})
    run.wait_step("nap")
    other.wait_step("nap")
    app.api.send(app.event("cancel"), {"key": key})
    run.end("Cancelled")
    assert run.bodies() == {"before": 1}
    assert other.now()["status"] == "Running"
    app.api.http.delete(f"/v1/runs/{other.id}")
    other.end("Cancelled")


@on(*ALL)
def test_a_cancelling_event_sent_right_after_the_start_is_not_lost(app: App) -> None:
    """Events take effect in the order of their acknowledgement, however fast they follow each other."""
    keys = [unique() for _ in range(5)]
    starts = []
    for key in keys:
        starts.append(app.api.send(app.event("cancel-on"), {"key": key}))
        app.api.send(app.event("cancel"), {"key": key})
    for event_id in starts:
        app.run_of(event_id).end("Cancelled")


@on(*ALL)
def test_a_cancelling_event_sent_before_the_start_does_not_cancel(app: App) -> None:
    key = unique()
    app.api.send(app.event("cancel"), {"key": key})
    run = app.trigger("cancel-on", {"key": key})
    run.wait_step("nap")
    assert run.now()["status"] == "Running"
    app.api.http.delete(f"/v1/runs/{run.id}")
    run.end("Cancelled")


@on(*ALL)
def test_a_run_is_cancelled_over_http_and_twice_does_no_harm(app: App) -> None:
    run = app.trigger("cancel-on", {"key": unique()})
    run.wait_step("nap")
    assert app.api.http.delete(f"/v1/runs/{run.id}").status_code == 200
    run.end("Cancelled")
    assert app.api.http.delete(f"/v1/runs/{run.id}").status_code == 200
    assert run.now()["status"] == "Cancelled"


@on(PY05)
def test_a_completed_run_cannot_be_cancelled(app: App) -> None:
    run = app.trigger("no-step")
    run.end()
    app.api.http.delete(f"/v1/runs/{run.id}")
    assert run.now()["status"] == "Completed"


@on(*ALL)
def test_function_finished_carries_the_result(app: App) -> None:
    run = app.trigger("two-step", {"order": 1})
    run.end()
    data = told(app, "finished", run)
    assert data["function_id"] == f"{app.id}-two-step"
    assert data["result"] == {"sum": 42}
    assert data.get("error") is None
    assert data["event"]["data"] == {"order": 1}  # type: ignore[index]
    assert data["event"]["id"] == run.event_id  # type: ignore[index]
    assert data["_inngest"]["status"] == "Completed"  # type: ignore[index]


@on(*ALL)
def test_function_finished_is_also_told_of_a_failure(app: App) -> None:
    run = app.trigger("fn-fails")
    run.end("Failed")
    data = told(app, "finished", run)
    assert data["error"]["message"] == "fn boom"  # type: ignore[index]
    assert data["_inngest"]["status"] == "Failed"  # type: ignore[index]


@on(*ALL)
def test_function_finished_of_an_invoked_function_names_its_caller(app: App) -> None:
    run = app.trigger("invoke-ok")
    run.end()

    def finished() -> list[dict[str, object]]:
        seen = app.effects(fn="observe", event="inngest/function.finished")
        return [e for e in seen if str(e["data"].get("correlation_id", "")).startswith(run.id)]

    (effect,) = wait_until(finished, f"function.finished of what {run.id} invoked")
    assert effect["data"]["function_id"] == f"{app.id}-callee"  # type: ignore[index]


@on(*ALL)
def test_function_cancelled_carries_the_original_event(app: App) -> None:
    key = unique()
    run = app.trigger("cancel-on", {"key": key})
    run.wait_step("nap")
    app.api.send(app.event("cancel"), {"key": key})
    run.end("Cancelled")
    data = told(app, "cancelled", run)
    assert data["function_id"] == f"{app.id}-cancel-on"
    assert data["event"]["data"] == {"key": key}  # type: ignore[index]
    assert data["event"]["user"] == {}  # type: ignore[index]
    assert len(data["events"]) == 1  # type: ignore[arg-type]
    assert data["error"] == {"error": "function cancelled", "message": "function cancelled", "name": "Error"}
    assert data["_inngest"]["status"] == "Cancelled"  # type: ignore[index]
