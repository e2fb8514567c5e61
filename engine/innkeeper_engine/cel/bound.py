"""Expressions of a wait or a cancellation, once the run's event is known: what remains is about `async`.

Every part that does not read `async` is evaluated at once and kept as a value beside the text. A bound
expression so needs the run's event no longer, and an equality such as
`event.data.userId == async.data.userId` becomes an index entry: an incoming event finds its waiters by
`(event name, path, value text)`.
"""

import functools
from collections.abc import Mapping
from typing import Any

from innkeeper_engine.cel.compiler import MISSING, Program
from innkeeper_engine.cel.errors import EvaluationError
from innkeeper_engine.cel.expression import VARIABLES, Expression, compile_expression
from innkeeper_engine.cel.nodes import Binary, Cond, Const, Logic, Macro, Node, Slot, field_path, free_names
from innkeeper_engine.cel.unparse import unparse
from innkeeper_engine.cel.values import scalar_text

_LATER = "async"
_SHOWN_TEXT = 200


class _Template:
    """An expression with its parts that do not read `async` cut out. Made once per expression."""

    __slots__ = ("node", "parts", "program", "source")

    def __init__(self, expression: Expression) -> None:
        self.source = expression
        self.parts: list[Program] = []
        self.node = self._cut(expression.node, expression.variables)
        self.program = Program(self.node)

    def _cut(self, node: Node, variables: frozenset[str]) -> Node:
        if isinstance(node, Const):
            return node
        names = free_names(node)
        # A macro's own variable is in `names` but not in `variables`: such a part has no value by itself.
        if _LATER not in names and names <= variables:
            self.parts.append(Program(node))
            return Slot(len(self.parts) - 1, node)
        return node.with_parts(tuple(self._cut(part, variables) for part in node.parts()))


@functools.lru_cache(maxsize=2048)
def _template(expression: Expression) -> _Template:
    return _Template(expression)


class Bound:
    """What is left of an expression once its run's event is known. Immutable."""

    def __init__(self, expression: Expression, values: tuple[Any, ...]) -> None:
        self._template = _template(expression)
        self._values = values

    @functools.cached_property
    def never(self) -> bool:
        """Whether it is certain already that no event matches."""
        return _never(self._template.node, self._values)

    @functools.cached_property
    def index(self) -> tuple[str, str] | None:
        """`(path, value text)`: every event that matches has this value at this path below `async`, as
        `index_value` gives it. None where the expression promises no such thing, or never matches."""
        return None if self.never else _index(self._template.node, self._values)

    def matches(self, async_event: Mapping[str, Any]) -> bool:
        """Whether the value for this event is `true`: any other value, and an error, is no match."""
        try:
            return self._template.program.evaluate({_LATER: async_event}, self._values) is True
        except EvaluationError:
            return False

    @property
    def expression_text(self) -> str:
        """The rest as text, for people: `"u1" == async.data.userId`. Lists, maps, long texts and missing
        values stay as they were written."""
        return unparse(self._template.node, self._shown)

    def _shown(self, slot: Slot) -> Node:
        value = self._values[slot.index]
        if value is MISSING or isinstance(value, (list, dict)):
            return slot.source
        if isinstance(value, str) and len(value) > _SHOWN_TEXT:
            return slot.source
        return Const(value)

    def dump(self) -> dict[str, Any]:
        """`{"expression": text, "values": [[value] or [] …]}`, ready for JSON or msgpack; an empty list is a
        missing value. Numbers are as they came."""
        source = self._template.source
        return {
            "expression": source.text,
            "values": [[] if value is MISSING else [value] for value in self._values],
        }

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> "Bound":
        """The bound expression that `dump` wrote.

        Raises:
            ExpressionError: the text is no expression (any more).
            ValueError: the values are not those of the expression.
        """
        expression = compile_expression(dumped["expression"])
        values = tuple(entry[0] if entry else MISSING for entry in dumped["values"])
        expected = len(_template(expression).parts)
        if len(values) != expected:
            raise ValueError(f"{expression!r} was stored with {len(values)} values; it has {expected}")
        return cls(expression, values)


def bind(expression: Expression, event: Mapping[str, Any]) -> Bound:
    """Evaluate all that does not read `async` for a run whose first event is `event`.

    For every event `a`, `bind(expression, event).matches(a)` is
    `expression.matches({"event": event, "async": a})`.

    Raises:
        ValueError: the expression was compiled for other variables.
    """
    if expression.variables != VARIABLES:
        raise ValueError(f"{expression!r} reads other variables than {', '.join(sorted(VARIABLES))}")
    return Bound(expression, tuple(_value(part, event) for part in _template(expression).parts))


def _value(part: Program, event: Mapping[str, Any]) -> Any:
    try:
        return part.evaluate({"event": event})
    except EvaluationError:
        return MISSING


def index_value(event: Mapping[str, Any], path: str) -> str | None:
    """The text under which waiters for this event's value at `path` (such as `data.userId`) are indexed:
    `"42"` for a text, `42` for 42 and 42.0, `true`, `null`. None where the field is missing or no scalar."""
    value: Any = event
    for field in path.split("."):
        if not isinstance(value, dict) or field not in value:
            return None
        value = value[field]
    return scalar_text(value)


def _settled(node: Node, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """`(value,)` or `(MISSING,)` where the node is decided without `async`, else `()`."""
    if isinstance(node, Const):
        return (node.value,)
    if isinstance(node, Slot):
        return (values[node.index],)
    if isinstance(node, Logic):
        deciding = node.op == "||"
        # By identity: 1 == True in Python.
        settled = [value for term in node.terms for value in _settled(term, values)]
        return (deciding,) if any(value is deciding for value in settled) else ()
    if isinstance(node, Cond):
        test = _settled(node.test, values)
        if not test:
            return ()
        if type(test[0]) is not bool:
            return (MISSING,)
        return _settled(node.then if test[0] else node.other, values)
    # What is left needs all its operands; a macro only its list.
    needed = node.parts()[:1] if isinstance(node, Macro) else node.parts()
    settled = [value for part in needed for value in _settled(part, values)]
    return (MISSING,) if any(value is MISSING for value in settled) else ()


def _never(node: Node, values: tuple[Any, ...]) -> bool:
    """Whether the node cannot be `true`, whatever `async` is."""
    settled = _settled(node, values)
    if settled:
        return settled[0] is not True
    if isinstance(node, Logic):
        verdicts = [_never(term, values) for term in node.terms]
        return any(verdicts) if node.op == "&&" else all(verdicts)
    if isinstance(node, Cond):
        test = _settled(node.test, values)
        if test and type(test[0]) is bool:
            return _never(node.then if test[0] else node.other, values)
        return _never(node.then, values) and _never(node.other, values)
    return False


def _index(node: Node, values: tuple[Any, ...]) -> tuple[str, str] | None:
    """The most telling equality among those that must hold: one with the run's own data before a constant,
    a text or a number before `true` and `null`, the first before later ones."""
    terms = node.terms if isinstance(node, Logic) and node.op == "&&" else (node,)
    best: tuple[int, tuple[str, str]] | None = None
    for term in terms:
        if not isinstance(term, Binary) or term.op != "==":
            continue
        for field, other in ((term.left, term.right), (term.right, term.left)):
            entry = _entry(field, other, values)
            if entry is None:
                continue
            rank = int(isinstance(other, Const)) + 2 * int(entry[1] in ("true", "false", "null"))
            if best is None or rank < best[0]:
                best = (rank, entry)
    return best[1] if best else None


def _entry(field: Node, other: Node, values: tuple[Any, ...]) -> tuple[str, str] | None:
    path = field_path(field)
    if path is None or path[0] != _LATER or not path[1] or any("." in name or not name for name in path[1]):
        return None
    if not isinstance(other, (Const, Slot)):
        return None
    text = scalar_text(other.value if isinstance(other, Const) else values[other.index])
    return None if text is None else (".".join(path[1]), text)
