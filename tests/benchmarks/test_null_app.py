"""The null app's answers, and the ledger that it keeps."""

import asyncio
from typing import Any

import orjson
import pytest

from benchmarks.ceiling import Plan, Shape, call_body, step_hash
from benchmarks.ledger import Ledger
from benchmarks.null_app import NullApp, number_after, registration
from benchmarks.processes import Board, RunsLost


def plan(shape: Shape, steps: int) -> Plan:
    return Plan(
        app_url="http://app", slug="s", event="e", shape=shape, steps=steps, runs=1, in_flight=1, first_mark=0
    )


def split(answer: bytes | None) -> tuple[int, Any]:
    """Status and decoded body of an HTTP answer."""
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    return int(head.split()[1]), orjson.loads(body)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(lambda: None)


@pytest.fixture
def app(ledger: Ledger) -> NullApp:
    return NullApp("http://127.0.0.1:1", ledger)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"mark":17}', 17),
        (b'{"mark": 17 }', 17),
        (b'{"mark":0,"x":5}', 0),
        (b'{"other":17}', -1),
        (b'{"mark":"17"}', -1),
        (b'{"mark":12', 12),
    ],
)
def test_a_number_is_found_by_its_key(body: bytes, expected: int) -> None:
    assert number_after(body, b'"mark":') == expected


def test_recorded_shape_is_json_with_the_stack_and_the_steps_that_are_done() -> None:
    body = orjson.loads(call_body(plan("chain", 5), mark=7, done=2))
    assert body["ctx"]["stack"] == {"current": 2, "stack": [step_hash(0), step_hash(1)]}
    assert body["steps"] == {step_hash(0): {"data": 0}, step_hash(1): {"data": 1}}
    assert body["event"]["data"] == {"length": 5, "mark": 7}
    assert body["events"] == [body["event"]]


def test_noop_ends_at_once(app: NullApp, ledger: Ledger) -> None:
    assert split(app.call("noop", "step", call_body(plan("single", 0), 3, 0), 50.0)) == (200, "done")
    stats = ledger.stats(3, 1)
    assert stats["first"] == [50.0]
    assert stats["finished"][0] > 0


def test_chain_runs_one_step_a_request_and_then_ends(app: NullApp, ledger: Ledger) -> None:
    for done in range(3):
        status, ops = split(app.call("chain", "step", call_body(plan("chain", 3), 0, done), 1.0))
        assert status == 206
        assert [(op["op"], op["id"], op["data"]) for op in ops] == [("StepRun", step_hash(done), done)]
    assert ledger.stats(0, 1)["finished"] == [0.0]
    _, ops = split(app.call("chain", "step", call_body(plan("chain", 3), 0, 3), 1.0))
    assert [op["op"] for op in ops] == ["RunComplete"]
    assert ledger.stats(0, 1)["finished"][0] > 0


def test_fan_plans_all_steps_runs_the_one_asked_for_and_ends(app: NullApp) -> None:
    shape = plan("fan", 4)
    _, planned = split(app.call("fan", "step", call_body(shape, 0, 0), 1.0))
    assert [op["op"] for op in planned] == ["StepPlanned"] * 4
    target = planned[2]["id"]
    _, ran = split(app.call("fan", target, call_body(shape, 0, 0, target), 1.0))
    assert [(op["op"], op["id"]) for op in ran] == [("StepRun", target)]
    _, ended = split(app.call("fan", "step", call_body(shape, 0, 4), 1.0))
    assert [op["op"] for op in ended] == ["RunComplete"]
    assert split(app.call("fan", "0" * 40, call_body(shape, 0, 0), 1.0))[0] == 500


@pytest.mark.parametrize(("name", "op"), [("sleep", "Sleep"), ("wait", "WaitForEvent")])
def test_sleeping_and_waiting_runs_end_when_resumed(app: NullApp, ledger: Ledger, name: str, op: str) -> None:
    _, ops = split(app.call(name, "step", call_body(plan("single", 0), 2, 0), 10.0))
    assert [one["op"] for one in ops] == [op]
    assert ledger.take_news() == b"s 2\n"
    _, ops = split(app.call(name, "step", call_body(plan("single", 0), 2, 1), 99.0))
    assert [one["op"] for one in ops] == ["RunComplete"]
    assert ledger.stats(2, 1)["resumed"] == [99.0]
    assert ledger.take_news() == b"f 2\n"


def test_an_unknown_function_is_an_error(app: NullApp) -> None:
    status, error = split(app.call("nope", "step", b"{}", 1.0))
    assert status == 500
    assert "nope" in error["message"]


def test_every_function_is_registered_under_its_slug() -> None:
    functions = registration("http://127.0.0.1:5/api/inngest")["functions"]
    for function in functions:
        url = function["steps"]["step"]["runtime"]["url"]
        assert url == f"http://127.0.0.1:5/api/inngest?fnId={function['id']}&stepId=step"
    assert [f["concurrency"] for f in functions if "concurrency" in f] == [
        [{"limit": 1}],
        [{"limit": 1, "key": "event.data.tenant"}],
    ]


def test_a_tenant_ends_at_once_unless_it_is_told_to_block(app: NullApp, ledger: Ledger) -> None:
    assert split(app.call("tenant", "step", b'{"mark":1,"tenant":"B"}', 1.0)) == (200, "done")
    assert app.call("tenant", "step", b'{"block":1,"mark":2,"tenant":"A"}', 1.0) is None
    assert ledger.stats(2, 1) == {**ledger.stats(9, 1), "first": [1.0]}


def test_the_first_time_stays_and_a_second_end_is_counted(ledger: Ledger) -> None:
    ledger.note("finished", 5, 100.0)
    ledger.note("finished", 5, 200.0)
    ledger.note("first", -1, 100.0)
    assert ledger.stats(4, 3)["finished"] == [0.0, 100.0, 0.0]
    assert ledger.repeats == 1


def test_stats_beyond_what_was_seen_are_zeros(ledger: Ledger) -> None:
    assert ledger.stats(1_000_000, 2)["first"] == [0.0, 0.0]


def test_news_are_announced_once_until_taken() -> None:
    calls: list[int] = []
    ledger = Ledger(lambda: calls.append(1))
    ledger.note("slept", 1, 1.0)
    ledger.note("finished", 2, 1.0)
    ledger.note("first", 3, 1.0)
    assert len(calls) == 1
    assert ledger.take_news() == b"f 2\ns 1\n"
    ledger.note("finished", 4, 1.0)
    assert len(calls) == 2


async def test_board_waits_for_all_marks() -> None:
    board = Board()
    waiting = asyncio.create_task(board.every(range(3), stall_s=5))
    board.add([0, 1])
    await asyncio.sleep(0)
    assert not waiting.done()
    board.add([2])
    await waiting
    await board.one(2, stall_s=5)


async def test_board_says_which_runs_are_lost() -> None:
    board = Board()
    board.add([0])
    with pytest.raises(RunsLost, match=r"1 of 1 runs got no further .* \[1\]"):
        await board.every(range(2), stall_s=0.01)
    with pytest.raises(RunsLost, match="run 9"):
        await board.one(9, stall_s=0.01)
