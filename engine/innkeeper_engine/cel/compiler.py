"""A syntax tree to Python closures, once; evaluating is then calling one function with the variables."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from innkeeper_engine.cel import values
from innkeeper_engine.cel.errors import EvaluationError
from innkeeper_engine.cel.frames import METER, SLOTS, Frame, Run
from innkeeper_engine.cel.functions import FUNCTIONS
from innkeeper_engine.cel.macros import MACROS
from innkeeper_engine.cel.nodes import (
    Binary,
    Call,
    Cond,
    Const,
    Has,
    Index,
    ListLiteral,
    Logic,
    Macro,
    MapLiteral,
    Node,
    Select,
    Slot,
    Unary,
    field_path,
    walk,
)
from innkeeper_engine.cel.values import INT_MAX, INT_MIN, TEXT_PER_STEP, Meter


class _Missing:
    """The bound value of a subexpression that has none."""

    __slots__ = ()


MISSING: Final = _Missing()


class Program:
    """A compiled tree. Immutable: threads and tasks may share it."""

    __slots__ = ("_metered", "_run", "size")

    def __init__(self, node: Node, *, metered: bool = False) -> None:
        """`metered`: all its work is charged; else only that of trees that repeat some."""
        self.size = sum(1 for _ in walk(node))
        """Nodes of the tree: the steps of an evaluation that repeats nothing."""
        self._metered = metered or any(isinstance(part, Macro) for part in walk(node))
        self._run = _compile(node, metered=self._metered)

    def evaluate(
        self, env: Mapping[str, Any], slots: Sequence[Any] | None = None, meter: Meter | None = None
    ) -> Any:
        """The value for these variables, and these values of the tree's slots where it has any.

        `meter`: what it may spend, where that is not one evaluation's.

        Raises:
            EvaluationError: there is none.
        """
        if slots is None and not self._metered and type(env) is dict:
            return self._run(env)
        frame = dict(env)
        if slots is not None:
            frame[SLOTS] = slots
        if self._metered:
            frame[METER] = meter or Meter()
        return self._run(frame)


def _compile(node: Node, *, metered: bool) -> Run:
    """The closure of a node. `metered`: the frame has a meter, and repeated work is charged to it."""
    if isinstance(node, Const):
        value = node.value
        return lambda _: value
    if isinstance(node, Slot):
        return _slot(node.index)
    path = field_path(node)
    if path is not None:
        return _path(*path)
    parts = [_compile(part, metered=metered) for part in node.parts()]
    if isinstance(node, Select):
        return _select(parts[0], node.field)
    if isinstance(node, Has):
        return _has(parts[0], node.field)
    if isinstance(node, Index):
        container, key = parts
        return lambda frame: values.item(container(frame), key(frame))
    if isinstance(node, Binary):
        return _binary(node, parts[0], parts[1], metered=metered)
    if isinstance(node, Logic):
        return _logic(node.op, tuple(parts))
    if isinstance(node, Unary):
        return _not(parts[0]) if node.op == "!" else _negative(parts[0])
    if isinstance(node, Cond):
        return _cond(*parts)
    if isinstance(node, Call):
        return _call(node.function, parts, metered=metered)
    if isinstance(node, ListLiteral):
        return lambda frame: [part(frame) for part in parts]
    if isinstance(node, MapLiteral):
        return _map(parts)
    if isinstance(node, Macro):
        cost = sum(1 for part in node.body for _ in walk(part))
        return MACROS[node.kind](parts[0], node.var, parts[1:], cost)
    raise TypeError(f"no evaluation for {type(node).__name__}")


def _slot(index: int) -> Run:
    def run(frame: Frame) -> Any:
        value = frame[SLOTS][index]
        if value is MISSING:
            raise EvaluationError("a value was missing when the expression was bound")
        return value

    return run


def _path(name: str, fields: tuple[str, ...]) -> Run:
    """Field access by constant names: nearly all that expressions do, so it is not a chain of closures."""

    def fail(frame: Frame) -> EvaluationError:
        value, seen = frame.get(name), name
        if name not in frame:
            return EvaluationError(f"{name} is not available here")
        for field in fields:
            if type(value) is not dict:
                return EvaluationError(f"{seen} is {values.kind(value)} and has no field {field}")
            seen = f"{seen}.{field}"
            if field not in value:
                return EvaluationError(f"{seen} is missing")
            value = value[field]
        return EvaluationError(f"{seen} does not fit 64 bits")

    if len(fields) == 2:
        first, second = fields

        def run_two(frame: Frame) -> Any:
            try:
                value = frame[name][first][second]
            except (LookupError, TypeError):
                raise fail(frame) from None
            if type(value) is int and not INT_MIN <= value <= INT_MAX:
                raise fail(frame)
            return value

        return run_two

    def run(frame: Frame) -> Any:
        try:
            value = frame[name]
            for field in fields:
                value = value[field]
        except (LookupError, TypeError):
            raise fail(frame) from None
        if type(value) is int and not INT_MIN <= value <= INT_MAX:
            raise fail(frame)
        return value

    return run


def _select(operand: Run, field: str) -> Run:
    def run(frame: Frame) -> Any:
        value = operand(frame)
        if type(value) is not dict:
            raise EvaluationError(f"{values.kind(value)} has no field {field}")
        if field not in value:
            raise EvaluationError(f"the field {field} is missing")
        return values.checked(value[field])

    return run


def _has(operand: Run, field: str) -> Run:
    def run(frame: Frame) -> bool:
        value = operand(frame)
        if type(value) is not dict:
            raise EvaluationError(f"{values.kind(value)} has no fields")
        return field in value

    return run


def _binary(node: Binary, left: Run, right: Run, *, metered: bool) -> Run:
    op = node.op
    if op == "==":
        return _equality(node, left, right, metered=metered)
    if op == "!=":
        same = _equality(node, left, right, metered=metered)
        return lambda frame: not same(frame)
    if op == "in":
        return lambda frame: values.contains(right(frame), left(frame), frame.get(METER) or Meter())
    if op in ("<", "<=", ">", ">="):
        return _order(op, left, right, metered=metered)
    if not metered:
        return lambda frame: values.arithmetic(op, left(frame), right(frame))

    def run(frame: Frame) -> Any:
        value = values.arithmetic(op, left(frame), right(frame))
        if type(value) is list:
            frame[METER].charge(len(value))
        elif type(value) is str:
            frame[METER].charge(len(value) // TEXT_PER_STEP)
        return value

    return run


def _order(op: str, left: Run, right: Run, *, metered: bool) -> Run:
    if not metered:
        return lambda frame: values.order(op, left(frame), right(frame))

    def run(frame: Frame) -> bool:
        a, b = left(frame), right(frame)
        if type(a) is str and type(b) is str:
            frame[METER].charge(min(len(a), len(b)) // TEXT_PER_STEP)
        return values.order(op, a, b)

    return run


def _equality(node: Binary, left: Run, right: Run, *, metered: bool) -> Run:
    for run, other in ((left, node.right), (right, node.left)):
        if isinstance(other, Const) and type(other.value) is str and not metered:
            return _equals_text(run, other.value)

    def run_both(frame: Frame) -> bool:
        a, b = left(frame), right(frame)
        if type(a) is str and type(b) is str and not metered:
            return bool(a == b)
        meter = frame.get(METER) or Meter()
        if type(a) is str:
            meter.charge(len(a) // TEXT_PER_STEP)
        return values.equal(a, b, meter)

    return run_both


def _equals_text(run: Run, text: str) -> Run:
    def compare(frame: Frame) -> bool:
        value = run(frame)
        return type(value) is str and value == text

    return compare


def _logic(op: str, terms: tuple[Run, ...]) -> Run:
    """`&&` and `||`: one term of the deciding value decides, whatever the others are, errors included."""
    deciding = op == "||"

    def run(frame: Frame) -> bool:
        problem = ""
        for term in terms:
            try:
                value: object = term(frame)
            except EvaluationError as error:
                problem = problem or str(error)
                continue
            if value is deciding:
                return deciding
            if value is not (not deciding):
                problem = problem or f"{op} joins true and false, not {values.kind(value)}"
        if problem:
            raise EvaluationError(problem)
        return not deciding

    return run


def _not(operand: Run) -> Run:
    def run(frame: Frame) -> bool:
        value = operand(frame)
        if type(value) is not bool:
            raise EvaluationError(f"!{values.kind(value)} is not defined")
        return not value

    return run


def _negative(operand: Run) -> Run:
    return lambda frame: values.negated(operand(frame))


def _cond(test: Run, then: Run, other: Run) -> Run:
    def run(frame: Frame) -> Any:
        value = test(frame)
        if type(value) is not bool:
            raise EvaluationError(f"the condition before ? is {values.kind(value)}, not true or false")
        return then(frame) if value else other(frame)

    return run


def _call(name: str, args: list[Run], *, metered: bool) -> Run:
    function = FUNCTIONS[name].run
    if not metered and len(args) == 1:
        only = args[0]
        return lambda frame: function(only(frame))

    def run(frame: Frame) -> Any:
        given = [arg(frame) for arg in args]
        if metered:
            frame[METER].charge(sum(len(value) // TEXT_PER_STEP for value in given if type(value) is str))
        return function(*given)

    return run


def _map(parts: list[Run]) -> Run:
    pairs = list(zip(parts[::2], parts[1::2], strict=True))

    def run(frame: Frame) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key_of, value_of in pairs:
            key = key_of(frame)
            if type(key) not in (str, int):
                raise EvaluationError(f"a map's key is text or an integer, not {values.kind(key)}")
            if key in result:
                raise EvaluationError("a map has the same key twice")
            result[key] = value_of(frame)
        return result

    return run
