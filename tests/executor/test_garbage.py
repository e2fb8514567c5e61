"""Nothing that a run leaves behind waits for Python's collector, from the lease of an item to its commit."""

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from innkeeper_engine.decide import route
from innkeeper_engine.model.calls import Answer, Op, OpKind
from innkeeper_executor import commits
from tests.executor.house import Hand, House, failure, fetch, function, ops, output, ran
from tests.garbage import LARGE_BYTES, nothing_left_behind

LARGE = "x" * 20 * LARGE_BYTES


def once(step: Op, then: Answer) -> Callable[[bool], Answer]:
    """The step first, and this when it is there."""
    return lambda has_run: then if has_run else ops(step)


def broken() -> Answer:
    """What no driver may do."""
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(once(ran("a", LARGE), output(LARGE)), id="completed"),
        pytest.param(once(ran("a", LARGE), failure(LARGE, no_retry=True)), id="failed"),
        pytest.param(once(fetch("a", "http://127.0.0.1:1/"), output(LARGE)), id="fetch"),
        pytest.param(
            once(Op(id="a", kind=OpKind.SLEEP, name="a", opts={"duration": "never"}), output()),
            id="no duration",
        ),
        pytest.param(lambda _: broken(), id="broken driver"),
    ],
)
async def test_runs_leave_nothing_that_holds_itself(house: House, answer: Callable[[bool], Answer]) -> None:
    await house.register(function("f", retries=0))
    hand = house.hand()
    hand.driver.scripts["f"] = lambda call: answer(bool(call.steps))
    await go_through(house, hand)
    with nothing_left_behind():
        for _ in range(3):
            await go_through(house, hand)


async def go_through(house: House, hand: Hand) -> None:
    """One event, all that it starts, and nothing of it kept by the test's own app."""
    await house.send("test/f", {"a": LARGE})
    await hand.route_all()
    await hand.due()
    await asyncio.wait_for(hand.worker.wait_until_idle(), 5)
    hand.driver.calls.clear()
    hand.driver.targets.clear()
    hand.ended.clear()


@pytest.mark.parametrize(
    ("module", "name"),
    [pytest.param(commits, "respond", id="answer"), pytest.param(route, "_start", id="event")],
)
async def test_what_cannot_be_decided_leaves_nothing_that_holds_itself(
    house: House, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    """The errors are logged with all that they came from, and then gone."""
    real, failing = getattr(module, name), [False]

    def stumbling(*arguments: Any) -> Any:
        if failing[0]:
            failing[0] = False
            raise RuntimeError("a bug")
        return real(*arguments)

    monkeypatch.setattr(module, name, stumbling)
    await house.register(function("f", retries=0))
    hand = house.hand()
    hand.driver.scripts["f"] = lambda _: output(LARGE)

    async def fail_once() -> None:
        failing[0] = True
        await go_through(house, hand)
        assert not failing[0]

    await fail_once()
    with nothing_left_behind():
        for _ in range(3):
            await fail_once()


async def test_requests_that_are_called_off_leave_nothing_that_holds_itself(house: House) -> None:
    await house.register(function("f"))
    hand = house.hand()

    async def call_off() -> None:
        await house.send("test/f", {"a": LARGE})
        await hand.route_all()
        await hand.due()
        run = (await hand.driver.arrival()).call.run_id
        await house.cancel(run)
        hand.worker.run_ended(hand.worker.tokens[0])
        await asyncio.wait_for(hand.worker.wait_until_idle(), 5)
        hand.driver.calls.clear()

    await call_off()
    with nothing_left_behind():
        for _ in range(3):
            await call_off()
