"""Values: JSON as Python decodes it, compared, ordered and added as CEL says, and written as text.

The types are exactly `str`, `int`, `float`, `bool`, `None`, `list` and `dict`. Integers are 64 bits wide; a
larger one is an error value. Numbers compare across int and double by their mathematical value.
"""

import hashlib
import json
import math
from typing import Any, Final

from innkeeper_engine.cel.errors import EvaluationError

INT_MIN: Final = -(1 << 63)
INT_MAX: Final = (1 << 63) - 1
MAX_STEPS: Final = 100_000
"""What one evaluation may spend in macros and in comparing lists and maps: one per node or per element."""
MAX_TEXT: Final = 65_536
"""Characters of a text that an expression puts together or searches with a pattern."""
MAX_LIST: Final = 10_000
"""Elements of a list that an expression puts together."""

TEXT_PER_STEP: Final = 256
"""Characters of a text that are compared or searched for one step."""

_INDEX_TEXT = 200
_KINDS = {
    str: "text",
    int: "int",
    float: "double",
    bool: "bool",
    list: "list",
    dict: "map",
    type(None): "null",
}


class Meter:
    """How much work an evaluation may still do."""

    __slots__ = ("left", "most")

    def __init__(self, most: int = MAX_STEPS) -> None:
        self.most = most
        self.left = most
        """Steps; below 0 once it has run out."""

    def charge(self, steps: int) -> None:
        """Take `steps` off.

        Raises:
            EvaluationError: nothing is left.
        """
        self.left -= steps
        if self.left < 0:
            raise EvaluationError(f"the evaluation takes more than {self.most} steps")


def kind(value: Any) -> str:
    """The CEL type's name, for messages."""
    return _KINDS.get(type(value), type(value).__name__)


def checked(value: Any) -> Any:
    """The value itself, as read from data.

    Raises:
        EvaluationError: an integer outside 64 bits.
    """
    if type(value) is int and not INT_MIN <= value <= INT_MAX:
        raise EvaluationError("an integer does not fit 64 bits")
    return value


def is_number(value: Any) -> bool:
    """Whether the value is an int or a double (a bool is neither)."""
    return type(value) is int or type(value) is float


def equal(left: Any, right: Any, meter: Meter) -> bool:
    """CEL's `==`: false where the types differ, numbers by value, lists and maps by their elements.

    Raises:
        EvaluationError: the meter ran out.
    """
    pending = [(left, right)]
    while pending:
        a, b = pending.pop()
        type_a, type_b = type(a), type(b)
        if type_a is not type_b:
            if is_number(a) and is_number(b) and a == b:
                continue
            return False
        if type_a is list:
            if len(a) != len(b):
                return False
            meter.charge(len(a))
            pending.extend(zip(a, b, strict=True))
        elif type_a is dict:
            if a.keys() != b.keys():
                return False
            meter.charge(len(a))
            pending.extend((value, b[key]) for key, value in a.items())
        elif type_a is str:
            if len(a) != len(b):
                return False
            meter.charge(len(a) // TEXT_PER_STEP)
            if a != b:
                return False
        elif a != b:
            return False
    return True


def order(op: str, left: Any, right: Any) -> bool:
    """`<`, `<=`, `>` or `>=` between two numbers, two texts or two bools.

    Raises:
        EvaluationError: any other pair.
    """
    if not (is_number(left) and is_number(right)) and not (
        type(left) is type(right) and type(left) in (str, bool)
    ):
        raise EvaluationError(f"{kind(left)} {op} {kind(right)} is not defined")
    if op == "<":
        return bool(left < right)
    if op == "<=":
        return bool(left <= right)
    if op == ">":
        return bool(left > right)
    return bool(left >= right)


def contains(container: Any, item: Any, meter: Meter) -> bool:
    """`item in container`: an element of a list or a key of a map.

    Raises:
        EvaluationError: any other container, a key that no map can have, or the meter ran out.
    """
    if type(container) is list:
        meter.charge(len(container))
        return any(equal(element, item, meter) for element in container)
    if type(container) is dict:
        key = map_key(item)
        return key is not None and key in container
    raise EvaluationError(f"{kind(item)} in {kind(container)} is not defined")


def map_key(value: Any) -> str | int | None:
    """The key that a value looks up: text, an integer, or a whole double as an integer. None for a bool,
    which is a valid key in CEL that no map here has, and for a fraction.

    Raises:
        EvaluationError: null, a list or a map.
    """
    if type(value) is str or type(value) is int:
        return value
    if type(value) is float:
        return int(value) if value.is_integer() else None
    if type(value) is bool:
        return None
    raise EvaluationError(f"{kind(value)} cannot be a map's key")


def item(container: Any, key: Any) -> Any:
    """`container[key]`

    Raises:
        EvaluationError: no such key, an index out of range, or types that do not fit.
    """
    if type(container) is dict:
        found = map_key(key)
        if found is None or found not in container:
            raise EvaluationError("no such key in the map")
        return checked(container[found])
    if type(container) is list:
        if type(key) is float and key.is_integer():
            key = int(key)
        if type(key) is not int:
            raise EvaluationError(f"a list's index is an integer, not {kind(key)}")
        if not 0 <= key < len(container):
            raise EvaluationError(f"index {key} is outside the list of {len(container)}")
        return checked(container[key])
    raise EvaluationError(f"{kind(container)} has no elements")


def arithmetic(op: str, left: Any, right: Any) -> Any:
    """`+ - * / %`: integers stay integers (division cuts towards zero), a double makes a double; `+` also
    joins two texts or two lists. A number and a text do not add.

    An int and a double do mix here, which CEL itself refuses: JSON does not tell 1 from 1.0.

    Raises:
        EvaluationError: types that do not fit, a division by zero, a result outside 64 bits or too long.
    """
    if is_number(left) and is_number(right):
        if type(left) is int and type(right) is int:
            return _integers(op, left, right)
        if op != "%":
            return _doubles(op, float(left), float(right))
    elif op == "+" and type(left) is type(right) and type(left) in (str, list):
        limit = MAX_TEXT if type(left) is str else MAX_LIST
        if len(left) + len(right) > limit:
            raise EvaluationError(f"the joined {kind(left)} is longer than {limit}")
        return left + right
    hint = "; string(…) makes a text of a number" if op == "+" and str in (type(left), type(right)) else ""
    raise EvaluationError(f"{kind(left)} {op} {kind(right)} is not defined{hint}")


def _integers(op: str, left: int, right: int) -> int:
    if op == "+":
        return _in_range(left + right)
    if op == "-":
        return _in_range(left - right)
    if op == "*":
        return _in_range(left * right)
    if right == 0:
        raise EvaluationError("division by zero")
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return _in_range(quotient) if op == "/" else left - right * _in_range(quotient)


def _in_range(value: int) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise EvaluationError("the result does not fit 64 bits")
    return value


def _doubles(op: str, left: float, right: float) -> float:
    if op == "+":
        return left + right
    if op == "-":
        return left - right
    if op == "*":
        return left * right
    if right == 0:
        return (
            math.nan
            if left == 0 or math.isnan(left)
            else math.copysign(math.inf, left) * math.copysign(1, right)
        )
    return left / right


def negated(value: Any) -> Any:
    """`-value`

    Raises:
        EvaluationError: not a number, or the smallest integer.
    """
    if type(value) is int:
        return _in_range(-value)
    if type(value) is float:
        return -value
    raise EvaluationError(f"-{kind(value)} is not defined")


def number_text(value: float) -> str:
    """A number without needless signs: `1` for 1 and 1.0, so that equal numbers give equal texts."""
    if type(value) is float and not (value.is_integer() and INT_MIN <= value <= INT_MAX):
        return repr(value)
    return str(int(value))


def key_text(value: Any) -> str | None:
    """A value as a key: text as it is, numbers as `number_text`, `true`/`false`, lists and maps as sorted
    JSON. None where there is nothing to tell runs apart by: null, and numbers that are not finite."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if is_number(value):
        return number_text(value) if math.isfinite(value) else None
    if value is None:
        return None
    try:
        return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return None


def _plain(value: Any) -> Any:
    """The value with whole doubles as integers, so that 1 and 1.0 print alike."""
    if type(value) is float and value.is_integer() and INT_MIN <= value <= INT_MAX:
        return int(value)
    if type(value) is list:
        return [_plain(element) for element in value]
    if type(value) is dict:
        return {str(key): _plain(element) for key, element in value.items()}
    return value


def scalar_text(value: Any) -> str | None:
    """The canonical text of a scalar for an index: equal values and only they have equal texts (long ones:
    equal digests). It is ASCII: `"42"` with its quotes for a text, `42`, `true`, `null`. None for lists,
    maps, NaN and integers outside 64 bits, which no index finds."""
    if type(value) is str:
        text = json.dumps(value)
        # JSON text never starts with #, so a digest is never taken for a text.
        return text if len(text) <= _INDEX_TEXT else "#" + hashlib.sha256(text.encode("ascii")).hexdigest()
    if value is None or type(value) is bool:
        return json.dumps(value)
    if type(value) is int:
        return str(value) if INT_MIN <= value <= INT_MAX else None
    if type(value) is float and not math.isnan(value):
        return number_text(value)
    return None
