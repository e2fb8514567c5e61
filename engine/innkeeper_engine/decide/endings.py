"""How a run ends, and what is told to others about it."""

from typing import Any

from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.notes import attempt_note
from innkeeper_engine.model.calls import Answer
from innkeeper_engine.model.decoding import decoded
from innkeeper_engine.model.effects import Effect, Finish, Retry
from innkeeper_engine.model.state import Lease

NON_RETRIABLE = "NonRetriableError"
"""The reason given where the app itself said that trying again is of no use."""

_KEPT_OF_AN_ERROR = ("cause", "data", "message", "name", "stack")


def complete(lease: Lease, output: bytes, context: Context) -> Finish:
    """The run returned."""
    return Finish(
        run=lease.run,
        status="Completed",
        output=output,
        error=b"",
        result=b"",
        reply=b'{"data":%b}' % output,
        ids=(context.new_id(), context.new_id()),
    )


def fail(lease: Lease, error: dict[str, Any], reason: str, context: Context) -> Finish:
    """The run failed for good with this error of the app's (at least `name` and `message`)."""
    told = {key: error[key] for key in _KEPT_OF_AN_ERROR if error.get(key) is not None}
    told["__serialized"] = True
    told["error"] = reason
    told.setdefault("name", "Error")
    told.setdefault("message", reason)
    told_json = context.canonical(told)
    return Finish(
        run=lease.run,
        status="Failed",
        output=b"",
        error=told_json,
        result=context.canonical(error),
        reply=b'{"error":%b}' % told_json,
        ids=(context.new_id(), context.new_id()),
    )


def fail_early(lease: Lease, name: str, message: str, context: Context) -> list[Effect]:
    """The run fails at once because of what it asked for; trying again would ask for the same."""
    error = {"name": name, "message": message}
    return [attempt_note(lease, name, context.now_ms, error, None), fail(lease, error, name, context)]


def failed_request(lease: Lease, answer: Answer, max_attempts: int, context: Context) -> list[Effect]:
    """A request failed as a whole: try again later, or give the run up."""
    error = _error_of(answer)
    if answer.no_retry or lease.attempt + 1 >= max_attempts:
        reason = NON_RETRIABLE if answer.no_retry else answer.reason
        return [
            attempt_note(lease, answer.reason, context.now_ms, error, None),
            fail(lease, error, reason, context),
        ]
    at_ms = context.policy.retry_at_ms(lease.attempt, context.now_ms, context.chance, answer.retry_at_ms)
    return [
        attempt_note(lease, answer.reason, context.now_ms, error, at_ms),
        Retry(lease.item, lease.attempt + 1, at_ms),
    ]


def _error_of(answer: Answer) -> dict[str, Any]:
    raw = answer.error if answer.error is not None else answer.output
    error = decoded(raw) if raw else None
    if not isinstance(error, dict):
        error = {"name": "Error", "message": error if isinstance(error, str) and error else answer.reason}
    if not error.get("message"):
        error["message"] = answer.reason
    if not error.get("name"):
        error["name"] = "Error"
    return error
