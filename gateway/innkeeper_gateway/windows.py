"""What jobs over many runs of a function are asked for with: a function, and a window of time."""

from collections.abc import Sequence
from typing import Any, Protocol

from innkeeper_apps.wire.expressions import EVENT, condition
from innkeeper_apps.wire.fields import Fields, Findings
from innkeeper_engine.cel import compile_expression
from innkeeper_engine.compiled import FunctionEntry, Registry
from innkeeper_engine.durations import DurationError, parse_instant_ms
from innkeeper_gateway.access.callers import Caller
from innkeeper_gateway.access.permissions import SEE_PAYLOADS, Permission
from innkeeper_gateway.core import Core
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


def named(fields: Fields) -> tuple[str | None, str | None]:
    """The ids of the app and the function; None, and a problem, where one is missing."""
    return (
        fields.identity("app_id", "write the id of the app, as its client has it"),
        fields.identity("function_id", "write the id of the function, as its own code has it"),
    )


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


class Asked(Protocol):
    """What is asked for, as far as it says whose runs are meant."""

    @property
    def app_id(self) -> str:
        """The app's id."""
        ...

    @property
    def function_id(self) -> str:
        """The function's own id, or its slug."""
        ...

    @property
    def expression(self) -> str | None:
        """`if`: which of the runs are meant."""
        ...


async def permitted_function(
    core: Core, caller: Caller, permission: Permission, registry: Registry, asked: Asked
) -> FunctionEntry:
    """The function that a job is asked for, where the caller may have its runs dealt with so.

    Raises:
        ApiError: 403, the caller may not, or may not see payloads and an expression would tell of them; 404, there is
            no such function.
    """
    entry = function_of(registry, asked.app_id, asked.function_id)
    await core.access.require(caller, permission, "" if entry is None else entry.config.object_name)
    if entry is None:
        raise ApiError(
            404,
            f"no function {asked.function_id!r} of the app {asked.app_id!r} is registered; `function_id` is what the "
            "function's own code calls it",
        )
    if asked.expression is not None:
        # Which runs are meant, or how many, tells what it was true for.
        await core.access.require(caller, SEE_PAYLOADS, entry.config.object_name)
    return entry
