"""Notes of a run's history become its steps."""

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_gateway.steps import StepTrace, fold_steps, run_notes, step_view, step_views

A, B = "a" * 40, "b" * 40


def note(step: str = A, **fields: Any) -> bytes:
    return json.dumps({"t": 1000, "type": "step", "id": step, **fields}).encode()


def shown(notes: list[bytes], results: dict[str, bytes | None] | None = None, *, ended: bool = False) -> Any:
    views = step_views(fold_steps(notes), results or {}, run_ended=ended)
    return orjson.loads(orjson.dumps(views))


def test_notes_of_one_step_are_one_entry_in_order_of_appearance() -> None:
    failed = {"name": "Error", "message": "boom"}
    notes = [
        note(B, t=900, name="other", op="StepRun", status="Waiting"),
        note(t=1000, name="a", op="StepRun", status="Retrying", attempt=0, started=950, error=failed),
        note(t=2000, name="a", op="StepRun", status="Completed", attempt=1, started=1900),
    ]
    assert shown(notes, {A: b'{"data":{"v":1}}'}) == [
        {
            "id": B,
            "name": "other",
            "op": "StepRun",
            "status": "Waiting",
            "attempts": 1,
            "started_at": "1970-01-01T00:00:00.900Z",
            "ended_at": None,
        },
        {
            "id": A,
            "name": "a",
            "op": "StepRun",
            "status": "Completed",
            "attempts": 2,
            "started_at": "1970-01-01T00:00:00.950Z",
            "ended_at": "1970-01-01T00:00:02.000Z",
            "output": {"v": 1},
        },
    ]


def test_a_step_that_is_tried_again_shows_its_last_error() -> None:
    (view,) = shown([note(status="Retrying", error={"name": "E", "message": "boom"}, attempt=2)])
    assert (view["status"], view["attempts"], view["error"]) == (
        "Retrying",
        3,
        {"name": "E", "message": "boom"},
    )


def test_a_step_that_failed_for_good_shows_the_whole_error() -> None:
    error = b'{"message":"boom","name":"E","stack":"at x"}'
    (view,) = shown([note(op="StepFailed", status="Failed")], {A: b'{"error":%b}' % error})
    assert (view["status"], view["error"]) == ("Failed", orjson.loads(error))
    assert "output" not in view


def test_what_has_ended_stays_ended() -> None:
    (view,) = shown([note(t=5, status="Completed"), note(t=9, status="Waiting")])
    assert (view["status"], view["ended_at"]) == ("Completed", "1970-01-01T00:00:00.005Z")


def test_a_wait_is_over_when_it_has_a_result() -> None:
    sleep, wait = note(A, op="Sleep", status="Waiting"), note(B, op="WaitForEvent", status="Waiting")
    event = b'{"data":{"error":1},"id":"x","name":"n","ts":1}'
    over = shown([sleep, wait], {A: b"null", B: event})
    assert [view["status"] for view in over] == ["Completed", "Completed"]
    assert over[0]["output"] is None
    assert over[1]["output"] == orjson.loads(event)


def test_an_event_that_looks_like_a_wrapper_is_shown_whole() -> None:
    (view,) = shown([note(op="WaitForEvent", status="Waiting")], {A: b'{"data":{"a":1}}'})
    assert view["output"] == {"data": {"a": 1}}


def test_what_a_run_left_behind_was_cancelled_with_it() -> None:
    notes = [note(A, status="Waiting"), note(B, status="Retrying", error={"name": "E", "message": "m"})]
    assert [view["status"] for view in shown(notes, ended=True)] == ["Cancelled", "Cancelled"]


def test_output_is_passed_on_byte_for_byte() -> None:
    view = step_view(StepTrace(A, op="StepRun"), b'{"data":123456789012345678901234567890}', run_ended=False)
    assert b'"output":123456789012345678901234567890' in orjson.dumps(view)


def test_what_is_no_step_is_left_out() -> None:
    others = [
        b"no json",
        b"[1]",
        b"\xff",
        json.dumps({"t": 1, "type": "attempt", "reason": "invalid status code: 500"}).encode(),
        json.dumps({"t": 1, "type": "cancelled", "why": "api", "id": A}).encode(),
        json.dumps({"t": 1, "type": "invented later", "id": A}).encode(),
        note(""),
        json.dumps({"t": 1, "type": "step", "id": 7}).encode(),
    ]
    assert fold_steps(others) == []


values = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4) | st.just({"name": "E"})
notes = st.fixed_dictionaries(
    {"type": st.sampled_from(["step", "attempt", "plan", "x"]), "id": st.sampled_from([A, B])},
    optional=dict.fromkeys(("t", "name", "op", "status", "attempt", "started", "error"), values),
)


@given(st.lists(notes, max_size=6), st.booleans())
def test_any_note_can_be_shown(lines: list[dict[str, Any]], ended: bool) -> None:
    views = shown([json.dumps(line).encode() for line in lines], {A: b"null"}, ended=ended)
    assert {view["id"] for view in views} == {line["id"] for line in lines if line["type"] != "x"}


def test_what_concerns_the_run_itself_is_told_in_its_order() -> None:
    """Why it was skipped or cancelled, keys without a value, failed requests; steps and what nobody knows are not."""
    notes = [
        b'{"t":1000,"type":"key","option":"concurrency[0].key","consequence":"shared"}',
        b'{"t":2000,"type":"step","id":"a","status":"Completed"}',
        b'{"t":3000,"type":"attempt","attempt":0,"reason":"HTTP 500","error":{"name":"E","message":"m"},"retry":9000}',
        b'{"t":4000,"type":"attempt","id":"a","attempt":0}',
        b"no JSON",
        b'{"t":5000,"type":"news"}',
        b'{"t":6000,"type":"cancelled","why":"bulk","cancellation":"01X"}',
    ]
    assert run_notes(notes) == [
        {
            "at": "1970-01-01T00:00:01.000Z",
            "type": "key",
            "option": "concurrency[0].key",
            "consequence": "shared",
        },
        {
            "at": "1970-01-01T00:00:03.000Z",
            "type": "attempt",
            "attempt": 0,
            "reason": "HTTP 500",
            "error": {"name": "E", "message": "m"},
            "retry_at": "1970-01-01T00:00:09.000Z",
        },
        {"at": "1970-01-01T00:00:06.000Z", "type": "cancelled", "why": "bulk", "cancellation": "01X"},
    ]
