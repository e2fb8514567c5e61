"""Answers that the server itself stumbles over."""

import logging
from typing import Any

import pytest

from innkeeper_engine.decide import route
from innkeeper_engine.decide.respond import respond
from innkeeper_executor import commits
from tests.executor.house import House, function, ops, output, wait_for


async def test_an_answer_that_cannot_be_decided_on_costs_an_attempt(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on by the rules of a failed request; left to its lease, the app would be asked at once, for ever."""
    real, failures = respond, [RuntimeError("a bug")]

    def stumbling(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(commits, "respond", stumbling)
    with caplog.at_level(logging.CRITICAL):
        await house.register(function("f"))
        await house.start_executor()
        await house.send("test/f")
        first = await house.driver.arrival()
        first.answer(output())
        second = await house.driver.arrival()
        assert (first.call.attempt, second.call.attempt) == (0, 1)
        second.answer(output())
        await house.run_ended(second.call.run_id)
    assert await house.status(first.call.run_id) == "Completed"


async def test_what_cannot_be_routed_holds_up_nothing_behind_it(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A condition that another version wrote, and a function that cannot be decided on, are left out and logged."""
    real = route._bound

    def stumbling(condition: bytes) -> Any:
        if b"poison" in condition:
            raise ValueError("no such thing")
        return real(condition)

    monkeypatch.setattr(route, "_bound", stumbling)
    await house.register(function("waits"), function("f"))
    hand = house.hand()
    condition = {"if": "async.data.poison == 1 && async.data.x == 2"}
    hand.driver.scripts["waits"] = lambda _: ops(wait_for("w", "test/f", **condition))
    hand.driver.scripts["f"] = lambda _: output()

    async def all_done(name: str, data: dict[str, int]) -> str:
        event = await house.send(name, data)
        await hand.route_all()
        await hand.due()
        await hand.worker.wait_until_idle()
        (run,) = await house.started(event)
        return run

    waiting = await all_done("test/waits", {})
    with caplog.at_level(logging.CRITICAL):
        ended = await all_done("test/f", {"poison": 1, "x": 2})
    assert await house.status(ended) == "Completed"
    assert await house.status(waiting) == "Running"
