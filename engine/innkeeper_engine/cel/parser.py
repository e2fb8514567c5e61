"""Text to a checked syntax tree: cel-python's grammar run by lark, then names, functions and limits."""

import difflib
import functools
import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple, cast

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput, UnexpectedToken

from innkeeper_engine.cel.errors import ExpressionError
from innkeeper_engine.cel.functions import FUNCTIONS, check_pattern
from innkeeper_engine.cel.lexer import CelLexer, position, quoted
from innkeeper_engine.cel.nodes import (
    Binary,
    Call,
    Cond,
    Const,
    Has,
    Index,
    ListLiteral,
    Logic,
    LogicOp,
    Macro,
    MacroKind,
    MapLiteral,
    Name,
    Node,
    Select,
    Unary,
)
from innkeeper_engine.cel.values import INT_MAX, INT_MIN

MAX_LENGTH = 4096
"""Characters of an expression."""
MAX_DEPTH = 64
"""Levels of the syntax tree; a chain of && or || counts as one."""
MAX_MACRO_DEPTH = 3
"""Macros inside macros."""

_MACROS = {"all": (2,), "exists": (2,), "exists_one": (2,), "filter": (2,), "map": (2, 3)}
_RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package"}
    | {"namespace", "return", "var", "void", "while"}
)
_OPERATORS = {
    "relation_lt": "<",
    "relation_le": "<=",
    "relation_ge": ">=",
    "relation_gt": ">",
    "relation_eq": "==",
    "relation_ne": "!=",
    "relation_in": "in",
    "addition_add": "+",
    "addition_sub": "-",
    "multiplication_mul": "*",
    "multiplication_div": "/",
    "multiplication_mod": "%",
}
_LITERALS = frozenset({"list_lit", "map_lit"})
_WORD_HINTS = {
    "and": "write && for and",
    "or": "write || for or",
    "not": "write ! for not",
    "is": "write == to compare",
    "undefined": "ask has(event.data.field) whether a field is present",
    "None": "write null",
    "True": "write true",
    "False": "write false",
}
_METHOD_HINTS = {"includes": "contains", "length": "size", "len": "size", "test": "matches"}

_Tree = Tree[Token]


def parse(text: str, variables: frozenset[str]) -> Node:
    """The syntax tree of `text`, which may read `variables`.

    Raises:
        ExpressionError: a syntax error, an unknown name or function, or a limit; with its position.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression has {len(text)} characters; at most {MAX_LENGTH} are allowed")
    if not text.strip():
        raise ExpressionError("the expression is empty; leave it out, or write one such as event.data.id")
    try:
        tree = _lark().parse(text)
    except UnexpectedInput as error:
        raise _syntax_error(text, error) from None
    return _Builder(text, variables).build(tree, _At(0, frozenset()))


@functools.cache
def _lark() -> Lark:
    """The parser; made on first use (a tenth of a second), without importing the rest of cel-python."""
    spec = importlib.util.find_spec("celpy")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("cel-python (module celpy) is not installed; it brings the CEL grammar")
    grammar = (Path(spec.origin).parent / "cel.lark").read_text(encoding="utf-8")
    return Lark(
        grammar,
        parser="lalr",
        lexer=CelLexer,
        start="expr",
        propagate_positions=True,
        maybe_placeholders=False,
    )


def _syntax_error(text: str, error: UnexpectedInput) -> ExpressionError:
    token = error.token if isinstance(error, UnexpectedToken) else None
    if token is None or token.type == "$END":
        return ExpressionError(
            "the expression ends too early; a value or a closing bracket is missing",
            *position(text, len(text)),
        )
    start = token.start_pos or 0
    source = text[start : token.end_pos]
    before = text[:start].split()
    if source in _WORD_HINTS:
        hint = _WORD_HINTS[source]
    elif before and before[-1] == "not":
        hint = _WORD_HINTS["not"]
    elif source.isidentifier() and text[:start].rstrip().endswith("."):
        hint = f"this word cannot stand after a dot; write [{json.dumps(source)}] instead"
    elif token.type in ("IDENT", "INT_LIT", "FLOAT_LIT", "STRING_LIT", "BOOL_LIT", "NULL_LIT"):
        hint = "an operator is missing before it, or it is part of a text that needs quotes"
    else:
        hint = "a value is missing before it, or an opening bracket"
    return ExpressionError(f"unexpected {source}: {hint}", *position(text, start))


def _inner(tree: _Tree) -> _Tree:
    """The subtree that says something: each level of precedence is a level of the tree, most only pass on."""
    while len(tree.children) == 1 and isinstance(tree.children[0], Tree) and tree.data not in _LITERALS:
        tree = tree.children[0]
    return tree


class _At(NamedTuple):
    """Where a subtree stands: nodes above it, and the variables of the macros around it."""

    depth: int
    names: frozenset[str]

    def deeper(self) -> "_At":
        return _At(self.depth + 1, self.names)


class _Builder:
    """lark's tree to nodes."""

    def __init__(self, text: str, variables: frozenset[str]) -> None:
        self._text = text
        self._variables = variables
        self._macros = 0

    def build(self, tree: _Tree, at: _At) -> Node:
        """The node of a subtree."""
        tree = _inner(tree)
        if at.depth > MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH} levels; split the expression", tree)
        rule = str(tree.data)
        children = cast("list[Any]", tree.children)
        if rule == "expr":
            return Cond(*(self.build(child, at.deeper()) for child in children))
        if rule in ("conditionalor", "conditionaland"):
            return self._logic(tree, "||" if rule == "conditionalor" else "&&", at)
        if rule in ("relation", "addition", "multiplication"):
            left, right = children
            operands = (self.build(left.children[0], at.deeper()), self.build(right, at.deeper()))
            return Binary(_OPERATORS[str(left.data)], *operands)
        if rule == "unary":
            return self._unary(children, at)
        if rule == "literal":
            return Const(self._literal(children[0]))
        if rule in ("ident", "dot_ident"):
            return self._name(children[0], at.names)
        if rule in ("ident_arg", "dot_ident_arg"):
            return self._call(tree, str(children[0]), self._arguments(children[1:]), at)
        if rule == "member_dot":
            return Select(self.build(children[0], at.deeper()), str(children[1]))
        if rule == "member_index":
            return Index(self.build(children[0], at.deeper()), self.build(children[1], at.deeper()))
        if rule == "member_dot_arg":
            return self._method(tree, children, at)
        if rule == "list_lit":
            return ListLiteral(self._all(self._arguments(children), at))
        if rule == "map_lit":
            return MapLiteral(self._all(self._arguments(children), at))
        raise self._error("messages are not supported; write a map such as {'name': value}", tree)

    def _error(self, message: str, where: "_Tree | Token") -> ExpressionError:
        start = where.start_pos if isinstance(where, Token) else where.meta.start_pos
        return ExpressionError(message, *position(self._text, start or 0))

    def _all(self, trees: "list[_Tree]", at: _At) -> tuple[Node, ...]:
        return tuple(self.build(tree, at.deeper()) for tree in trees)

    @staticmethod
    def _arguments(children: list[Any]) -> "list[_Tree]":
        return list(children[0].children) if children else []

    def _logic(self, tree: _Tree, op: LogicOp, at: _At) -> Node:
        rule, operands = tree.data, []
        left: Any = tree
        while left.data == rule and len(left.children) == 2:
            left, right = left.children
            operands.append(right)
        terms: list[Node] = []
        for operand in [left, *reversed(operands)]:
            term = self.build(operand, at.deeper())
            terms.extend(term.terms if isinstance(term, Logic) and term.op == op else (term,))
        return Logic(op, tuple(terms))

    def _unary(self, children: list[Any], at: _At) -> Node:
        op, operand = children
        if op.data == "unary_not":
            return Unary("!", self.build(operand, at.deeper()))
        number = _inner(operand).children[0] if _inner(operand).data == "literal" else None
        if isinstance(number, Token) and number.type in ("INT_LIT", "FLOAT_LIT"):
            return Const(self._literal(number, negative=True))
        return Unary("-", self.build(operand, at.deeper()))

    def _literal(self, token: Token, *, negative: bool = False) -> Any:
        if token.type == "STRING_LIT":
            return str(token)
        if token.type == "BOOL_LIT":
            return str(token) == "true"
        if token.type == "NULL_LIT":
            return None
        if token.type == "FLOAT_LIT":
            return -float(token) if negative else float(token)
        digits = str(token)
        value = int(digits, 16 if digits.startswith("0x") else 10) * (-1 if negative else 1)
        if not INT_MIN <= value <= INT_MAX:
            raise self._error(
                f"the number {digits} does not fit 64 bits; write it as text or as {digits}.0", token
            )
        return value

    def _name(self, token: Token, scope: frozenset[str]) -> Node:
        name = str(token)
        if name in self._variables or name in scope:
            return Name(name)
        if name in _WORD_HINTS:
            raise self._error(f"unknown name {name}: {_WORD_HINTS[name]}", token)
        known = ", ".join(sorted(self._variables | scope))
        text = quoted(self._text, token.start_pos or 0)
        path, _, field = text.strip('"').rpartition(".")
        if "-" in field and path.split(".")[0] in self._variables:
            hint = f'a field with a hyphen in its name is written {path}["{field}"]'
        else:
            hint = f"if this is text, it needs quotes: {text}"
        raise self._error(f"unknown name {name} (known: {known}); {hint}", token)

    def _call(self, tree: _Tree, name: str, args: "list[_Tree]", at: _At) -> Node:
        if name == "has":
            operand = self.build(args[0], at) if len(args) == 1 else None
            if not isinstance(operand, Select):
                raise self._error("has() takes one field, such as has(event.data.id)", tree)
            return Has(operand.operand, operand.field)
        function = FUNCTIONS.get(name)
        if function is None:
            raise self._unknown_function(tree, name)
        if not function.plain:
            raise self._error(f"{name}() is called on a value: event.data.text.{name}(…)", tree)
        return self._checked_call(tree, Call(name, self._all(args, at)))

    def _method(self, tree: _Tree, children: list[Any], at: _At) -> Node:
        operand, name, args = children[0], str(children[1]), self._arguments(children[2:])
        if name in _MACROS:
            return self._macro(tree, cast("MacroKind", name), operand, args, at)
        function = FUNCTIONS.get(name)
        if function is None:
            raise self._unknown_function(tree, name)
        if not function.method:
            raise self._error(f"{name}() is not called on a value: write {name}(…)", tree)
        return self._checked_call(tree, Call(name, self._all([operand, *args], at), method=True))

    def _checked_call(self, tree: _Tree, call: Call) -> Call:
        arity = FUNCTIONS[call.function].arity
        if len(call.args) != arity:
            offset = int(call.method)
            raise self._error(
                f"{call.function}() takes {arity - offset} argument(s), not {len(call.args) - offset}", tree
            )
        if call.function == "matches" and isinstance(call.args[1], Const):
            problem = check_pattern(call.args[1].value)
            if problem is not None:
                raise self._error(f"matches() cannot use this pattern: {problem}", tree)
        return call

    def _unknown_function(self, tree: _Tree, name: str) -> ExpressionError:
        known = sorted([*FUNCTIONS, "has", *_MACROS])
        close = [_METHOD_HINTS[name]] if name in _METHOD_HINTS else difflib.get_close_matches(name, known, 1)
        guess = f"; did you mean {close[0]}()?" if close else ""
        return self._error(f"unknown function {name}() (known: {', '.join(known)}){guess}", tree)

    def _macro(
        self,
        tree: _Tree,
        kind: MacroKind,
        operand: _Tree,
        args: "list[_Tree]",
        at: _At,
    ) -> Node:
        if len(args) not in _MACROS[kind]:
            raise self._error(
                f"{kind}() takes a variable and a condition, such as list.{kind}(x, x > 1)", tree
            )
        source = self.build(operand, at.deeper())
        word = self._text[args[0].meta.start_pos : args[0].meta.end_pos]
        if not word.isidentifier() or not word.isascii() or word in ("true", "false", "null", "in"):
            raise self._error(f"the first argument of {kind}() is a new variable name, such as x", args[0])
        if word in _RESERVED or word in self._variables or word in at.names:
            raise self._error(f"{word} is taken; give the variable of {kind}() another name", args[0])
        self._macros += 1
        if self._macros > MAX_MACRO_DEPTH:
            raise self._error(f"macros nest deeper than {MAX_MACRO_DEPTH} levels", tree)
        body = self._all(args[1:], _At(at.depth, at.names | {word}))
        self._macros -= 1
        return Macro(kind, source, word, body)
