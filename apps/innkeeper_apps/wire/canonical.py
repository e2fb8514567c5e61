"""Canonical JSON (RFC 8785), the form in which every payload is stored, sent and signed.

Each step result passes through here, so the common case is two calls into C: msgspec parses, orjson writes.
What those two and RFC 8785 disagree about is settled so:

- **floats**: RFC 8785 writes numbers as ECMAScript does. A hook sees every float literal once. Whole numbers
  up to 2^53 become integers (`1.0` -> `1`, `-0.0` -> `0`); others that orjson would write differently become
  an `_OddFloat`, which the rfc8785 library writes.
- **key order**: RFC 8785 sorts by UTF-16 code units, orjson by code points. They differ only where a document
  holds both a character beyond U+FFFF and one in U+E000..U+FFFF; such documents take the slow writer.

Where RFC 8785 would refuse, a payload must still get through, so:

- **integers beyond 2^53** keep their digits, however many (ECMAScript would round them);
- **lone surrogates** (`"\\ud800"`, which JavaScript strings may hold) are written as that escape, as
  `JSON.stringify` does;
- **NaN and infinities**, also as literals from Python's `json`, become `null`, as with `JSON.stringify`;
- nesting beyond `MAX_DEPTH` is refused.
"""

import json
import math
import re
from typing import Any

import msgspec
import orjson
import rfc8785

MAX_DEPTH = 400
"""Levels of nesting that are certain to be accepted; beyond the parsers' own limits (about 1,000) none is."""

_EXACT = 2**53
_SMALLEST_PLAIN = 1e-4
"""orjson and ECMAScript switch to exponents at different small numbers, both below this one."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_INT = 4000
"""Digits of an integer that Python converts without complaint (its limit is 4,300)."""


class NotJsonError(ValueError):
    """Bytes that are not JSON, or not JSON that can be processed. The message says where and why."""


class _OddFloat(float):
    """A number that orjson would not write as RFC 8785 asks. orjson hands unknown types to `_odd`."""


class _Digits:
    """An integer of more digits than Python likes to convert."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def canonical_json(raw: bytes) -> bytes:
    """The canonical form of a JSON document.

    Raises:
        NotJsonError: `raw` is not JSON.
    """
    return canonical_parsed(parse(raw))


def canonical(value: Any) -> bytes:
    """The canonical form of a Python value of dict (str keys), list, tuple, str, int, float, bool and None.

    Raises:
        TypeError: something else is in it.
        NotJsonError: it is nested too deeply.
    """
    try:
        raw = orjson.dumps(value)
    except TypeError:
        return _write_all(value)
    return canonical_json(raw)


def parse(raw: bytes) -> Any:
    """The value of a JSON document, numbers normalised as above. `canonical_parsed` writes it; for other uses
    make it `plain` first.

    Raises:
        NotJsonError: `raw` is not JSON.
    """
    try:
        return _DECODER.decode(raw)
    except (ValueError, RecursionError):
        # Rare: lone surrogates, NaN, very long integers - or really not JSON. The standard library tells.
        return _parse_leniently(raw)


def canonical_parsed(value: Any) -> bytes:
    """The canonical form of what `parse` returned, or of a part of it.

    Raises:
        NotJsonError: it is nested too deeply.
    """
    try:
        out = orjson.dumps(value, _odd, orjson.OPT_SORT_KEYS)
    except TypeError:
        # Integers beyond 64 bits, lone surrogates, more than 254 levels.
        return _write_all(value)
    if not out.isascii() and _order_is_doubtful(out):
        return _write_all(value)
    return out


def plain(value: Any) -> Any:
    """What `parse` returned, in plain Python types that any serialiser takes.

    An integer of more than 4,000 digits becomes its text.

    Raises:
        NotJsonError: it is nested too deeply.
    """
    try:
        return _plain(value)
    except RecursionError:
        raise NotJsonError(f"nested too deeply: more than {MAX_DEPTH} levels") from None


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case _OddFloat():
            return float(value)
        case _Digits():
            return value.text
    return value


def _float(literal: str) -> float | int | None:
    value = float(literal)
    if value.is_integer():
        return int(value) if -_EXACT <= value <= _EXACT else _OddFloat(value)
    if math.isinf(value):
        return None
    return value if abs(value) >= _SMALLEST_PLAIN else _OddFloat(value)


_DECODER = msgspec.json.Decoder(float_hook=_float)


def _odd(value: Any) -> orjson.Fragment:
    if isinstance(value, _OddFloat):
        return orjson.Fragment(rfc8785.dumps(float(value)))
    if isinstance(value, _Digits):
        return orjson.Fragment(value.text.encode())
    raise TypeError(f"{type(value).__name__} is not a JSON type")


def _order_is_doubtful(out: bytes) -> bool:
    private_or_later = b"\xee" in out or b"\xef" in out
    return private_or_later and any(lead in out for lead in (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4"))


def _parse_leniently(raw: bytes) -> Any:
    try:
        return json.loads(
            raw.decode(), parse_float=_float, parse_int=_integer, parse_constant=lambda _name: None
        )
    except UnicodeDecodeError as e:
        raise NotJsonError(f"not JSON: byte {e.start} is not UTF-8") from None
    except json.JSONDecodeError as e:
        raise NotJsonError(f"not JSON: {e.msg} at character {e.pos}") from None
    except RecursionError:
        raise NotJsonError(f"nested too deeply: more than {MAX_DEPTH} levels") from None


def _integer(literal: str) -> int | _Digits:
    return int(literal) if len(literal) <= _LONGEST_INT else _Digits(literal)


def _write_all(value: Any) -> bytes:
    out: list[str] = []
    try:
        _write(value, out)
    except RecursionError:
        raise NotJsonError(f"nested too deeply: more than {MAX_DEPTH} levels") from None
    return "".join(out).encode()


def _write(value: Any, out: list[str]) -> None:
    """The whole of the rules at the top in plain Python, for what the fast path refuses."""
    match value:
        case None | True | False:
            out.append(json.dumps(value))
        case _Digits():
            out.append(value.text)
        case str():
            out.append(_string(value))
        case int():
            out.append(str(int(value)))
        case float():
            out.append(rfc8785.dumps(float(value)).decode() if math.isfinite(value) else "null")
        case list() | tuple():
            for i, item in enumerate(value):
                out.append("," if i else "[")
                _write(item, out)
            out.append("]" if value else "[]")
        case dict():
            for i, key in enumerate(sorted(value, key=_utf16)):
                out.append(("," if i else "{") + _string(key) + ":")
                _write(value[key], out)
            out.append("}" if value else "{}")
        case _:
            raise TypeError(f"{type(value).__name__} is not a JSON type")


def _utf16(key: Any) -> bytes:
    if not isinstance(key, str):
        raise TypeError(f"keys of a JSON object are strings, not {type(key).__name__}")
    return key.encode("utf-16-be", "surrogatepass")


def _string(text: str) -> str:
    # Two surrogates that stand next to each other are one character, however they came there.
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _SURROGATE.sub(lambda m: f"\\u{ord(m[0]):04x}", json.dumps(joined, ensure_ascii=False))
