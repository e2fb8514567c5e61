"""An expression as text again, for people: what a waiting run waits for, what a message is about."""

import json
import math
from collections.abc import Callable

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
    Name,
    Node,
    Select,
    Slot,
    Unary,
)

_COND, _OR, _AND, _RELATION, _SUM, _PRODUCT, _UNARY, _MEMBER = range(8)
_BINARY = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "%": _PRODUCT}

Fill = Callable[[Slot], Node]


def unparse(node: Node, fill: Fill = lambda slot: slot.source) -> str:
    """CEL text that parses to the same tree. `fill` says what to write for a slot: by default its source."""
    return _write(node, fill)[0]


def _write(node: Node, fill: Fill) -> tuple[str, int]:
    """The text and how tightly it binds."""
    if isinstance(node, Slot):
        return _write(fill(node), fill)
    if isinstance(node, Const):
        return _literal(node.value)
    if isinstance(node, Name):
        return node.name, _MEMBER
    if isinstance(node, Cond):
        test, then = _at(node.test, _OR, fill), _at(node.then, _OR, fill)
        return f"{test} ? {then} : {_at(node.other, _COND, fill)}", _COND
    if isinstance(node, Logic):
        level = _AND if node.op == "&&" else _OR
        return f" {node.op} ".join(_at(term, level + 1, fill) for term in node.terms), level
    if isinstance(node, Binary):
        level = _BINARY.get(node.op, _RELATION)
        return f"{_at(node.left, level, fill)} {node.op} {_at(node.right, level + 1, fill)}", level
    if isinstance(node, Unary):
        return f"{node.op}{_at(node.operand, _MEMBER, fill)}", _UNARY
    return _member(node, fill), _MEMBER


def _member(node: Node, fill: Fill) -> str:
    def several(nodes: tuple[Node, ...]) -> str:
        return ", ".join(_write(part, fill)[0] for part in nodes)

    if isinstance(node, Select):
        return f"{_at(node.operand, _MEMBER, fill)}.{node.field}"
    if isinstance(node, Has):
        return f"has({_at(node.operand, _MEMBER, fill)}.{node.field})"
    if isinstance(node, Index):
        return f"{_at(node.operand, _MEMBER, fill)}[{_write(node.key, fill)[0]}]"
    if isinstance(node, Call):
        if node.method:
            return f"{_at(node.args[0], _MEMBER, fill)}.{node.function}({several(node.args[1:])})"
        return f"{node.function}({several(node.args)})"
    if isinstance(node, Macro):
        return f"{_at(node.source, _MEMBER, fill)}.{node.kind}({node.var}, {several(node.body)})"
    if isinstance(node, ListLiteral):
        return f"[{several(node.items)}]"
    if isinstance(node, MapLiteral):
        pairs = zip(node.flat[::2], node.flat[1::2], strict=True)
        return "{" + ", ".join(f"{_write(k, fill)[0]}: {_write(v, fill)[0]}" for k, v in pairs) + "}"
    raise TypeError(f"no text for {type(node).__name__}")


def _at(node: Node, level: int, fill: Fill) -> str:
    text, binds = _write(node, fill)
    return text if binds >= level else f"({text})"


def _literal(value: object) -> tuple[str, int]:
    if isinstance(value, float) and not math.isfinite(value):
        # CEL has no literal for these.
        return ("0.0 / 0.0" if math.isnan(value) else "1.0 / 0.0" if value > 0 else "-1.0 / 0.0"), _PRODUCT
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False), _MEMBER
    if value is None or isinstance(value, bool):
        return json.dumps(value), _MEMBER
    return repr(value), _UNARY if repr(value).startswith("-") else _MEMBER
