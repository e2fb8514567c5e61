"""Answers that the server itself stumbles over."""

import logging
from typing import Any

import pytest

from innkeeper_executor import worker
from tests.executor.house import House, function, output


async def test_an_answer_that_cannot_be_decided_on_costs_an_attempt(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on by the rules of a failed request; left to its lease, the app would be asked at once, for ever."""
    real, failures = worker.respond, [RuntimeError("a bug")]

    def stumbling(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(worker, "respond", stumbling)
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
