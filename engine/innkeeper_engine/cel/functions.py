"""The functions an expression may call. CEL's standard ones for JSON data; none reads a clock or does I/O."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from innkeeper_engine.cel.errors import EvaluationError
from innkeeper_engine.cel.values import INT_MAX, INT_MIN, MAX_TEXT, kind, number_text

MAX_PATTERN = 1024
"""Characters of a regular expression."""

_INT = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_DOUBLE = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_BOOLS = dict.fromkeys(("1", "t", "true", "TRUE", "True"), True) | dict.fromkeys(
    ("0", "f", "false", "FALSE", "False"), False
)


@dataclass(frozen=True, slots=True)
class Function:
    """`arity` counts the receiver; `plain` allows `f(x)`, `method` allows `x.f()`; `result` is the kind of
    its value, None where that depends on the argument."""

    run: Callable[..., Any]
    arity: int
    plain: bool
    method: bool
    result: str | None


def _undefined(name: str, *args: Any) -> EvaluationError:
    return EvaluationError(f"{name}({', '.join(kind(arg) for arg in args)}) is not defined")


def _size(value: Any) -> int:
    if type(value) in (str, list, dict):
        return len(value)
    raise _undefined("size", value)


def _text_test(name: str, test: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    def run(text: Any, part: Any) -> bool:
        if type(text) is str and type(part) is str:
            return test(text, part)
        raise _undefined(name, text, part)

    return run


def _int(value: Any) -> int:
    if type(value) is int:
        return value
    # The bounds themselves are not exact as doubles; the open interval is what Go and C++ accept.
    if type(value) is float and float(INT_MIN) < value < float(INT_MAX):
        return int(value)
    if type(value) is str and _INT.fullmatch(value) and INT_MIN <= int(value) <= INT_MAX:
        return int(value)
    raise _undefined("int", value)


def _double(value: Any) -> float:
    if type(value) in (int, float) or (type(value) is str and _DOUBLE.fullmatch(value)):
        return float(value)
    raise _undefined("double", value)


def _string(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) in (int, float):
        return number_text(value)
    raise _undefined("string", value)


def _bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is str and value in _BOOLS:
        return _BOOLS[value]
    raise _undefined("bool", value)


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> tuple[Any, str | None]:
    """The pattern for RE2, whose matching takes linear time, or what is wrong with it."""
    import re2  # type: ignore[import-untyped]  # noqa: PLC0415 - few expressions need it

    if len(pattern) > MAX_PATTERN:
        return None, f"it is longer than {MAX_PATTERN} characters"
    if not pattern.isascii() and _SURROGATE.search(pattern):
        return None, "it has a lone surrogate"
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options), None
    except re2.error as error:
        reason = error.args[0] if error.args else "not RE2 syntax"
        return None, reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def check_pattern(pattern: Any) -> str | None:
    """What is wrong with a constant pattern of `matches`, None if nothing is."""
    return _compiled(pattern)[1] if type(pattern) is str else f"it is {kind(pattern)}, not text"


def _matches(text: Any, pattern: Any) -> bool:
    if type(text) is not str or type(pattern) is not str:
        raise _undefined("matches", text, pattern)
    if len(text) > MAX_TEXT:
        raise EvaluationError(f"matches() searches at most {MAX_TEXT} characters")
    compiled, problem = _compiled(pattern)
    if problem is not None:
        # Without the reason, which quotes the pattern: that may be an event's data.
        raise EvaluationError("matches() cannot use the pattern that the data gives")
    if _SURROGATE.search(text):
        raise EvaluationError("matches() takes text without lone surrogates")
    return compiled.search(text) is not None


FUNCTIONS = {
    "size": Function(_size, 1, plain=True, method=True, result="int"),
    "matches": Function(_matches, 2, plain=True, method=True, result="bool"),
    "startsWith": Function(
        _text_test("startsWith", str.startswith), 2, plain=False, method=True, result="bool"
    ),
    "endsWith": Function(_text_test("endsWith", str.endswith), 2, plain=False, method=True, result="bool"),
    "contains": Function(
        _text_test("contains", str.__contains__), 2, plain=False, method=True, result="bool"
    ),
    "int": Function(_int, 1, plain=True, method=False, result="int"),
    "double": Function(_double, 1, plain=True, method=False, result="double"),
    "string": Function(_string, 1, plain=True, method=False, result="text"),
    "bool": Function(_bool, 1, plain=True, method=False, result="bool"),
    "dyn": Function(lambda value: value, 1, plain=True, method=False, result=None),
}
