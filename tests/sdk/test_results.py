"""What a function gets and what it returns pass through unharmed."""

import pytest

from tests.sdk.harness import ALL, TYPESCRIPT, App, on

pytestmark = pytest.mark.sdk


@on(*ALL)
def test_a_function_without_steps_completes_with_its_output(app: App) -> None:
    run = app.trigger("no-step", {"name": "ada"})
    done = run.end()
    assert done["output"] == {"hello": "ada", "event": app.event("no-step"), "events": 1}
    assert run.bodies() == {"body": 1}
    assert done["event_id"] == run.event_id
    assert done["run_started_at"] <= done["ended_at"]


@on(*ALL)
def test_a_run_is_listed_under_its_event(app: App) -> None:
    run = app.trigger("no-step")
    run.end()
    (listed,) = app.api.runs_of(run.event_id)
    assert listed["run_id"] == run.id
    assert listed["status"] == "Completed"
    assert listed["output"]["events"] == 1


@on(*ALL)
def test_the_function_sees_the_event_as_it_was_sent(app: App) -> None:
    event_id = app.api.send(app.event("event-fields"), {"a": 1}, ts=1_700_000_000_000)
    output = app.run_of(event_id).end()["output"]
    assert output["name"] == app.event("event-fields")
    assert output["data"] == {"a": 1}
    assert output["ts"] == 1_700_000_000_000
    assert output["id"] == event_id, "without an id of the sender's, the server's own is shown"


@on(*ALL)
def test_the_senders_event_id_reaches_the_function(app: App) -> None:
    mine = f"order-{app.id}-{app.port}"
    event_id = app.api.send(app.event("event-fields"), {}, id=mine)
    assert event_id != mine
    assert app.run_of(event_id).end()["output"]["id"] == mine


# The Python event type has neither field.
@on(*TYPESCRIPT)
def test_user_and_version_reach_the_function(app: App) -> None:
    output = app.trigger("event-fields", {}, user={"external_id": "u1"}, v="2026-01-01.1").end()["output"]
    assert output["user"] == {"external_id": "u1"}
    assert output["v"] == "2026-01-01.1"


AWKWARD = {
    "text": 'quotes " and \\ and \n lines, ünïcode, 日本語, 🏨, \u2028',
    "empty": {"list": [], "object": {}, "text": "", "null": None},
    "numbers": [0, -1, 0.1, 1e-7, 1.5e300, 9007199254740991, -9007199254740991],
    "booleans": [True, False],
    "deep": [[[[{"a": [{"b": {}}]}]]]],
    "keys": {"z": 1, "a": 2, "ä": 3, "": 4, "with space": 5, "$dollar": 6, "10": 7, "9": 8},
    "looks like a step": {"data": {"data": 1}, "error": None, "id": "x", "op": "StepRun"},
}


@on(*ALL)
def test_awkward_json_passes_through_event_step_and_output(app: App) -> None:
    output = app.trigger("echo", AWKWARD).end()["output"]
    assert output == {"through_step": AWKWARD, "direct": AWKWARD}


@on(*ALL)
def test_null_is_a_result_of_steps_and_functions(app: App) -> None:
    run = app.trigger("null-values")
    assert run.end()["output"] is None
    assert run.bodies() == {"nothing": 1}


# Python has no second kind of nothing.
@on(*TYPESCRIPT)
def test_undefined_is_a_result_of_steps_and_functions(app: App) -> None:
    run = app.trigger("undefined-values")
    assert run.end()["output"] is None
    assert run.bodies() == {"nothing": 1}
