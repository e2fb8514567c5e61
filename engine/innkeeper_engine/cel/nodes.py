"""The syntax tree of an expression: small frozen nodes, and what can be read off them without any data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

LogicOp = Literal["&&", "||"]
MacroKind = Literal["all", "exists", "exists_one", "filter", "map"]


@dataclass(frozen=True, slots=True)
class Node:
    """One node: `parts` are its children in source order, `with_parts` puts others in their place."""

    def parts(self) -> "tuple[Node, ...]":
        """The children."""
        return ()

    def with_parts(self, parts: "tuple[Node, ...]") -> "Node":
        """This node with other children, as many as `parts` gave."""
        if parts:
            raise ValueError(f"{type(self).__name__} has no children")
        return self


@dataclass(frozen=True, slots=True)
class Const(Node):
    """A literal: text, int, float, bool or None."""

    value: Any


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Slot(Node):
    """A value that was evaluated beforehand: number `index` of the bound values; `source` is what it was."""

    index: int
    source: Node


@dataclass(frozen=True, slots=True)
class Select(Node):
    """`operand.field`"""

    operand: Node
    field: str

    def parts(self) -> tuple[Node, ...]:
        return (self.operand,)

    def with_parts(self, parts: tuple[Node, ...]) -> Node:
        return Select(parts[0], self.field)


@dataclass(frozen=True, slots=True)
class Has(Node):
    """`has(operand.field)`: whether the field is present."""

    operand: Node
    field: str

    def parts(self) -> tuple[Node, ...]:
        return (self.operand,)

    def with_parts(self, parts: tuple[Node, ...]) -> Node:
        return Has(parts[0], self.field)


@dataclass(frozen=True, slots=True)
class Index(Node):
    """`operand[key]`"""

    operand: Node
    key: Node

    def parts(self) -> tuple[Node, ...]:
        return (self.operand, self.key)

    def with_parts(self, parts: tuple[Node, ...]) -> Node:
        return Index(parts[0], parts[1])


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`function(args)`, or `args[0].function(args[1:])` where `method` is true."""

    function: str
    args: tuple[Node, ...]
    method: bool = False

    def parts(self) -> tuple[Node, ...]:
        return self.args

    def with_parts(self, parts: tuple[Node, ...]) -> Node:
        return Call(self.function, parts, self.method)


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`!operand` or `-operand`"""

    op: Literal["!", "-"]
    operand: Node

    def parts(self) -> tuple[Node, ...]:
        return (self.operand,)

    def with_parts(self, parts: tuple[Node, ...]) -> Node:
        return Unary(self.op, parts[0])


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """Two operands that are both evaluated: arithmetic, comparison, `in`."""

    op: str
    left: Node
    right: Node

    def parts(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    def with_parts(self, parts: tuple[Node, ...]) -> Node:
        return Binary(self.op, parts[0], parts[1])


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """`a && b && …` or `a || b || …`, flattened: both are associative, errors included."""

    op: LogicOp
    terms: tuple[Node, ...]

    def parts(self) -> tuple[Node, ...]:
        return self.terms

    def with_parts(self, parts: tuple[Node, ...]) -> Node:
        return Logic(self.op, parts)


@dataclass(frozen=True, slots=True)
class Cond(Node):
    """`test ? then : other`"""

    test: Node
    then: Node
    other: Node

    def parts(self) -> tuple[Node, ...]:
        return (self.test, self.then, self.other)

    def with_parts(self, parts: tuple[Node, ...]) -> Node:
        return Cond(parts[0], parts[1], parts[2])


@dataclass(frozen=True, slots=True)
class ListLiteral(Node):
    """`[a, b]`"""

    items: tuple[Node, ...]

    def parts(self) -> tuple[Node, ...]:
        return self.items

    def with_parts(self, parts: tuple[Node, ...]) -> Node:
        return ListLiteral(parts)


@dataclass(frozen=True, slots=True)
class MapLiteral(Node):
    """`{key: value}`: `flat` is key, value, key, value and so on."""

    flat: tuple[Node, ...]

    def parts(self) -> tuple[Node, ...]:
        return self.flat

    def with_parts(self, parts: tuple[Node, ...]) -> Node:
        return MapLiteral(parts)


@dataclass(frozen=True, slots=True)
class Macro(Node):
    """`source.kind(var, body…)`: `body` is evaluated once per element; `map` may have a filter before it."""

    kind: MacroKind
    source: Node
    var: str
    body: tuple[Node, ...]

    def parts(self) -> tuple[Node, ...]:
        return (self.source, *self.body)

    def with_parts(self, parts: tuple[Node, ...]) -> Node:
        return Macro(self.kind, parts[0], self.var, parts[1:])


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it. A slot counts as a leaf."""
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        pending.extend(current.parts())


def free_names(node: Node) -> frozenset[str]:
    """The variables that the node reads and does not bind itself."""
    if isinstance(node, Name):
        return frozenset((node.name,))
    if isinstance(node, Macro):
        inner = frozenset[str]().union(*(free_names(part) for part in node.body))
        return free_names(node.source) | (inner - {node.var})
    return frozenset[str]().union(*(free_names(part) for part in node.parts()))


def field_path(node: Node) -> tuple[str, tuple[str, ...]] | None:
    """`(variable, fields)` where the node is nothing but field access by constant names, else None.

    `event.data["a-b"].c` is `("event", ("data", "a-b", "c"))`.
    """
    fields: list[str] = []
    while True:
        if isinstance(node, Select):
            fields.append(node.field)
            node = node.operand
        elif isinstance(node, Index) and isinstance(node.key, Const) and isinstance(node.key.value, str):
            fields.append(node.key.value)
            node = node.operand
        elif isinstance(node, Name):
            return node.name, tuple(reversed(fields))
        else:
            return None
