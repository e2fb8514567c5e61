"""Checks of the CEL expressions in a registration, at the field where each stands."""

import re
from collections.abc import Collection
from typing import Final, Protocol

from innkeeper_apps.wire.fields import Fields
from innkeeper_engine.cel import ExpressionError

EVENT: Final = frozenset({"event"})
EVENT_AND_ASYNC: Final = frozenset({"event", "async"})

_LOOKS_LIKE_A_PATH = re.compile(r"\b(event|async)\.\w")


class CheckedExpression(Protocol):
    """An expression that compiled."""

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
    """An expression over `event` that gives a key or a number; None where it is absent or not valid."""
    text = fields.text(key)
    if text is None:
        return None
    checked = _compile(fields, key, text, EVENT, check)
    if checked is None:
        return None
    if not checked.references and _LOOKS_LIKE_A_PATH.search(text):
        fields.warn(
            key,
            f"{text} is a text in quotes, so it has the same value for every event; "
            "take the outer quotes away to read the field",
        )
    return text


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
        if not checked.references and _LOOKS_LIKE_A_PATH.search(text):
            hint = "it is a text in quotes; take the outer quotes away"
        fields.problem(key, f"{text} gives neither true nor false: {hint}")
        return False
    return True


def _compile(
    fields: Fields, key: str, text: str, variables: frozenset[str], check: CheckExpression
) -> CheckedExpression | None:
    try:
        return check(text, variables=variables)
    except ExpressionError as error:
        fields.problem(key, f"{text} is no valid expression: {error}")
        return None
