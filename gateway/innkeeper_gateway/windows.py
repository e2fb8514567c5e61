"""What jobs over many runs of a function are asked for with: a function, and a window of time."""

from collections.abc import Sequence
from typing import Any

from innkeeper_apps.wire.expressions import EVENT, condition
from innkeeper_apps.wire.fields import Fields, Findings
from innkeeper_engine.cel import compile_expression
from innkeeper_engine.compiled import FunctionEntry, Registry
from innkeeper_engine.durations import DurationError, parse_instant_ms
from innkeeper_gateway.errors import ApiError


def fields_of(body: Any, known: Sequence[str], refusal: str, example: str) -> tuple[Fields, Findings]:
    """The fields of a decoded body. One that is not `known` is a problem: unread, it would have more done than is meant.

    Raises:
        ApiError: 400, it is no object, but should be one such as `example`; `refusal` is how the sentence begins.
    """
    if not isinstance(body, dict):
        raise ApiError(400, f"{refusal}: write an object, {example}")
    findings = Findings()
    fields = Fields(body, findings)
    for name in body:
        if name not in known:
            fields.problem(name[:100], f"there is no such field; there are {', '.join(known)}")
    return fields, findings


def expression_of(fields: Fields, doing: str) -> str | None:
    """`if`, over the run's first event: a problem where it cannot be compiled, or is there and empty.

    `doing` is what becomes of the runs, such as `cancel`.
    """
    given = fields.get("if")
    if isinstance(given, str) and not given.strip():
        fields.problem("if", f"is empty: leave it out to {doing} all runs of the window")
    return condition(fields, "if", EVENT, compile_expression)


def refused(findings: Findings, refusal: str) -> ApiError:
    """400: everything that is wrong with a body."""
    said = "; ".join(f"{problem.field}: {problem.message}" for problem in findings.problems)
    return ApiError(400, f"{refusal}: {said}")


def instant(fields: Fields, key: str, missing: str = "") -> int | None:
    """A field's time in ms; None where there is none, or a wrong one. `missing`: what to write where it must be."""
    text = fields.text(key)
    if text is None:
        if missing and fields.get(key) in (None, ""):
            fields.problem(key, f"is missing: {missing}, for example 2024-01-31T16:30:00Z")
        return None
    try:
        at_ms = parse_instant_ms(text)
    except DurationError as error:
        fields.problem(key, str(error))
        return None
    if at_ms < 0:
        fields.problem(key, f"{text[:100]!r} is before 1970: leave it out where any time is meant")
        return None
    return at_ms


def function_of(registry: Registry, app_id: str, function_id: str) -> FunctionEntry | None:
    """The function that is meant: by its own id or, where there is none of that, by its slug."""
    for slug in (f"{app_id}-{function_id}", function_id):
        entry = registry.functions.get(slug)
        if entry is not None and entry.app.id == app_id:
            return entry
    return None


def no_function(app_id: str, function_id: str) -> ApiError:
    """404: nothing of the kind is registered."""
    return ApiError(
        404,
        f"no function {function_id!r} of the app {app_id!r} is registered; `function_id` is what the function's own code "
        "calls it",
    )
