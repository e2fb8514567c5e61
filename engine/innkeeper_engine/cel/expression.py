"""Expressions: checked and compiled once, when a function is registered, then evaluated on every event.

The language is the Common Expression Language (https://github.com/google/cel-spec) over JSON. What differs,
or what the specification leaves open:

- Whether JSON wrote `1` or `1.0` makes no difference: numbers compare, and also add, across int and double.
- A field that is not there is an error value. So `a == b` with both missing is not true, and neither is
  `a != "x"` with `a` missing; `!has(event.data.a) || event.data.a != "x"` says it.
- There are no unsigned integers, bytes, timestamps, durations or messages; a map has text and integer keys.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any, Final

from innkeeper_engine.cel.compiler import Program
from innkeeper_engine.cel.errors import EvaluationError, ExpressionError
from innkeeper_engine.cel.functions import FUNCTIONS
from innkeeper_engine.cel.nodes import (
    Binary,
    Call,
    Cond,
    Const,
    Has,
    ListLiteral,
    Logic,
    Macro,
    MapLiteral,
    Node,
    Unary,
    free_names,
)
from innkeeper_engine.cel.parser import parse
from innkeeper_engine.cel.values import INT_MAX, INT_MIN, key_text, kind

VARIABLES: Final = frozenset({"event", "async"})
"""`event`: the event that triggers or triggered; `async`: the later one of a wait or a cancellation."""

_CACHED = 2048


class Expression:
    """A compiled expression. Immutable: threads and tasks may share it."""

    __slots__ = ("_program", "node", "references", "text", "types", "variables")

    def __init__(self, text: str, node: Node, variables: frozenset[str]) -> None:
        self.text = text
        """As it was given."""
        self.node = node
        """Its syntax tree."""
        self.variables = variables
        """The names it could read."""
        self.references = free_names(node)
        """The names it does read."""
        self.types = _types(node)
        """The types that a value can have (of `bool int double text null list map`; none: it is always an
        error), None where that depends on the data."""
        self._program = Program(node)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    @property
    def is_constant(self) -> bool:
        """Whether it reads no variable: as a key, it puts everything under one."""
        return not self.references

    def yields_boolean(self) -> bool | None:
        """True where every value is a boolean, False where none is, None where it depends on the data."""
        if self.types is None:
            return None
        if "bool" not in self.types:
            return False
        return True if self.types == _BOOL else None

    def evaluate(self, env: Mapping[str, Any]) -> Any:
        """The value, as plain Python.

        Raises:
            EvaluationError: this data gives none.
        """
        return self._program.evaluate(env)

    def matches(self, env: Mapping[str, Any]) -> bool:
        """Whether the value is `true`: any other value, and an error, is no match."""
        try:
            return self._program.evaluate(env) is True
        except EvaluationError:
            return False

    def key(self, env: Mapping[str, Any]) -> str | None:
        """The value as a key (`7` for 7 and 7.0); None for null and for an error such as a missing field."""
        try:
            return key_text(self._program.evaluate(env))
        except EvaluationError:
            return None

    def integer(self, env: Mapping[str, Any]) -> int | None:
        """The value as an integer, a double cut towards zero; None for anything that is not a number."""
        try:
            value = self._program.evaluate(env)
        except EvaluationError:
            return None
        if type(value) is float and math.isfinite(value) and INT_MIN <= value <= INT_MAX:
            return int(value)
        return value if type(value) is int else None


def compile_expression(text: str, *, variables: frozenset[str] = VARIABLES) -> Expression:
    """The expression of `text`, which may read `variables`. The last couple of thousand are remembered.

    Raises:
        ExpressionError: a syntax error, an unknown name or function, or more than the limits on length and
            depth allow; with line, column and what would be right.
    """
    if not isinstance(text, str):
        raise ExpressionError(f"an expression is text, not {kind(text)}")
    return _compiled(text, variables)


@functools.lru_cache(maxsize=_CACHED)
def _compiled(text: str, variables: frozenset[str]) -> Expression:
    return Expression(text, parse(text, variables), variables)


_NUMBERS: Final = frozenset({"int", "double"})
_BOOL: Final = frozenset({"bool"})


def _types(node: Node) -> frozenset[str] | None:
    if isinstance(node, Const):
        return frozenset((kind(node.value),))
    if isinstance(node, (Logic, Has)) or (isinstance(node, Unary) and node.op == "!"):
        return _BOOL
    if isinstance(node, Unary):
        return _NUMBERS
    if isinstance(node, Binary):
        return _binary_types(node)
    if isinstance(node, Cond):
        then, other = _types(node.then), _types(node.other)
        return None if then is None or other is None else then | other
    if isinstance(node, Call):
        result = FUNCTIONS[node.function].result
        return None if result is None else frozenset((result,))
    if isinstance(node, ListLiteral):
        return frozenset(("list",))
    if isinstance(node, MapLiteral):
        return frozenset(("map",))
    if isinstance(node, Macro):
        return frozenset(("list",)) if node.kind in ("filter", "map") else _BOOL
    return None


def _binary_types(node: Binary) -> frozenset[str]:
    if node.op not in ("+", "-", "*", "/", "%"):
        return _BOOL
    if node.op != "+":
        return _NUMBERS
    possible = _NUMBERS | {"text", "list"}
    for operand in (node.left, node.right):
        known = _types(operand)
        if known is not None:
            # Both operands of + have one type, the result too; int and double mix.
            possible &= known | (_NUMBERS if known & _NUMBERS else frozenset())
    return possible
