"""Text to tokens for the grammar that cel-python ships.

cel-python's own string terminals backtrack exponentially (an unterminated string of forty backslashes takes
hours), so that only its grammar is used and every pattern here is linear: the alternatives never overlap and
the repetitions are possessive.
"""

import json
import re
from collections.abc import Iterator

from lark import Token
from lark.common import LexerConf
from lark.lexer import Lexer, LexerState, PatternStr

from innkeeper_engine.cel.errors import ExpressionError

MAX_BRACKETS = 64
"""How deep brackets may nest."""

_TOKEN = re.compile(
    r"""
    (?P<space>(?:[\t\n\f\r\ ]|//[^\n\r]*+)++)
    |(?P<string>[bB]?[rR]?(?:\"{3}|'{3}|\"|'))
    |(?P<number>0x[0-9a-fA-F]++|(?:[0-9]++\.[0-9]++|\.[0-9]++|[0-9]++)(?:[eE][+-]?[0-9]++)?+)
    |(?P<word>[_a-zA-Z][_a-zA-Z0-9]*+)
    |(?P<op>\|\||&&|<=|>=|==|!=|[?:<>+\-*/%!.()\[\]{},])
    """,
    re.VERBOSE,
)
_BODIES = {
    ('"', False): re.compile(r'(?:[^\\\n\r"]|\\.)*+"'),
    ("'", False): re.compile(r"(?:[^\\\n\r']|\\.)*+'"),
    ('"', True): re.compile(r'[^\n\r"]*+"'),
    ("'", True): re.compile(r"[^\n\r']*+'"),
    ('"""', False): re.compile(r'(?:[^\\"]|\\.|"(?!""))*+"""', re.DOTALL),
    ("'''", False): re.compile(r"(?:[^\\']|\\.|'(?!''))*+'''", re.DOTALL),
    ('"""', True): re.compile(r'(?:[^"]|"(?!""))*+"""'),
    ("'''", True): re.compile(r"(?:[^']|'(?!''))*+'''"),
}
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"'`?])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.?))",
    re.DOTALL,
)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_BARE_TEXT = re.compile(r"[A-Za-z0-9_.@:-]*")
_WORDS = {"true": "BOOL_LIT", "false": "BOOL_LIT", "null": "NULL_LIT", "in": "IN"}
_HINTS = {
    "=": "write == to compare",
    "&": "write && for and",
    "|": "write || for or",
    "`": "text stands in single or double quotes",
    "\u201c": "text stands in straight quotes, ' or \"",
    "\u201d": "text stands in straight quotes, ' or \"",
    "\u2018": "text stands in straight quotes, ' or \"",
    "\u2019": "text stands in straight quotes, ' or \"",
    "$": "a template placeholder was not filled in",
}


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column, both from 1, of an offset into the text."""
    line_start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - line_start + 1


def quoted(text: str, offset: int) -> str:
    """The unquoted word around `offset` as it would be written as text: `4ef9-02` -> `"4ef9-02"`."""
    start = offset
    while start > 0 and _BARE_TEXT.fullmatch(text[start - 1]):
        start -= 1
    match = _BARE_TEXT.match(text, start)
    return json.dumps(match.group() if match else "")


class CelLexer(Lexer):
    """Tokens under the names that the compiled grammar gives its terminals. Stateless: threads share it."""

    __future_interface__ = 2

    def __init__(self, conf: LexerConf) -> None:
        self._names = {
            terminal.pattern.value: terminal.name
            for terminal in conf.terminals
            if isinstance(terminal.pattern, PatternStr)
        }

    def lex(self, lexer_state: LexerState, parser_state: object) -> Iterator[Token]:  # noqa: ARG002
        """All tokens but white space and comments.

        Raises:
            ExpressionError: a character or a literal that CEL does not have, or brackets nested too deep.
        """
        text = str(lexer_state.text.text)
        offset, brackets = 0, 0
        while offset < len(text):
            match = _TOKEN.match(text, offset)
            if match is None:
                raise _unexpected(text, offset)
            end, group = match.end(), match.lastgroup
            if group == "space":
                offset = end
                continue
            value = match.group()
            if group == "string":
                name, end, value = _string(text, match)
            elif group == "number":
                name = _number(text, match)
            elif group == "word":
                name = _WORDS.get(value, "IDENT")
            else:
                name = self._names[value]
                brackets += (value in "([{") - (value in ")]}")
                if brackets > MAX_BRACKETS:
                    raise ExpressionError(
                        f"brackets nest deeper than {MAX_BRACKETS} levels; split the expression",
                        *position(text, offset),
                    )
            line, column = position(text, offset)
            end_line, end_column = position(text, end)
            yield Token(name, value, offset, line, column, end_line, end_column, end)
            offset = end


def _unexpected(text: str, offset: int) -> ExpressionError:
    character = text[offset]
    if character == "@":
        hint = f"text needs quotes: {quoted(text, offset)}"
    elif character == "=" and text[offset - 2 : offset] in ("==", "!="):
        hint = f"write {text[offset - 2 : offset]} (there is no third =)"
    else:
        hint = _HINTS.get(character, "text needs quotes")
    return ExpressionError(f"unexpected character {character!r}: {hint}", *position(text, offset))


def _number(text: str, match: re.Match[str]) -> str:
    value, end = match.group(), match.end()
    after = text[end : end + 1]
    if after in ("u", "U") and not re.match(r"[A-Za-z0-9_]", text[end + 1 : end + 2]):
        raise ExpressionError(
            f"unsigned number {value}{after}: JSON has no unsigned numbers; write {value}",
            *position(text, match.start()),
        )
    if after.isalnum() or after == "_":
        raise ExpressionError(
            f"a number runs into letters; if this is text, it needs quotes: {quoted(text, match.start())}",
            *position(text, match.start()),
        )
    is_float = not value.startswith("0x") and any(character in ".eE" for character in value)
    return "FLOAT_LIT" if is_float else "INT_LIT"


def _string(text: str, match: re.Match[str]) -> tuple[str, int, str]:
    opener = match.group()
    delimiter = opener.lstrip("bBrR")
    where = position(text, match.start())
    if opener[0] in "bB":
        raise ExpressionError(
            'byte strings are not supported: JSON has none; write it without the "b"', *where
        )
    raw = opener[0] in "rR"
    body = _BODIES[delimiter, raw].match(text, match.end())
    if body is None:
        raise ExpressionError(f"the text that opens here is not closed; it needs another {delimiter}", *where)
    content = body.group()[: -len(delimiter)]
    if raw or "\\" not in content:
        return "STRING_LIT", body.end(), content
    return "STRING_LIT", body.end(), _ESCAPE.sub(lambda found: _unescaped(found, text, match.end()), content)


def _unescaped(found: re.Match[str], text: str, base: int) -> str:
    simple, *codes, octal, _ = found.groups()
    if simple is not None:
        return _SIMPLE.get(simple, simple)
    digits = next((code for code in codes if code is not None), None)
    code = int(digits, 16) if digits is not None else int(octal, 8) if octal is not None else -1
    if 0 <= code < 0xD800 or 0xE000 <= code <= 0x10FFFF:
        return chr(code)
    raise ExpressionError(
        rf"{found.group()} is not an escape; write \\ for a backslash (or r'…' for text without escapes)",
        *position(text, base + found.start()),
    )
