"""What cancels runs, and what a cancellation does to requests in flight, to children, and to those who wait."""

import datetime
from typing import Any

import pytest

from tests.sdk.flow import Changing, Scene, why
from tests.sdk.harness import JS4, PY05, TYPESCRIPT, App, Run, on, wait_until

pytestmark = pytest.mark.sdk


def at(offset_s: float) -> str:
    """A time so far from now, as the API takes it."""
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=offset_s)).isoformat()


def delete(run: Run) -> None:
    """Cancel a run by hand."""
    assert run.app.api.http.delete(f"/v1/runs/{run.id}").status_code == 200


def wait_gone(app: App, event_id: str) -> Run:
    """The run of an event, once it is cancelled."""
    run = app.run_of(event_id)
    run.end("Cancelled")
    return run


# --- By events ---


@on(PY05, JS4)
def test_an_event_cancels_by_condition_and_once(scene: Scene) -> None:
    run, other = scene.runs("flow-cancel", 2)
    run.wait_step("wake")
    other.wait_step("wake")
    scene.send("flow-cancel-now", 0)
    scene.send("flow-cancel-now", 0)
    run.end("Cancelled")
    assert why(run, "cancelled") == "event"
    scene.told_cancelled_once(run)
    scene.send("flow-wake", 1)
    assert other.end()["output"] == 1
    assert run.bodies() == {"before": 1}


# Python's Cancel has no `match`.
@on(*TYPESCRIPT)
def test_an_event_cancels_by_match(scene: Scene) -> None:
    run = scene.run("flow-cancel-match")
    run.wait_step("wake")
    scene.app.api.send(scene.app.event("flow-cancel-now"), {"token": "another"})
    scene.settle()
    assert run.now()["status"] == "Running"
    scene.send("flow-cancel-now", 7)
    run.end("Cancelled")


@on(PY05, JS4)
def test_an_event_cancels_no_more_when_its_timeout_is_over(scene: Scene) -> None:
    late, in_time = scene.runs("flow-cancel-late", 2)
    scene.send("flow-cancel-now", 1)
    in_time.end("Cancelled")
    # It waits after a sleep of more than the timeout.
    late.wait_step("wake")
    scene.send("flow-cancel-now", 0)
    scene.send("flow-wake", 0)
    assert late.end()["output"] == 0


# --- By hand ---


@on(PY05, JS4)
def test_a_cancelled_request_is_aborted_its_place_given_on_and_its_answer_ignored(scene: Scene) -> None:
    run, queued = scene.runs("flow-abort", 2, gated=True)
    scene.stays(0)
    delete(run)
    run.end("Cancelled")
    (call,) = run.calls()
    # Told at once: an executor that only noticed at its next heartbeat would take up to 10 s.
    wait_until(lambda: run.calls()[0].get("ended") == "aborted", "the app lost the connection", timeout_s=5)
    # The body of the first is still there, its place is not.
    scene.wait_entered(0, 1)
    scene.open()
    assert queued.end()["output"] == 1
    wait_until(lambda: len(scene.effects("leave")) == 2, "both bodies came to their end")
    scene.told_cancelled_once(run)
    assert run.now()["status"] == "Cancelled"
    assert [each["at_ms"] for each in run.calls()] == [call["at_ms"]], "nobody asked again"
    assert scene.effects("handler") == [], "a cancellation is no failure"


@on(PY05, *TYPESCRIPT)
def test_a_run_that_is_cancelled_within_a_step_starts_no_other(scene: Scene) -> None:
    """Version 4 of TypeScript would go on to the next step in the same request; it learns of the end first."""
    run, other = scene.runs("flow-two-steps", 2, gated=True)
    scene.stays(0, 1)
    delete(run)
    run.end("Cancelled")
    scene.open()
    assert other.end()["output"] == "done"
    wait_until(lambda: len(scene.effects("leave")) == 2, "both first steps came to their end")
    scene.settle()
    assert [effect["n"] for effect in scene.effects("second")] == [1]


@on(PY05, JS4)
def test_a_queued_run_is_cancelled_without_a_request(scene: Scene) -> None:
    run, queued, last = scene.runs("flow-abort", 3, gated=True)
    scene.stays(0)
    delete(queued)
    queued.end("Cancelled")
    scene.open()
    for each in (run, last):
        each.end()
    assert queued.calls() == []
    assert scene.entered() == [0, 2]
    scene.told_cancelled_once(queued)


# --- Children and parents ---


@on(PY05, JS4)
def test_a_child_goes_on_when_its_parent_is_cancelled(scene: Scene) -> None:
    parent = scene.run("flow-parent", gated=True)
    scene.wait_entered(0)
    (entered,) = scene.effects("enter")
    delete(parent)
    parent.end("Cancelled")
    scene.settle()
    child = Run(scene.app, "", entered["run_id"])
    assert child.now()["status"] == "Running"
    scene.open()
    assert child.end()["output"] == 0
    assert parent.now()["status"] == "Cancelled"


@on(PY05, JS4)
def test_a_parent_can_catch_that_its_child_was_cancelled(scene: Scene) -> None:
    parent = scene.run("flow-parent", gated=True)
    scene.wait_entered(0)
    (entered,) = scene.effects("enter")
    delete(Run(scene.app, "", entered["run_id"]))
    caught = parent.end()["output"]["caught"]
    assert caught["message"] == "invoked function was cancelled"


# --- Many at once ---


def cancel_all(app: App, function: str, **more: object) -> dict[str, Any]:
    """`POST /v1/cancellations`; what it replies."""
    body = {"app_id": app.id, "function_id": function, **more}
    reply = app.api.http.post("/v1/cancellations", json=body)
    assert reply.is_success, reply.text
    told: dict[str, Any] = reply.json()
    return told


@on(PY05, JS4)
def test_many_are_cancelled_those_that_begin_later_too(scene: Scene) -> None:
    app = scene.app
    chosen = [scene.run("flow-bulk", n, key="a") for n in (0, 1)]
    other = scene.run("flow-bulk", 2, key="b")
    for run in (*chosen, other):
        run.wait_step("wake")
    told = cancel_all(
        app,
        "flow-bulk",
        started_after=at(-60),
        started_before=at(3600),
        **{"if": f"event.data.key == '{scene.key('a')}'"},
    )
    for run in chosen:
        run.end("Cancelled")
        assert why(run, "cancelled") == "bulk"
    later = wait_gone(app, scene.send("flow-bulk", 3, key="a"))
    assert later.calls() == []
    listed = app.api.http.get("/v1/cancellations").json()["data"]
    assert told["id"] in [each["id"] for each in listed]
    assert app.api.http.delete(f"/v1/cancellations/{told['id']}").is_success
    free = scene.run("flow-bulk", 4, key="a")
    free.wait_step("wake")
    for run in (other, free):
        scene.send("flow-wake", 2 if run is other else 4)
        run.end()
    for run in (*chosen, later):
        scene.told_cancelled_once(run)


@on(PY05, JS4)
def test_a_window_that_is_over_before_a_run_was_made_does_not_concern_it(scene: Scene) -> None:
    app = scene.app
    run = scene.run("flow-bulk", 0)
    run.wait_step("wake")
    told = cancel_all(app, "flow-bulk", started_after=at(-3600), started_before=at(-1800))
    scene.settle()
    scene.send("flow-wake", 0)
    assert run.end()["output"] == 0
    assert app.api.http.delete(f"/v1/cancellations/{told['id']}").is_success


@on(PY05)
def test_a_cancellation_that_cannot_be_meant_is_refused(app: App) -> None:
    def refused(**body: object) -> tuple[int, str]:
        reply = app.api.http.post("/v1/cancellations", json=body)
        return reply.status_code, reply.text

    window = {"started_after": at(-60), "started_before": at(60)}
    status, text = refused(app_id=app.id, function_id="flow-nobody", **window)
    assert status == 404, text
    status, text = refused(app_id=app.id, function_id="flow-bulk")
    assert (status, "started_before" in text) == (400, True), text
    status, text = refused(app_id=app.id, function_id="flow-bulk", **window, **{"if": "event.data.x =="})
    assert (status, "if" in text) == (400, True), text


# --- A function that is gone ---


@on(PY05, JS4)
def test_runs_of_a_function_that_is_gone_wait_for_it_to_come_back(scene: Scene, changing: Changing) -> None:
    """A version that is rolled back loses nothing: they are cancelled when it has stayed away for ten minutes."""
    changing.serve()
    run = scene.run("flow-leaving", 0)
    run.wait_step("wake")
    changing.serve(removed=True)
    unheard = scene.send("flow-leaving", 1)
    scene.send("flow-wake", 0)
    scene.settle()
    assert run.now()["status"] == "Running"
    assert len(run.calls()) == len([call for call in run.calls() if call.get("ended") == "answered"])
    assert run.bodies() == {"before": 1}, "nobody is asked for a function that is gone"
    changing.serve()
    assert run.end()["output"] == 0
    assert scene.runs_of(unheard) == []
