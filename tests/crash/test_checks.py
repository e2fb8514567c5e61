"""The checks of the storm find what they are there to find."""

from typing import Any

import pytest

from tests.crash.app import hashed
from tests.crash.checks import (
    Run,
    Sent,
    check_all,
    check_checkpoints,
    check_ends,
    check_events,
    check_inner_runs,
    check_leases,
    check_results,
)
from tests.crash.ledger import Checkpoint, Execution, Ledger, Request
from tests.crash.shard import left_over

RUN = "01RUN"
ONLY = hashed("only")


def request(ledger: Ledger, *, token: str = "t1", generation: int = 1, **fields: Any) -> Request:
    """A request of the run, added to the ledger; `steps` in the order of its stack."""
    steps: dict[str, Any] = fields.pop("steps", {})
    made = Request(
        at=ledger.next(),
        slug="crash-once",
        run=fields.pop("run", RUN),
        target="step",
        item=fields.pop("item", f"{RUN}.0"),
        generation=generation,
        request_id=token,
        attempt=0,
        steps=steps,
        stack=tuple(steps),
        event={"data": {"key": "k"}},
    )
    assert not fields
    ledger.requests.append(made)
    return made


def execution(ledger: Ledger, nonce: str, *, token: str = "t1", name: str = "only", run: str = RUN) -> None:
    """A body that ran."""
    ledger.executions.append(Execution(ledger.next(), run, hashed(name), name, nonce, token))


def good() -> tuple[Ledger, list[Sent], dict[str, Run]]:
    """One event, its one run, its one step."""
    ledger = Ledger()
    request(ledger)
    execution(ledger, "n1")
    request(ledger, token="t2", item=f"{RUN}.1", steps={ONLY: {"data": "n1"}})
    runs = {RUN: Run(RUN, "crash-once", "Completed", ("e1",), {"only": "n1"})}
    return ledger, [Sent("crash/once", "k", ("e1", "e2"))], runs


def test_a_run_as_it_should_be_breaks_nothing() -> None:
    assert check_all(*good()) == []


def test_a_lease_that_reached_the_app_twice_is_found() -> None:
    ledger, _, _ = good()
    request(ledger, token="t2", item=f"{RUN}.2")
    assert any("lease t2: 2 requests" in breach for breach in check_leases(ledger))


def test_a_dispatch_that_reached_the_app_under_two_leases_is_found() -> None:
    ledger, _, _ = good()
    request(ledger, token="t3")
    assert check_leases(ledger) == [f"item {RUN}.0, generation 1: 2 requests"]


def test_a_body_that_ran_twice_under_one_lease_is_found() -> None:
    ledger, _, _ = good()
    execution(ledger, "n2")
    assert any("ran step" in breach for breach in check_leases(ledger))


def test_a_body_may_run_again_under_another_lease() -> None:
    ledger, sent, runs = good()
    request(ledger, token="t0", generation=2)
    execution(ledger, "n2", token="t0")
    assert check_all(ledger, sent, runs) == []


def test_a_result_that_changes_is_found() -> None:
    ledger, _, _ = good()
    execution(ledger, "n2", token="t0")
    request(ledger, token="t4", item=f"{RUN}.1", generation=2, steps={ONLY: {"data": "n2"}})
    assert any("shown as" in breach for breach in check_results(ledger))


def test_a_result_that_no_execution_returned_is_found() -> None:
    ledger, _, _ = good()
    ledger.executions[0].nonce = "n9"
    assert any("no result of the app's" in breach for breach in check_results(ledger))


def test_a_result_that_went_away_or_another_order_is_found() -> None:
    ledger = Ledger()
    request(ledger, steps={"a": None, "b": None})
    request(ledger, token="t2", steps={"b": None})
    assert any("is no beginning of" in breach for breach in check_results(ledger))


def test_steps_and_stack_must_agree() -> None:
    ledger = Ledger()
    request(ledger, steps={"a": None}).stack = ("a", "b")
    assert any("stack" in breach for breach in check_results(ledger))


def checkpoint(ledger: Ledger, nonce: str, *, token: str) -> None:
    """A checkpoint that was acknowledged."""
    ledger.checkpoints.append(Checkpoint(ledger.next(), RUN, ONLY, nonce, token))


@pytest.mark.parametrize("shown", [{}, {ONLY: {"data": "n2"}}])
def test_a_checkpoint_that_is_not_in_a_later_request_is_found(shown: dict[str, Any]) -> None:
    ledger = Ledger()
    request(ledger)
    checkpoint(ledger, "n1", token="t1")
    request(ledger, token="t2", generation=2, steps=shown)
    assert len(check_checkpoints(ledger)) == 1


def test_a_checkpointed_step_that_ran_again_is_found() -> None:
    ledger = Ledger()
    request(ledger)
    execution(ledger, "n1")
    checkpoint(ledger, "n1", token="t1")
    request(ledger, token="t2", generation=2, steps={ONLY: {"data": "n1"}})
    assert check_checkpoints(ledger) == []
    execution(ledger, "n2", token="t2")
    assert len(check_checkpoints(ledger)) == 1


def test_a_request_of_an_older_lease_may_come_late() -> None:
    ledger = Ledger()
    request(ledger, token="t2", generation=2)
    execution(ledger, "n1", token="t2")
    checkpoint(ledger, "n1", token="t2")
    request(ledger, token="t1", generation=1)
    execution(ledger, "n2", token="t1")
    assert check_checkpoints(ledger) == []


def test_an_event_without_a_run_and_one_with_two_are_found() -> None:
    _, sent, runs = good()
    assert len(check_events(sent, {})) == 1
    runs["01TWO"] = Run("01TWO", "crash-once", "Completed", ("e2",), {"only": "n1"})
    assert len(check_events(sent, runs)) == 1


def test_a_run_that_nobody_asked_for_is_found() -> None:
    _, sent, runs = good()
    runs["01TWO"] = Run("01TWO", "crash-once", "Completed", ("e7",), {"only": "n1"})
    assert check_events(sent, runs) == ["run 01TWO of crash-once: no acknowledged event started it"]


@pytest.mark.parametrize("status", ["Running", "Failed", "Cancelled"])
def test_a_run_that_did_not_end_as_it_should_is_found(status: str) -> None:
    ledger, _, runs = good()
    runs[RUN] = Run(RUN, "crash-once", status, ("e1",), None)
    assert check_ends(ledger, runs) == [f"run {RUN} of crash-once: {status}, not Completed"]


@pytest.mark.parametrize("output", [None, {}, {"only": "n2"}])
def test_an_output_that_is_not_made_of_the_recorded_results_is_found(output: Any) -> None:
    ledger, _, runs = good()
    runs[RUN] = Run(RUN, "crash-once", "Completed", ("e1",), output)
    assert len(check_ends(ledger, runs)) == 1


def test_an_invocation_that_ran_twice_or_never_is_found() -> None:
    ledger = Ledger()
    runs = {}
    for name, slug in (("01A", "crash-caller"), ("01B", "crash-callee")):
        request(ledger, run=name, token=name, item=f"{name}.0")
        runs[name] = Run(name, slug, "Completed", (), {})
    assert check_inner_runs(ledger, runs) == []
    twice = runs | {"01C": Run("01C", "crash-callee", "Completed", (), {})}
    request(ledger, run="01C", token="01C", item="01C.0")
    assert len(check_inner_runs(ledger, twice)) == 1
    del runs["01B"]
    assert len(check_inner_runs(ledger, runs)) == 1


def test_a_failure_that_was_told_twice_or_never_is_found() -> None:
    failed = Run("01A", "crash-failing", "Failed", (), None)
    told = Run("01B", "crash-failing-failure", "Completed", (), {"told": "n", "run": "01A"})
    assert check_inner_runs(Ledger(), {"01A": failed, "01B": told}) == []
    assert len(check_inner_runs(Ledger(), {"01A": failed})) == 1
    again = Run("01C", "crash-failing-failure", "Completed", (), {"told": "n", "run": "01A"})
    assert len(check_inner_runs(Ledger(), {"01A": failed, "01B": told, "01C": again})) == 1


def test_what_goes_with_a_run_counts_as_left_over_and_what_is_kept_does_not() -> None:
    gone = ["i:01RUN.0", "ready", "s:c|default/a", "st:01RUN", "timers", "w:01RUN.x", "x:ex-1", "q:p", "n:l"]
    kept = ["run:01RUN", "pl:01RUN", "h:01RUN", "ev:default:1", "clock", "hist", "lead:router", "f:default/a"]
    assert left_over(gone + kept) == sorted(gone)
