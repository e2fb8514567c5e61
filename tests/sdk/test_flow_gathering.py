"""Events that are put together: a debounce keeps the last, a batch all."""

import pytest

from tests.sdk.flow import Scene, without_key
from tests.sdk.harness import ALL, JS4, PY05, on, wait_until

pytestmark = pytest.mark.sdk


def at_ms(effect: dict[str, object]) -> int:
    """When a body ran, by the clock that the server has too: all are on one machine."""
    return int(str(effect["at_ms"]))


@on(*ALL)
def test_the_last_event_of_each_key_has_the_run(scene: Scene) -> None:
    keys = ("a", "b", "a", "a", "b")
    events = [scene.send("flow-debounce", n, key=key) for n, key in enumerate(keys)]
    last = {n: scene.app.run_of(events[n]) for n in (3, 4)}
    for n, run in last.items():
        assert run.end()["output"] == n
    assert sorted(scene.entered()) == [3, 4]
    assert [scene.runs_of(events[n]) for n in (0, 1, 2)] == [[], [], []]
    sent_ms = {n: ulid_ms(events[n]) for n in (3, 4)}
    for effect in scene.effects("enter"):
        assert effect["ns"] == [effect["n"]]
        assert at_ms(effect) - sent_ms[effect["n"]] >= 999, "not before the period is over"


def ulid_ms(event_id: str) -> int:
    """When the event was accepted, which its id begins with."""
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    value = 0
    for letter in event_id[:10]:
        value = value * 32 + digits.index(letter)
    return value


@on(PY05, JS4)
def test_a_timeout_ends_a_debounce_that_events_keep_up(scene: Scene) -> None:
    """The period is a minute, the timeout a second after the first event."""
    first = scene.send("flow-debounce-ceiling", 0)
    second = scene.send("flow-debounce-ceiling", 1)
    run = scene.app.run_of(second)
    assert run.end()["output"] == 1
    (effect,) = scene.effects("enter")
    assert at_ms(effect) - ulid_ms(first) >= 999


@on(PY05, JS4)
def test_events_without_the_debounces_key_are_not_merged(scene: Scene) -> None:
    runs = scene.runs("flow-debounce", 2, key=None)
    for n, run in enumerate(runs):
        assert run.end()["output"] == n
        assert without_key(run) == ["debounce.key"]


@on(*ALL)
def test_a_full_batch_of_each_key_is_one_run_with_its_events_in_order(scene: Scene) -> None:
    keys = ("a", "b", "a", "a", "b", "a", "b")
    events = [scene.send("flow-batch", n, key=key, alone=False) for n, key in enumerate(keys)]
    for mine, ns in (((0, 2, 3), [0, 2, 3]), ((1, 4, 6), [1, 4, 6])):
        runs = [scene.app.run_of(events[n]) for n in mine]
        assert len({run.id for run in runs}) == 1, "the run is listed with each of its events"
        runs[0].end()
        (effect,) = runs[0].effects("enter")
        assert effect["ns"] == ns
        assert effect["n"] == ns[0], "`event` is the first"
    scene.settle()
    # The fourth of a waits for two more.
    assert scene.runs_of(events[5]) == []
    for n, key in ((7, "a"), (8, "a")):
        scene.send("flow-batch", n, key=key, alone=False)
    rest = scene.app.run_of(events[5])
    rest.end()
    assert rest.effects("enter")[0]["ns"] == [5, 7, 8]


@on(PY05, JS4)
def test_a_batch_that_does_not_fill_up_is_let_go_by_its_timeout(scene: Scene) -> None:
    first, second = scene.send("flow-batch-soon", 0), scene.send("flow-batch-soon", 1)
    # Events without a value for the key are a batch of their own.
    keyless = [scene.send("flow-batch-soon", n, key=None) for n in (2, 3)]
    run, other = scene.app.run_of(first), scene.app.run_of(keyless[0])
    run.end()
    other.end()
    assert scene.app.run_of(second).id == run.id
    (effect,), (keyless_effect,) = run.effects("enter"), other.effects("enter")
    assert effect["ns"] == [0, 1]
    assert keyless_effect["ns"] == [2, 3]
    assert at_ms(effect) - ulid_ms(first) >= 999
    assert without_key(run) == []
    assert set(without_key(other)) == {"batchEvents.key"}


@on(PY05, JS4)
def test_an_event_that_the_batchs_condition_does_not_accept_runs_alone(scene: Scene) -> None:
    """Neither false nor missing is true."""
    gathered = scene.send("flow-batch", 0, alone=False)
    alone, missing = scene.run("flow-batch", 1, alone=True), scene.run("flow-batch", 2)
    for n, run in ((1, alone), (2, missing)):
        run.end()
        assert run.effects("enter")[0]["ns"] == [n]
    assert [without_key(run) for run in (alone, missing)] == [[], ["batchEvents.if"]]
    assert scene.runs_of(gathered) == []
    for n in (3, 4):
        scene.send("flow-batch", n, alone=False)
    wait_until(
        lambda: [0, 3, 4] in [e["ns"] for e in scene.effects("enter")], "the batch", seen=scene.effects
    )
