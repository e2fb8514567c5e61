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
from innkeeper_engine.cel.errors import EvaluationError
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

    __slots__ = ("_program", "node", "references", "static_type", "text", "variables")

    def __init__(self, text: str, node: Node, variables: frozenset[str]) -> None:
        self.text = text
        """As it was given."""
        self.node = node
        """Its syntax tree."""
        self.variables = variables
        """The names it could read."""
        self.references = free_names(node)
        """The names it does read."""
        self.static_type = _static_type(node)
        """The CEL type of every value it can have (`bool`, `string`, `int`, …), None where that depends."""
        self._program = Program(node)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    @property
    def is_constant(self) -> bool:
        """Whether it reads no variable: as a key, it puts everything under one."""
        return not self.references

    def yields_boolean(self) -> bool | None:
        """True where every value is a boolean, False where none is, None where it depends on the data."""
        return None if self.static_type is None else self.static_type == "bool"

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
    return _compiled(text, variables)


@functools.lru_cache(maxsize=_CACHED)
def _compiled(text: str, variables: frozenset[str]) -> Expression:
    return Expression(text, parse(text, variables), variables)


def _static_type(node: Node) -> str | None:
    if isinstance(node, Const):
        return {"text": "string"}.get(kind(node.value), kind(node.value))
    if isinstance(node, (Logic, Has)) or (isinstance(node, Unary) and node.op == "!"):
        return "bool"
    if isinstance(node, Unary):
        return _static_type(node.operand)
    if isinstance(node, Binary):
        return _binary_type(node)
    if isinstance(node, Cond):
        then = _static_type(node.then)
        return then if then == _static_type(node.other) else None
    if isinstance(node, Call):
        return FUNCTIONS[node.function].result
    if isinstance(node, ListLiteral):
        return "list"
    if isinstance(node, MapLiteral):
        return "map"
    if isinstance(node, Macro):
        return "list" if node.kind in ("filter", "map") else "bool"
    return None


def _binary_type(node: Binary) -> str | None:
    if node.op not in ("+", "-", "*", "/", "%"):
        return "bool"
    if node.op == "%":
        return "int"
    types = {_static_type(node.left), _static_type(node.right)}
    if node.op == "+":
        for joined in ("string", "list"):
            if joined in types:
                return joined
    if "double" in types:
        return "double"
    return "int" if types == {"int"} else None
