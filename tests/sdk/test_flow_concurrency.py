"""Limits on requests at one instant: by function, by key, shared between functions, and with requests alone counted."""

import pytest

from tests.sdk.flow import Scene, without_key
from tests.sdk.harness import ALL, JS4, PY05, World, on

pytestmark = pytest.mark.sdk


@on(*ALL)
def test_a_number_is_how_many_work_at_once(scene: Scene) -> None:
    runs = scene.runs("flow-number", 5, gated=True)
    scene.stays(0, 1)
    for n in range(5):
        scene.wait_entered(n)
        scene.open(n)
    for run in runs:
        run.end()
    assert scene.most_at_once() == 2
    assert scene.entered() == [0, 1, 2, 3, 4], "the oldest first"


@on(*ALL)
def test_each_key_has_places_of_its_own(scene: Scene) -> None:
    first = [scene.run("flow-key", n, key="a", gated=True) for n in (0, 1)]
    other = scene.run("flow-key", 2, key="b", gated=True)
    scene.stays(0, 2)
    scene.open(2)
    other.end()
    scene.stays(0, 2)
    scene.open()
    for run in first:
        run.end()
    assert scene.entered() == [0, 2, 1] or scene.entered() == [2, 0, 1]


@on(PY05, JS4)
def test_both_of_two_limits_hold(scene: Scene) -> None:
    """One at a time for each key, and two in all."""
    runs = [
        scene.run("flow-two-limits", n, key=key, gated=True) for n, key in enumerate(("a", "a", "b", "c"))
    ]
    scene.stays(0, 2)
    scene.open(2)
    # The place of b goes to c: the second of a, though it is older, has no place among a's.
    scene.stays(0, 2, 3)
    scene.open()
    for run in runs:
        run.end()
    assert scene.most_at_once() == 2


@pytest.mark.parametrize(
    ("low", "high"), [("flow-env-low", "flow-env-high"), ("flow-account-low", "flow-account-high")]
)
@on(PY05, JS4)
def test_functions_that_share_a_key_begin_below_limits_of_their_own(
    scene: Scene, low: str, high: str
) -> None:
    """One counter: who may have two begins beside one, who may have one begins only when there is none."""
    runs = [scene.run(high, 0, gated=True), scene.run(low, 1, gated=True), scene.run(high, 2, gated=True)]
    scene.stays(0, 2)
    scene.open(0)
    runs[0].end()
    scene.stays(0, 2)
    scene.open(2)
    scene.stays(0, 1, 2)
    runs.append(scene.run(high, 3, gated=True))
    scene.stays(0, 1, 2, 3)
    scene.open()
    for run in runs:
        run.end()
    for effect, others in scene.busy():
        assert others < (1 if effect["fn"] == low else 2), scene.busy()


def test_apps_share_an_accounts_key_whatever_language_they_are_in(world: World) -> None:
    scenes = [Scene(world.app(sdk)) for sdk in (PY05, JS4)]
    first, other = scenes
    runs = [first.run("flow-account-high", 0, gated=True), other.run("flow-account-high", 0, gated=True)]
    first.stays(0)
    other.stays(0)
    runs += [scene.run("flow-account-high", 1, gated=True) for scene in scenes]
    first.stays(0)
    other.stays(0)
    # The place that is free in one app is taken in the other: the next in turn is there.
    other.open()
    runs[1].end()
    first.stays(0, 1)
    first.open()
    for run in runs:
        run.end()
    other.stays(0, 1)


@on(PY05, JS4)
def test_a_run_that_waits_has_no_place(scene: Scene) -> None:
    runs = scene.runs("flow-waits", 3)
    for run in runs:
        run.wait_step("wake")
    for n in range(3):
        scene.send("flow-wake", n)
    for n, run in enumerate(runs):
        assert run.end()["output"] == n
        assert run.bodies() == {"before": 1, "after": 1}
    calls = [call for run in runs for call in run.calls()]
    assert [call["beside"] for call in calls] == [0] * len(calls), calls


@on(PY05, JS4)
def test_events_without_the_key_share_places_and_hold_up_nobody_else(scene: Scene) -> None:
    keyless = [scene.run("flow-key", n, key=None, gated=True) for n in (0, 1)]
    keyed = scene.run("flow-key", 2, gated=True)
    scene.stays(0, 2)
    scene.open()
    for run in (*keyless, keyed):
        run.end()
    assert [without_key(run) for run in keyless] == [["concurrency[0].key"]] * 2
    assert without_key(keyed) == []
