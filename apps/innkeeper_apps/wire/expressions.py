"""Checks of the CEL expressions in a registration, at the field where each stands."""

import re
from collections.abc import Collection
from typing import Final, Protocol

from innkeeper_apps.wire.fields import Fields
from innkeeper_engine.cel import Expression, ExpressionError
from innkeeper_engine.cel.nodes import Cond, Node, field_path, free_names

EVENT: Final = frozenset({"event"})
EVENT_AND_ASYNC: Final = frozenset({"event", "async"})

_FIELDS: Final = ("id", "name", "data", "user", "ts", "v")
"""What an event has (https://www.inngest.com/docs/features/events-triggers/event-format)."""
_NUMBERS: Final = frozenset({"int", "double"})
_LOOKS_LIKE_A_PATH = re.compile(r"\b(event|async)\.\w")


class CheckedExpression(Protocol):
    """An expression that compiled."""

    @property
    def node(self) -> Node:
        """Its syntax tree."""
        ...

    @property
    def types(self) -> Collection[str] | None:
        """The types that a value can have; None where that depends on the data."""
        ...

    @property
    def references(self) -> Collection[object]:
        """What it reads; empty for a constant."""
        ...

    def yields_boolean(self) -> bool | None:
        """Whether it gives true or false; None where that depends on the data."""
        ...


class CheckExpression(Protocol):
    """What compiles expressions; `innkeeper_engine.cel.compile_expression` unless a test says otherwise."""

    def __call__(self, text: str, *, variables: frozenset[str]) -> CheckedExpression:
        """Compile a text that may read `variables`, or raise `ExpressionError`."""
        ...


def value_expression(fields: Fields, key: str, check: CheckExpression) -> str | None:
    """An expression over `event` that gives a key; None where it is absent or not valid."""
    compiled = _over_event(fields, key, check)
    if compiled is None:
        return None
    text, checked = compiled
    if _is_quoted_path(checked, text):
        fields.warn(
            key,
            f"{text} is a text in quotes, so it has the same value for every event; "
            "take the outer quotes away to read the field",
        )
    elif checked.types is not None and set(checked.types) <= {"null"}:
        fields.warn(key, f"{text} gives nothing for any event, so all are under one")
    return text


def number_expression(fields: Fields, key: str, check: CheckExpression, low: int, high: int) -> str | None:
    """An expression over `event` that gives a number; None where it is absent or not valid.

    A constant outside of `low` to `high` is told, since whoever evaluates the expression stays within them.
    """
    compiled = _over_event(fields, key, check)
    if compiled is None:
        return None
    text, checked = compiled
    if checked.types is not None and not _NUMBERS & set(checked.types):
        hint = "write a whole number of seconds, for example event.data.plan == 'pro' ? 120 : 0"
        if _is_quoted_path(checked, text):
            hint = "it is a text in quotes; take the outer quotes away"
        fields.problem(key, f"{text} never gives a number: {hint}")
        return None
    for number in _constants(checked.node):
        if not low <= number <= high:
            fields.warn(
                key, f"{number} counts as {max(low, min(high, number))}: {low} to {high} is the range"
            )
    return text


def _over_event(fields: Fields, key: str, check: CheckExpression) -> tuple[str, CheckedExpression] | None:
    """An expression over `event`, as it is written and compiled; None where it is absent or not valid."""
    text = fields.text(key)
    checked = None if text is None else _compile(fields, key, text, EVENT, check)
    return None if text is None or checked is None else (text, checked)


def _constants(node: Node) -> list[int]:
    """The numbers that an expression gives whatever the event holds, those of the branches of `?:` too."""
    if isinstance(node, Cond):
        return [*_constants(node.then), *_constants(node.other)]
    number = None if free_names(node) else Expression("", node, EVENT).integer({})
    return [] if number is None else [number]


def condition(fields: Fields, key: str, variables: frozenset[str], check: CheckExpression) -> str | None:
    """An expression that gives true or false; None where it is absent or not valid."""
    text = fields.text(key)
    if text is None:
        return None
    return text if _is_condition(fields, key, text, variables, check) else None


def _is_condition(
    fields: Fields, key: str, text: str, variables: frozenset[str], check: CheckExpression
) -> bool:
    checked = _compile(fields, key, text, variables, check)
    if checked is None:
        return False
    if checked.yields_boolean() is False:
        hint = "compare it with something, for example event.data.plan == 'pro'"
        if _is_quoted_path(checked, text):
            hint = "it is a text in quotes; take the outer quotes away"
        fields.problem(key, f"{text} gives neither true nor false: {hint}")
        return False
    return True


def _is_quoted_path(checked: CheckedExpression, text: str) -> bool:
    return not checked.references and _LOOKS_LIKE_A_PATH.search(text) is not None


def _compile(
    fields: Fields, key: str, text: str, variables: frozenset[str], check: CheckExpression
) -> CheckedExpression | None:
    try:
        checked = check(text, variables=variables)
    except ExpressionError as error:
        fields.problem(key, f"{text} is no valid expression: {error}")
        return None
    for path in sorted(_unknown_fields(checked.node)):
        fields.warn(
            key, f"no event has a field {path}: there are {', '.join(_FIELDS)}, and all your own is in data"
        )
    return checked


def _unknown_fields(node: Node) -> set[str]:
    """What is read of an event beside the fields that events have."""
    path = field_path(node)
    if path is not None:
        variable, names = path
        return {f"{variable}.{names[0]}"} if names and names[0] not in _FIELDS else set()
    return set[str]().union(*(_unknown_fields(part) for part in node.parts()))
