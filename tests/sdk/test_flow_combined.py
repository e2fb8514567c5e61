"""Options together, each pair as docs/flow-control.md says."""

import datetime

import pytest

from tests.sdk.flow import Changing, Scene, why
from tests.sdk.harness import JS4, PY05, Run, on, wait_until

pytestmark = pytest.mark.sdk


def began(run: Run) -> datetime.datetime:
    """When the run's first request was handed out."""
    return datetime.datetime.fromisoformat(run.now()["run_started_at"])


@on(PY05, JS4)
def test_debounced_runs_are_throttled_and_wait_for_a_place(scene: Scene) -> None:
    """Three keys, one run each with its last event; a second apart; and one at a time."""
    keys = ("a", "b", "a", "c", "b")
    events = [scene.send("flow-mix", n, key=key, gated=True) for n, key in enumerate(keys)]
    scene.open()
    runs = [scene.app.run_of(events[n]) for n in (2, 3, 4)]
    for run in runs:
        run.end()
    assert sorted(scene.entered()) == [2, 3, 4]
    assert scene.most_at_once() == 1
    first, second, third = sorted(began(run) for run in runs)
    for gap in (second - first, third - second):
        assert gap >= datetime.timedelta(milliseconds=998)


@on(PY05, JS4)
def test_batches_wait_for_a_place(scene: Scene) -> None:
    events = [scene.send("flow-batch-one", n, gated=True) for n in range(4)]
    scene.stays(0)
    second = scene.app.run_of(events[2])
    assert second.calls() == []
    scene.open()
    second.end()
    assert [e["ns"] for e in scene.effects("enter")] == [[0, 1], [2, 3]]
    assert scene.most_at_once() == 1


@on(PY05, JS4)
def test_an_invoker_can_catch_that_a_rate_limit_skipped_what_it_invoked(scene: Scene) -> None:
    output = scene.run("flow-rate-caller", 5).end()["output"]
    assert output["first"] == 5
    assert output["caught"]["message"].startswith("invoked function was skipped: ")
    assert scene.entered() == [5]


@on(PY05, JS4)
def test_a_batch_takes_each_key_once(scene: Scene) -> None:
    keys = ("a", "a", "b")
    events = [scene.send("flow-batch-once", n, key=key) for n, key in enumerate(keys)]
    batch, repeated = scene.app.run_of(events[0]), scene.app.run_of(events[1])
    batch.end()
    repeated.end("Skipped")
    assert why(repeated, "skipped") == "idempotency"
    assert [e["ns"] for e in scene.effects("enter")] == [[0, 2]]


@on(PY05, JS4)
def test_a_debounce_takes_in_nothing_of_a_key_that_had_its_run(scene: Scene) -> None:
    events = [scene.send("flow-debounce-once", n) for n in (0, 1)]
    scene.app.run_of(events[1]).end()
    late = scene.run("flow-debounce-once", 2)
    late.end("Skipped")
    assert why(late, "skipped") == "idempotency"
    assert scene.entered() == [1]


# Singletons: Python 0.4 cannot declare them.
@on(PY05, JS4)
def test_what_a_singleton_refuses_does_not_count_for_the_rate_limit(scene: Scene) -> None:
    first = scene.run("flow-rights", 0, gated=True)
    for n in (1, 2):
        refused = scene.run("flow-rights", n)
        refused.end("Skipped")
        assert why(refused, "skipped") == "singleton"
    scene.open()
    first.end()
    scene.run("flow-rights", 3).end()
    over = scene.run("flow-rights", 4)
    over.end("Skipped")
    assert why(over, "skipped") == "rateLimit"
    assert scene.entered() == [0, 3]


@on(PY05, JS4)
def test_a_debounce_that_fires_beside_a_singleton_is_skipped(scene: Scene) -> None:
    first = scene.app.run_of(scene.send("flow-single-debounce", 0, gated=True))
    scene.wait_entered(0)
    dropped, last = scene.send("flow-single-debounce", 1), scene.send("flow-single-debounce", 2)
    skipped = scene.app.run_of(last)
    skipped.end("Skipped")
    assert why(skipped, "skipped") == "singleton"
    assert scene.runs_of(dropped) == []
    scene.open()
    first.end()
    assert scene.entered() == [0]


@on(PY05, JS4)
def test_slots_of_a_cron_are_skipped_while_a_singleton_goes_on(scene: Scene, changing: Changing) -> None:
    """A cron of every second: the first slot's run stays, the next slots' are recorded as Skipped."""
    app = scene.app
    changing.serve(ticks=scene.token)

    def ticking(status: str) -> list[dict[str, object]]:
        found = app.api.http.get("/v1/runs?limit=50").json()["data"]
        slug = f"{app.id}-changing-flow-ticking"
        return [run for run in found if run["function_slug"] == slug and run["status"] == status]

    scene.wait_entered(0)
    skipped = wait_until(lambda: ticking("Skipped"), "a slot is skipped", seen=lambda: ticking("Running"))
    assert why(Run(app, "", str(skipped[0]["run_id"])), "skipped") == "singleton"
    assert len(ticking("Running")) == 1
    assert scene.entered() == [0]
    scene.open()
    wait_until(lambda: len(ticking("Completed")) >= 2, "another slot has its run, once there is none")
