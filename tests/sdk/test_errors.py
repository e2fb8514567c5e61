"""Steps and functions are retried as often as they may be, and the code may catch what failed for good."""

import itertools

import pytest

from tests.sdk.harness import ALL, JS3, JS4, PY04, PY05, TYPESCRIPT, App, on, wait_until

pytestmark = pytest.mark.sdk


@on(*ALL)
def test_a_failing_step_is_retried_until_it_works_and_then_never_again(app: App) -> None:
    run = app.trigger("flaky-step")
    assert run.end()["output"] == {"tries": 3}
    assert run.bodies() == {"flaky": 3, "after": 1}
    assert [e["attempt"] for e in run.effects("flaky")] == [0, 1, 2]


@on(*ALL)
def test_retries_wait_for_the_backoff(app: App) -> None:
    """The server of the tests waits 0.2 s."""
    run = app.trigger("flaky-step")
    run.end()
    times = [e["at_ms"] for e in run.effects("flaky")]
    assert all(200 <= later - earlier < 5000 for earlier, later in itertools.pairwise(times)), times


@on(*ALL)
def test_a_step_that_fails_for_good_fails_the_run(app: App) -> None:
    run = app.trigger("step-fails")
    done = run.end("Failed")
    assert "step boom" in str(done["output"])
    assert run.bodies() == {"bad": 2}
    assert run.wait_step("bad", status="Failed")["error"]["message"] == "step boom"


@on(*ALL)
def test_the_code_may_catch_a_step_that_failed_for_good(app: App) -> None:
    run = app.trigger("step-fails-caught")
    assert run.end()["output"] == {"undone": "ROLLBACK", "message": "step boom"}
    assert run.bodies() == {"bad": 2, "rollback": 1}


@on(*ALL)
def test_a_failing_function_is_retried_with_its_attempt_counted(app: App) -> None:
    run = app.trigger("fn-retry")
    assert run.end()["output"] == {"attempt": 2}
    assert [e["attempt"] for e in run.effects("body")] == [0, 1, 2]


@on(*ALL)
def test_a_function_that_always_fails_ends_failed_after_its_last_attempt(app: App) -> None:
    run = app.trigger("fn-fails")
    done = run.end("Failed")
    assert "fn boom" in str(done["output"])
    assert [e["attempt"] for e in run.effects("body")] == [0, 1]


@on(*ALL)
def test_a_non_retriable_error_ends_a_function_at_once(app: App) -> None:
    run = app.trigger("non-retriable-fn")
    assert "final boom" in str(run.end("Failed")["output"])
    assert run.bodies() == {"body": 1}


@on(*ALL)
def test_a_non_retriable_error_ends_a_step_at_once(app: App) -> None:
    run = app.trigger("non-retriable-step")
    assert "final boom" in str(run.end("Failed")["output"])
    assert run.bodies() == {"bad": 1}


# In Python the error of a step that may not be retried is the function's: there is nothing to catch.
@on(*TYPESCRIPT)
def test_a_non_retriable_step_error_can_be_caught(app: App) -> None:
    run = app.trigger("non-retriable-step-caught")
    assert run.end()["output"] == {"message": "final boom"}
    assert run.bodies() == {"bad": 1}


@on(*ALL)
@pytest.mark.parametrize(("function", "body"), [("retry-after-fn", "body"), ("retry-after-step", "limited")])
def test_retry_after_sets_the_time_of_the_next_attempt(app: App, function: str, body: str) -> None:
    """TypeScript sends seconds, Python a date; the backoff alone would be 0.2 s."""
    run = app.trigger(function)
    assert run.end()["output"] == "done"
    first, second = (e["at_ms"] for e in run.effects(body))
    assert 1900 <= second - first < 6000


@on(*ALL)
def test_attempts_start_again_at_zero_for_the_next_step(app: App) -> None:
    run = app.trigger("attempts")
    assert run.end()["output"] == {"second": 0}
    assert [e["seen"] for e in run.effects("first")] == [0, 1]
    assert [e["seen"] for e in run.effects("second")] == [0]


# Python's context does not show it.
@on(*TYPESCRIPT)
def test_the_sdk_is_told_how_many_attempts_there_are(app: App) -> None:
    run = app.trigger("attempts")
    run.end()
    assert {e["max"] for e in run.effects()} == {3}


@on(*ALL)
def test_the_failure_handler_runs_once_with_the_failure_and_the_original_event(app: App) -> None:
    run = app.trigger("with-handler", {"order": 7})
    run.end("Failed")

    def handled() -> list[dict[str, object]]:
        noted = app.effects(step="handler")
        return [e for e in noted if e["data"]["run_id"] == run.id]

    (effect,) = wait_until(handled, f"the failure handler of {run.id} ran")
    data = effect["data"]
    assert isinstance(data, dict)
    assert effect["event"] == "inngest/function.failed"
    assert effect["event_id"] == run.id, "so that it is delivered once"
    assert data["function_id"] == f"{app.id}-with-handler"
    assert data["event"]["data"] == {"order": 7}
    assert data["event"]["name"] == app.event("with-handler")
    assert data["event"]["id"] == run.event_id
    assert [e["id"] for e in data["events"]] == [run.event_id]
    assert data["error"]["message"] == "step boom"
    assert data["error"]["stack"]
    handler = app.api.wait_end(str(effect["run_id"]))
    assert handler["status"] == "Completed"
    assert len(handled()) == 1


# Version 4 of TypeScript declares its last attempt final; the others leave that to the server.
@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (PY05, "invalid status code: 500"),
        (PY04, "invalid status code: 500"),
        (JS4, "NonRetriableError"),
        (JS3, "invalid status code: 500"),
    ],
    indirect=["app"],
)
def test_function_failed_says_why_the_server_gave_up(app: App, reason: str) -> None:
    run = app.trigger("fn-fails", {"order": 8})
    run.end("Failed")
    seen = wait_until(
        lambda: [
            e
            for e in app.effects(fn="observe", event="inngest/function.failed")
            if e["data"]["run_id"] == run.id
        ],
        f"function.failed of {run.id}",
    )
    data = seen[0]["data"]
    assert data["error"]["error"] == reason
    assert data["error"]["message"] == "fn boom"
    assert data["error"]["name"] == ("BoomError" if app.sdk in (PY05, PY04) else "Error")
    assert data["error"]["stack"]
    assert data["error"]["__serialized"] is True
    assert data["function_id"] == f"{app.id}-fn-fails"
    assert data["event"]["data"] == {"order": 8}
    assert data["event"]["user"] == {}
    assert len(seen) == 1
