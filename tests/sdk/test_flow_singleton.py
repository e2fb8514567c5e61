"""One run at a time: another is skipped, or takes the place of the one that goes on. Python 0.4 cannot declare it."""

import pytest

from tests.sdk.flow import Scene, why, without_key
from tests.sdk.harness import JS4, PY05, TYPESCRIPT, on

pytestmark = pytest.mark.sdk


@on(PY05, *TYPESCRIPT)
def test_while_a_run_goes_on_others_of_its_key_are_skipped(scene: Scene) -> None:
    first = scene.run("flow-single-skip", 0, gated=True)
    second, other = scene.run("flow-single-skip", 1), scene.run("flow-single-skip", 2, key="other")
    second.end("Skipped")
    assert why(second, "skipped") == "singleton"
    other.end()
    scene.open(0)
    first.end()
    scene.run("flow-single-skip", 3).end()
    assert scene.entered() == [0, 2, 3]


@on(PY05, JS4)
def test_a_new_run_takes_the_place_of_the_one_that_goes_on(scene: Scene) -> None:
    first = scene.run("flow-single-cancel", 0, gated=True)
    other = scene.run("flow-single-cancel", 1, key="other", gated=True)
    scene.wait_entered(0, 1)
    second = scene.run("flow-single-cancel", 2)
    first.end("Cancelled")
    second.end()
    assert why(first, "cancelled") == "singleton"
    assert other.now()["status"] == "Running"
    scene.open()
    other.end()
    scene.told_cancelled_once(first)


@on(PY05, JS4)
def test_events_without_the_key_are_not_kept_from_running(scene: Scene) -> None:
    for function in ("flow-single-skip", "flow-single-cancel"):
        runs = [scene.run(function, n, key=None, gated=True) for n in (0, 1)]
        for run in runs:
            scene.open()
            run.end()
            assert without_key(run) == ["singleton.key"]
