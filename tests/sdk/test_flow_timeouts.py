"""Runs that do not begin, or do not end, in time are cancelled. Python 0.4 cannot declare it."""

import datetime

import pytest

from tests.sdk.flow import Scene, why
from tests.sdk.harness import JS4, PY05, TYPESCRIPT, Run, on

pytestmark = pytest.mark.sdk


def lasted_ms(run: Run) -> float:
    """How long the run took from its first request, or from being queued, to its end."""
    view = run.now()
    began, ended = (datetime.datetime.fromisoformat(view[at]) for at in ("run_started_at", "ended_at"))
    return (ended - began).total_seconds() * 1000


def timed_out(run: Run) -> str:
    """Which of the two timeouts has cancelled the run."""
    assert why(run, "cancelled") == "timeout"
    (note,) = (note for note in run.now()["notes"] if note["type"] == "cancelled")
    return str(note["timeout"])


@on(PY05, *TYPESCRIPT)
def test_a_run_that_cannot_begin_in_time_is_cancelled(scene: Scene) -> None:
    blocker = scene.run("flow-start-timeout", 0, gated=True)
    scene.wait_entered(0)
    late = scene.run("flow-start-timeout", 1)
    late.end("Cancelled")
    assert timed_out(late) == "start"
    assert lasted_ms(late) >= 999
    scene.told_cancelled_once(late)
    # The one that began in time is not concerned, however long it takes.
    assert blocker.now()["status"] == "Running"
    scene.open()
    blocker.end()
    assert late.calls() == []
    scene.run("flow-start-timeout", 2).end()


@on(PY05, JS4)
def test_a_run_that_does_not_end_in_time_is_cancelled_but_a_request_in_flight_may_end_it(
    scene: Scene,
) -> None:
    ending = scene.run("flow-finish-timeout", 0, gated=True)
    going_on = scene.run("flow-finish-timeout", 1, gated=True, nap=True)
    scene.wait_entered(0, 1)
    # It begins after them, so their time is over when its is.
    sleeping = scene.run("flow-finish-timeout", 2, nap=True)
    sleeping.end("Cancelled")
    assert timed_out(sleeping) == "finish"
    assert lasted_ms(sleeping) >= 999
    scene.settle()
    assert [call.get("ended") for run in (ending, going_on) for call in run.calls()] == [None, None]
    scene.open()
    assert ending.end()["output"] == 0
    # An answer that would go on is too late.
    going_on.end("Cancelled")
    assert timed_out(going_on) == "finish"
    scene.told_cancelled_once(sleeping)
    scene.told_cancelled_once(going_on)
