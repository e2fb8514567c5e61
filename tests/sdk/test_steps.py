"""Steps run once, in the order of the code, whatever the way in which the SDK reports them."""

import pytest

from tests.sdk.harness import ALL, JS3, JS4, PY05, PYTHON, App, on, step_hash

pytestmark = pytest.mark.sdk


@on(*ALL)
def test_a_step_runs_its_body_once(app: App) -> None:
    run = app.trigger("single-step")
    assert run.end()["output"] == {"v": 1}
    assert run.bodies() == {"a": 1}


@on(*ALL)
def test_a_recorded_step_shows_its_name_and_its_output(app: App) -> None:
    run = app.trigger("single-step")
    run.end()
    step = run.wait_step("a", status="Completed")
    assert step["name"] == "a"
    assert step["output"] == {"v": 1}
    assert step["started_at"] <= step["ended_at"]


@on(*ALL)
def test_a_step_sees_the_result_of_the_one_before(app: App) -> None:
    run = app.trigger("two-step")
    assert run.end()["output"] == {"sum": 42}
    assert run.bodies() == {"a": 1, "b": 1}
    assert [e["step"] for e in run.effects()] == ["a", "b"]


@on(*ALL)
def test_a_step_id_may_repeat(app: App) -> None:
    run = app.trigger("loop")
    assert run.end()["output"] == [0, 1, 2]
    assert [e["i"] for e in run.effects("again")] == [0, 1, 2]
    assert [run.wait_step("again", i, status="Completed")["output"] for i in range(3)] == [0, 1, 2]


@on(*ALL)
def test_parallel_steps_run_once_each_and_join(app: App) -> None:
    run = app.trigger("parallel")
    assert run.end()["output"] == "ABC"
    assert run.bodies() == {"a": 1, "b": 1, "c": 1, "join": 1}
    assert run.effects()[-1]["step"] == "join"


@on(JS4, PY05)
def test_a_parallel_group_is_asked_again_only_when_its_last_step_is_done(app: App) -> None:
    """Execution version 2: discovery, three steps, one discovery that plans the join, the join, the end."""
    run = app.trigger("parallel")
    run.end()
    discoveries = [c for c in run.calls() if c["step_id"] == "step"]
    targeted = [c for c in run.calls() if c["step_id"] != "step"]
    assert {step_hash(s) for s in "abc"} <= {c["step_id"] for c in targeted}
    assert len([c for c in targeted if c["step_id"] in {step_hash(s) for s in "abc"}]) == 3
    assert len(discoveries) <= 3, discoveries


@on(*ALL)
def test_parallel_chains_run_every_link_once(app: App) -> None:
    run = app.trigger("parallel-chains")
    assert run.end()["output"] == ["A1A2", "B1B2"]
    assert run.bodies() == {"a1": 1, "a2": 1, "b1": 1, "b2": 1}


@on(JS3)
def test_a_race_ends_with_the_first_step(app: App) -> None:
    """The loser sleeps four seconds: the run must not wait for it."""
    run = app.trigger("race")
    assert run.end(timeout_s=3)["output"] == {"winner": "FAST"}
    assert run.bodies() == {"fast": 1}


# Asked again after the winner, version 4 answers with the loser's sleep once more, not with the result.
@on(JS4)
def test_a_race_asks_after_each_step_and_goes_to_the_first(app: App) -> None:
    run = app.trigger("race")
    assert run.end()["output"] == {"winner": "FAST"}
    assert run.bodies() == {"fast": 1}


# In Python a race only changes how often the server asks; `parallel` still returns all results.
@on(*PYTHON)
def test_a_race_in_python_runs_every_step_once(app: App) -> None:
    run = app.trigger("race")
    assert run.end()["output"] == {"parts": ["FAST", "SLOW"]}
    assert run.bodies() == {"fast": 1, "slow": 1}


# TypeScript only logs a warning.
@on(*PYTHON)
def test_a_nested_step_fails_the_run_with_the_sdks_words(app: App) -> None:
    run = app.trigger("nested")
    done = run.end("Failed")
    assert "Nested steps are not supported" in str(done["output"])
    assert run.bodies() == {}


@on(*PYTHON)
def test_a_handler_that_is_no_coroutine_works(app: App) -> None:
    run = app.trigger("sync-handler")
    assert run.end()["output"] == {"sum": 2}
    assert run.bodies() == {"a": 1, "b": 1}


# Checkpointing is what version 4 does unless told otherwise; no other SDK has it.
@on(JS4)
def test_a_checkpointing_run_needs_one_call(app: App) -> None:
    run = app.trigger("two-step")
    run.end()
    assert len(run.calls()) == 1, run.calls()
    assert [run.wait_step(step, status="Completed")["output"] for step in ("a", "b")] == [20, 42]


@on(JS4)
def test_without_checkpointing_every_step_is_a_call(app: App) -> None:
    run = app.trigger("two-step-no-checkpoint")
    assert run.end()["output"] == {"sum": 42}
    assert run.bodies() == {"a": 1, "b": 1}
    assert len(run.calls()) == 3, run.calls()


# Python 0.4 cannot stream.
@on(PY05, JS4, JS3)
def test_streamed_answers_are_read_to_the_end(app: App) -> None:
    run = app.trigger("streamed")
    assert run.end()["output"] == {"sum": 42}
    assert run.bodies() == {"a": 1, "b": 1}


@on(PY05, JS4, JS3)
def test_a_streamed_error_is_an_error(app: App) -> None:
    done = app.trigger("streamed-fails").end("Failed")
    assert "fn boom" in str(done["output"])


@on(*ALL)
def test_state_too_large_for_a_request_is_fetched_by_the_sdk(app: App) -> None:
    """Five results of a MiB each: more than a request may carry."""
    run = app.trigger("large-state")
    assert run.end(timeout_s=60)["output"] == {"length": 5 * 1024 * 1024, "letters": "01234"}
    assert run.bodies() == {**{f"chunk-{i}": 1 for i in range(5)}, "count": 1}
