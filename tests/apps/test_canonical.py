"""Canonical JSON: equal to RFC 8785 where that says something, and never lost where it does not."""

import json
import math
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from innkeeper_apps.wire.canonical import NotJsonError, canonical, canonical_json, parse

EXACT = 2**53 - 1
numbers = st.one_of(
    st.integers(-EXACT, EXACT),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e15, 1e16, 1e20, 1e21, 1e-4, 1e-5, 1e-6, 1e-7, 5e-324, 1.7976931348623157e308, -0.0]),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
documents = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=25,
)
wild_text = st.text(st.characters(), max_size=8)
wild = st.recursive(
    st.none() | st.integers() | st.floats() | wild_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(wild_text, inner, max_size=4),
    max_leaves=15,
)


def exact(value: Any) -> bool:
    """Whether RFC 8785 defines the value's form: whole floats beyond 2^53 are fine, integers are not."""
    try:
        rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        return False
    return True


@given(documents)
@example({"😀": 1, "\ufb33": 2, "a": 3})
@example([1.0, -0.0, 1e21, 1e20, 0.1, 1e-7, 123456789012345680.0])
def test_equals_the_reference_implementation(value: Any) -> None:
    """The same bytes as the rfc8785 library, from a value and from any text of it."""
    expected = rfc8785.dumps(value)
    assert canonical(value) == expected
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert canonical_json(text.encode()) == expected


@given(wild)
def test_what_the_rfc_refuses_still_gets_through_and_stays_as_it_is(value: Any) -> None:
    """Lone surrogates, NaN and big integers: accepted, and canonical is a fixed point."""
    once = canonical(value)
    assert canonical_json(once) == once
    json.loads(once)
    if exact(value):
        assert once == rfc8785.dumps(value)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"b":1,"a":2}', b'{"a":2,"b":1}'),
        (b"1.0", b"1"),
        (b"-0", b"0"),
        (b"-0.0", b"0"),
        (b"1e2", b"100"),
        (b"1E21", b"1e+21"),
        (b"1e-7", b"1e-7"),
        (b"0.000001", b"0.000001"),
        (b"9007199254740993", b"9007199254740993"),
        (b"18446744073709551616", b"18446744073709551616"),
        (b"-123456789012345678901234567890", b"-123456789012345678901234567890"),
        (b"[" + b"7" * 6000 + b"]", b"[" + b"7" * 6000 + b"]"),
        (b'"\\ud800"', b'"\\ud800"'),
        (b'{"\\udc00":"\\ud83d\\ude00"}', '{"\\udc00":"😀"}'.encode()),
        (b"[NaN,Infinity,-Infinity,1e400]", b"[null,null,null,null]"),
        (b'"\\u001B\\u0007\\b\\/\x7f"', b'"\\u001b\\u0007\\b/\x7f"'),
        (b' {"a": [ ] , "b" : { } } ', b'{"a":[],"b":{}}'),
        (b'{"a":1,"a":2}', b'{"a":2}'),
        ('{"😀":1,"ﬀ":2}'.encode(), '{"😀":1,"ﬀ":2}'.encode()),
        ('"😀ﬀ"'.encode(), '"😀ﬀ"'.encode()),
    ],
)
def test_documents_and_their_forms(raw: bytes, expected: bytes) -> None:
    """Each rule of the module's description, by example."""
    assert canonical_json(raw) == expected


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (b"", "character 0"),
        (b"{", "character 1"),
        (b"[1,]", "character"),
        (b'"\xff"', "byte 1 is not UTF-8"),
        (b"1 2", "character 2"),
        (b"undefined", "character 0"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_not_json_is_refused_with_the_place(raw: bytes, where: str) -> None:
    """The error says where it went wrong."""
    with pytest.raises(NotJsonError, match=where):
        canonical_json(raw)


def test_deep_nesting_is_accepted_up_to_the_documented_depth() -> None:
    """orjson stops at 254 levels; the slow writer takes over."""
    raw = b"[" * 400 + b"]" * 400
    assert canonical_json(raw) == raw
    with pytest.raises(NotJsonError, match="nested too deeply"):
        canonical_json(b"[" * 990 + b"]" * 990)


def test_values_that_are_not_json_are_a_type_error() -> None:
    """A key or value of another type names itself."""
    with pytest.raises(TypeError, match="keys of a JSON object are strings, not int"):
        canonical({1: 2})
    with pytest.raises(TypeError, match="set is not a JSON type"):
        canonical([{1}])


def test_parsed_numbers_stay_numbers() -> None:
    """What parse returns can be calculated with."""
    value = parse(b"[1.0,2.5,1e-9,1e300]")
    assert value == [1, 2.5, 1e-9, 1e300]
    assert all(isinstance(number, int | float) and math.isfinite(number) for number in value)
