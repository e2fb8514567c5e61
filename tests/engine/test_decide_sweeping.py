"""Cancellations of many runs: which of a page they cover, and whether they still have something to say."""

from typing import Any

import msgspec
import pytest

from innkeeper_engine.compiled import CompiledCancellation, Registry
from innkeeper_engine.decide.sweeping import LiveRun, covers, in_force, in_window, needs_events, sweep_effects
from innkeeper_engine.model.effects import Cancel
from innkeeper_engine.model.functions import App
from tests.engine.model_decide import NOW_MS, bulk, context, function


def known(*functions: str, **options: Any) -> Registry:
    """An environment with these functions and one cancellation."""
    apps = [App(id="app", url="", functions=tuple(map(function, functions)))]
    return Registry("env", 1, apps, cancellations=[bulk(**options)])


def cancellation(**options: Any) -> CompiledCancellation:
    """A cancellation in force, of runs made at `NOW_MS` if nothing else is said."""
    found = in_force(known("app-fn", **options), "C1")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("after_ms", "before_ms", "covered"),
    [
        (0, NOW_MS, False),
        (0, NOW_MS + 1, True),
        (NOW_MS, NOW_MS + 1, True),
        (NOW_MS + 1, NOW_MS + 2, False),
        (NOW_MS, NOW_MS, False),
        (NOW_MS + 2, NOW_MS - 2, False),
    ],
)
def test_a_window_has_its_beginning_and_not_its_end(after_ms: int, before_ms: int, covered: bool) -> None:
    """By the time at which the run was made."""
    asked = cancellation(after_ms=after_ms, before_ms=before_ms)
    assert in_window(asked, NOW_MS) is covered
    assert covers(asked, NOW_MS, {}) is covered


@pytest.mark.parametrize(
    ("event", "covered"),
    [
        ({"data": {"k": "v"}}, True),
        ({"data": {"k": "other"}}, False),
        ({"data": {}}, False),
        ({}, False),
        ({"data": 7}, False),
    ],
)
def test_a_condition_that_is_not_true_spares_the_run(event: dict[str, Any], covered: bool) -> None:
    """Also one that gives nothing."""
    assert covers(cancellation(expression="event.data.k == 'v'"), NOW_MS, event) is covered


def test_a_condition_does_not_widen_the_window() -> None:
    """Both have to hold."""
    assert not covers(cancellation(expression="true"), NOW_MS + 1, {})


def test_the_runs_of_a_page_that_are_covered_end() -> None:
    """In their order, each with ids of its own, and a line of history that names the cancellation."""
    runs = [
        LiveRun("r1", NOW_MS, b'{"data":{"k":"v"}}'),
        LiveRun("r2", NOW_MS, b'{"data":{"k":"other"}}'),
        LiveRun("r3", NOW_MS - 1, b'{"data":{"k":"v"}}'),
        LiveRun("r4", NOW_MS),
        LiveRun("r5", NOW_MS, b"no JSON"),
        LiveRun("r6", NOW_MS, b'{"data":{"k":"v"}}'),
    ]
    found = sweep_effects(cancellation(expression="event.data.k == 'v'"), runs, context())
    cancels = [effect for effect in found if isinstance(effect, Cancel)]
    assert [cancel.run for cancel in cancels] == ["r1", "r6"]
    assert len(found) == 2
    assert len({each for cancel in cancels for each in cancel.ids}) == 4
    line = {"t": NOW_MS, "type": "cancelled", "why": "bulk", "cancellation": "C1"}
    assert [msgspec.json.decode(cancel.note) for cancel in cancels] == [line, line]
    assert {cancel.pause for cancel in cancels} == {""}


def test_without_a_condition_no_event_is_needed() -> None:
    """Nobody has to read them."""
    plain, asked = cancellation(), cancellation(expression="event.data.k == 'v'")
    assert (needs_events(plain), needs_events(asked)) == (False, True)
    assert len(sweep_effects(plain, [LiveRun("r1", NOW_MS), LiveRun("r2", NOW_MS)], context())) == 2


def test_the_runs_of_a_function_that_is_gone_end_as_such() -> None:
    """If it has not come back."""
    asked = in_force(known("app-other", why="function"), "C1")
    assert asked is not None
    (cancel,) = sweep_effects(asked, [LiveRun("r1", NOW_MS)], context())
    assert isinstance(cancel, Cancel)
    line = {"t": NOW_MS, "type": "cancelled", "why": "function", "function": "app-fn"}
    assert msgspec.json.decode(cancel.note) == line
    assert in_force(known("app-fn", why="function"), "C1") is None


def test_a_cancellation_of_a_function_that_is_gone_goes_on() -> None:
    """Somebody asked for it."""
    assert in_force(known("app-other"), "C1") is not None


def test_what_was_deleted_or_cannot_be_read_says_nothing() -> None:
    """A condition that another version wrote."""
    assert in_force(known("app-fn"), "C2") is None
    assert in_force(known("app-fn", expression="event.data.k =="), "C1") is None
    assert known("app-fn", expression="event.data.k ==").functions["app-fn"].cancellations == ()
