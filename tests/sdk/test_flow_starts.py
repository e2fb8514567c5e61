"""How runs begin: throttled, rate limited, once for each key, and in which order."""

import datetime
import itertools

import pytest

from tests.sdk.flow import Scene, why, without_key
from tests.sdk.harness import ALL, JS4, PY05, Run, on, wait_until

pytestmark = pytest.mark.sdk


def began_ms(run: Run) -> int:
    """When the run's first request was handed out, by the server's clock."""
    at = datetime.datetime.fromisoformat(run.now()["run_started_at"])
    return round(at.timestamp() * 1000)


def apart_at_least(runs: list[Run], emission_ms: int, burst: int) -> None:
    """In any window of w ms at most w / `emission_ms` + `burst` of the runs began."""
    times = sorted(began_ms(run) for run in runs)
    for (i, first), (j, last) in itertools.combinations(enumerate(times), 2):
        # Times are told in whole ms, and may be rounded either way.
        assert j - i + 1 <= (last - first + 2) / emission_ms + burst, times


# --- Throttle ---


@on(PY05, JS4)
def test_a_throttle_spaces_starts_and_drops_none(scene: Scene) -> None:
    runs = scene.runs("flow-throttle", 4)
    for run in runs:
        run.end()
    apart_at_least(runs, 500, 1)
    assert scene.entered() == [0, 1, 2, 3]


@on(PY05, JS4)
def test_a_burst_begins_at_once(scene: Scene) -> None:
    runs = scene.runs("flow-throttle-burst", 5, gated=True)
    # Bodies stay in their requests: it is the starts that are counted, not what is at work.
    scene.wait_entered(0, 1, 2)
    scene.open()
    for run in runs:
        run.end()
    apart_at_least(runs, 1000, 3)


@on(*ALL)
def test_a_throttle_counts_each_key_for_itself(scene: Scene) -> None:
    keys = ("a", "a", "b", None, None)
    runs = [scene.run("flow-throttle-key", n, key=key) for n, key in enumerate(keys)]
    for run in runs:
        run.end()
    apart_at_least(runs[:2], 1000, 1)
    apart_at_least(runs[3:], 1000, 1)
    assert [without_key(run) for run in runs] == [[], [], [], ["throttle.key"], ["throttle.key"]]
    order = scene.entered()
    assert order.index(2) < order.index(1), "b does not wait for a's turn"


# --- Rate limit ---


@on(PY05, JS4)
def test_what_is_over_a_rate_limit_is_skipped(scene: Scene) -> None:
    runs = scene.runs("flow-rate", 4)
    for run in runs[:2]:
        run.end()
    for run in runs[2:]:
        run.end("Skipped")
        assert why(run, "skipped") == "rateLimit"
        assert run.calls() == []


@on(*ALL)
def test_a_rate_limit_counts_each_key_for_itself(scene: Scene) -> None:
    keys = ("a", "b", "a", None, None)
    runs = [scene.run("flow-rate-key", n, key=key) for n, key in enumerate(keys)]
    assert [run.end(status)["status"] for run, status in zip(runs, ALL_BUT_THE_THIRD, strict=True)]
    # Where the event has no value for the key, nothing says that it is one too many.
    assert [without_key(run) for run in runs] == [[], [], [], ["rateLimit.key"], ["rateLimit.key"]]


ALL_BUT_THE_THIRD = ("Completed", "Completed", "Skipped", "Completed", "Completed")


@on(PY05, JS4)
def test_a_right_comes_back_when_its_period_is_over(scene: Scene) -> None:
    first = scene.run("flow-rate-soon")
    first.end()
    numbers = itertools.count(1)

    def another() -> Run | None:
        run = scene.run("flow-rate-soon", next(numbers))
        return run if run.app.api.wait_end(run.id)["status"] == "Completed" else None

    second = wait_until(another, "a run after the period")
    # Rights are taken when runs are made, which is before they begin.
    assert second.now()["queued_at"] > first.now()["queued_at"]
    assert began_ms(second) - queued_ms(first) >= 999


def queued_ms(run: Run) -> int:
    """When the run was made, by the server's clock."""
    return round(datetime.datetime.fromisoformat(run.now()["queued_at"]).timestamp() * 1000)


# --- Idempotency ---


@on(*ALL)
def test_a_key_has_one_run(scene: Scene) -> None:
    keys = ("a", "a", "b", None, None)
    runs = [scene.run("flow-once", n, key=key) for n, key in enumerate(keys)]
    for run, status in zip(
        runs, ("Completed", "Skipped", "Completed", "Completed", "Completed"), strict=True
    ):
        run.end(status)
    assert why(runs[1], "skipped") == "idempotency"
    assert [without_key(run) for run in runs[3:]] == [["idempotency"]] * 2


@on(PY05, JS4)
def test_an_event_id_starts_each_function_once_under_whatever_name(scene: Scene) -> None:
    """The second event has the id of the first and another name: a function that had its run has no other."""
    app, event_id = scene.app, scene.key("id")
    left = app.api.send(app.event("flow-left"), {"token": scene.token, "n": 0}, id=event_id)
    (names,) = app.api.wait_runs(left)
    right = app.api.send(app.event("flow-right"), {"token": scene.token, "n": 1}, id=event_id)
    (other,) = app.api.wait_runs(right)
    assert names["function_slug"] == f"{app.id}-flow-names"
    assert other["function_slug"] == f"{app.id}-flow-other"
    for run in (names, other):
        assert app.api.wait_end(run["run_id"])["status"] == "Completed"
    scene.settle()
    assert [(e["fn"], e["n"]) for e in scene.effects("enter")] == [("flow-names", 0), ("flow-other", 1)]


@on(PY05, JS4)
def test_a_key_that_is_false_leaves_an_event_out(scene: Scene) -> None:
    """It is what `condition ? value : false` is for, and nothing to be noted."""
    for function in ("flow-rate-key", "flow-once"):
        for n in (0, 1):
            run = scene.run(function, n, key=False)
            run.end()
            assert without_key(run) == []


# --- Priority ---


@on(*ALL)
def test_priorities_order_what_is_queued_and_are_clamped(scene: Scene) -> None:
    """Seconds older or younger than it is, 600 at most: above that, the one that came first is first."""
    blocker = scene.run("flow-priority", 0, p=0, gated=True)
    scene.wait_entered(0)
    priorities: tuple[object, ...] = (0, 300, -300, 600, 9999, -9999, -600, "high")
    runs = [scene.run("flow-priority", n, p=p) for n, p in enumerate(priorities, 1)]
    scene.open(0)
    for run in (blocker, *runs):
        run.end()
    assert scene.entered() == [0, 4, 5, 2, 1, 8, 3, 6, 7]
    assert without_key(runs[7]) == ["priority.run"]
