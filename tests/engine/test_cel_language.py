"""The language itself: values, operators, functions and macros, and what is an error."""

import math
import sys
from typing import Any

import pytest

from innkeeper_engine.cel import EvaluationError, compile_expression

DATA: dict[str, Any] = {
    "one": 1,
    "float": 1.0,
    "half": 0.5,
    "text": "hello",
    "empty": "",
    "yes": True,
    "nothing": None,
    "list": [1, 2, 3],
    "users": [{"id": 1, "tags": ["a"]}, {"id": 2, "tags": []}],
    "map": {"a": 1, "a-b": 2, "true": 3},
    "huge": 1 << 63,
    "nan": math.nan,
    "in": "word",
    "package": "reserved",
}


def evaluate(text: str) -> Any:
    return compile_expression(text).evaluate({"event": {"data": DATA}})


VALUES = [
    # Literals.
    ("0x1F", 31),
    ("-9223372036854775808", -(1 << 63)),
    ("1.5e3", 1500.0),
    (".5", 0.5),
    ("'it\\'s' + \"\\u00e9\\x41\\101\\n\"", "it'séAA\n"),
    (r"r'\d' + R'''a'b'''", r"\da'b"),
    ('"""two\nlines "quoted" """', 'two\nlines "quoted" '),
    ('"\\U0001F600"', "😀"),
    ("[1, 'a', null]", [1, "a", None]),
    ("{'a': 1, 2: 'b'}", {"a": 1, 2: "b"}),
    ("[]", []),
    ("{}", {}),
    ("-[1][0]", -1),
    # Precedence and white space.
    ("1 + 2 * 3 - 4 / 2", 5),
    ("(1 + 2) * 3", 9),
    ("1 - 2 - 3", -4),
    ("event.data.one-1", 0),
    ("- -1", 1),
    ("true || false && false", True),
    ("false ? 1 : true ? 2 : 3", 2),
    ("1 // a comment\n\t+ 1", 2),
    # Numbers compare across types, and by value.
    ("event.data.one == event.data.float", True),
    ("9007199254740993 == 9007199254740992.0", False),
    ("1 < 1.5 && 1.5 >= 1", True),
    ("1 == true", False),
    ("1 == '1'", False),
    ("1 != '1'", True),
    ("null == 'a'", False),
    ("event.data.nothing == null", True),
    ("event.data.nan == event.data.nan", False),
    ("'a' < 'b' && 'B' < 'a'", True),
    ("false < true", True),
    ("[1, [2.0]] == [1.0, [2]]", True),
    ("[true] == [1]", False),
    ("[1] == [1, 2]", False),
    ("{'a': 1} == {'a': 1.0}", True),
    ("{'a': 1} == {'b': 1}", False),
    # Arithmetic.
    ("7 / 2", 3),
    ("-7 / 2", -3),
    ("-7 % 3", -1),
    ("7 % -3", 1),
    ("7.0 / 2", 3.5),
    ("event.data.one + event.data.half", 1.5),
    ("1.0 / 0.0", math.inf),
    ("-1.0 / 0.0", -math.inf),
    ("'a' + 'b'", "ab"),
    ("[1] + [2]", [1, 2]),
    # Fields and elements.
    ("event.data['a' == 'a' ? 'text' : '']", "hello"),
    ("event.data.map['a-b']", 2),
    ("event['data'].map.a", 1),
    ("event.data['in'] + event.data.package", "wordreserved"),
    ("event.data.list[0] + event.data.list[1.0]", 3),
    ("{1: 'a'}[1.0]", "a"),
    ("{'a': {'b': 1}}.a.b", 1),
    (".event.data.one", 1),
    ("has(event.data.one) && !has(event.data.two)", True),
    ("has(event.data.nothing)", True),
    ("has({'a': 1}.a)", True),
    # in
    ("2.0 in event.data.list", True),
    ("'2' in event.data.list", False),
    ("true in [1]", False),
    ("'a' in event.data.map", True),
    ("true in event.data.map", False),
    ("1.5 in {1: 2}", False),
    # Functions.
    ("size('é😀') + size([1]) + size({'a': 1}) + event.data.text.size()", 9),
    ("event.data.text.startsWith('he') && event.data.text.endsWith('lo')", True),
    ("event.data.text.contains('ell') && event.data.text.contains('')", True),
    ("event.data.text.matches('^h.*o$') && matches(event.data.text, 'l{2}')", True),
    ("event.data.text.matches('^ell')", False),
    ("int('42') + int(-1.9) + int(1)", 42),
    ("double('1e3') + double(1)", 1001.0),
    ("string(1.0) + string(1.5) + string(true) + string('x')", "11.5truex"),
    ("bool('true') && !bool('f') && bool(true)", True),
    ("dyn(1) + 1", 2),
    # Macros.
    ("event.data.list.all(x, x > 0) && !event.data.list.all(x, x > 1)", True),
    ("[].all(x, false) && ![].exists(x, true)", True),
    ("event.data.users.exists(u, u.tags.exists(t, t == 'a') && u.id == 1)", True),
    ("event.data.list.exists_one(x, x == 2) && !event.data.list.exists_one(x, x > 1)", True),
    ("event.data.list.filter(x, x % 2 == 1)", [1, 3]),
    ("event.data.list.map(x, x * 2)", [2, 4, 6]),
    ("event.data.list.map(x, x > 1, x * 2)", [4, 6]),
    ("event.data.map.filter(k, event.data.map[k] > 1)", ["a-b", "true"]),
    ("[1, 2].map(x, [3, 4].map(y, x * y))", [[3, 4], [6, 8]]),
    # Errors that another term makes irrelevant.
    ("event.data.none == 1 || true", True),
    ("true || event.data.none == 1", True),
    ("event.data.none == 1 && false", False),
    ("1 && false", False),
    ("'a' || true", True),
    ("true ? 1 : event.data.none", 1),
    ("[1, 0].exists(x, 1 / x == 1) && [0, 1].exists(x, 1 / x == 1)", True),
    ("[0, 2].all(x, 1 / x == 1)", False),
]


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_value(text: str, expected: Any) -> None:
    value = evaluate(text)
    assert value == expected
    assert type(value) is type(expected)


ERRORS = [
    ("event.data.none", "event.data.none is missing"),
    ("event.data.none.deeper", "event.data.none is missing"),
    ("event.data.text.deeper", "event.data.text is text and has no field deeper"),
    ("event.data.list.length", "event.data.list is list and has no field length"),
    ("async.data.id", "async is not available here"),
    ("event.data.none == event.data.none", "event.data.none is missing"),
    ("event.data.none != 1", "event.data.none is missing"),
    ("event.data.huge == event.data.huge", "event.data.huge does not fit 64 bits"),
    ("event.data.huge > 1", "does not fit 64 bits"),
    ("9223372036854775807 + 1", "does not fit 64 bits"),
    ("-(-9223372036854775808)", "does not fit 64 bits"),
    ("-9223372036854775808 / -1", "does not fit 64 bits"),
    ("1 / 0", "division by zero"),
    ("1 % 0", "division by zero"),
    ("1.0 % 2.0", "double % double is not defined"),
    ("1 + 'a'", "string(…) makes a text of a number"),
    ("'a' * 2", "text * int is not defined"),
    ("true + true", "bool + bool is not defined"),
    ("1 < 'a'", "int < text is not defined"),
    ("null < null", "null < null is not defined"),
    ("1 < true", "int < bool is not defined"),
    ("!1", "!int is not defined"),
    ("-'a'", "-text is not defined"),
    ("1 ? 2 : 3", "the condition before ? is int"),
    ("true && 1", "&& joins true and false, not int"),
    ("event.data.none || false", "event.data.none is missing"),
    ("event.data.list[3]", "index 3 is outside the list of 3"),
    ("event.data.list[-1]", "index -1 is outside"),
    ("event.data.list['0']", "event.data.list is list and has no field 0"),
    ("event.data.list[event.data.text]", "a list's index is an integer, not text"),
    ("event.data.list[true]", "a list's index is an integer, not bool"),
    ("event.data.map[true]", "no such key"),
    ("event.data.map[null]", "null cannot be a map's key"),
    ("event.data.text[0]", "text has no elements"),
    ("[1][0].x", "int has no field x"),
    ("{'a': 1}.b", "the field b is missing"),
    ("has(event.data.text.x)", "text has no fields"),
    ("has(event.data.none.x)", "event.data.none is missing"),
    ("'a' in 'abc'", "text in text is not defined"),
    ("{'a': 1, 'a': 2}", "same key twice"),
    ("{true: 1}", "a map's key is text or an integer"),
    ("size(1)", "size(int) is not defined"),
    ("'a'.contains(1)", "contains(text, int) is not defined"),
    ("matches(1, 'a')", "matches(int, text) is not defined"),
    ("'a'.matches(event.data.text + '(')", "cannot use the pattern that the data gives"),
    ("int('1.5')", "int(text) is not defined"),
    ("int('9223372036854775808')", "int(text) is not defined"),
    ("int(1e300)", "int(double) is not defined"),
    ("int(null)", "int(null) is not defined"),
    ("double('0x1')", "double(text) is not defined"),
    ("double(null)", "double(null) is not defined"),
    ("string(null)", "string(null) is not defined"),
    ("bool('yes')", "bool(text) is not defined"),
    ("event.data.text.all(x, true)", "a macro goes over a list or a map, not text"),
    ("[1].filter(x, x)", "the macro's condition is int"),
    ("[0, 1].all(x, 1 / x == 1)", "division by zero"),
    ("[1, 0].filter(x, 1 / x == 1)", "division by zero"),
    ("[event.data.huge].size()", "does not fit 64 bits"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_error_value_says_what_does_not_fit(text: str, message: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluate(text)
    assert message in str(caught.value)
    expression = compile_expression(text)
    env = {"event": {"data": DATA}}
    assert (expression.matches(env), expression.key(env), expression.integer(env)) == (False, None, None)


@pytest.mark.parametrize("value", [1, 0, "true", None, [True], {}, 1.0])
def test_only_the_boolean_true_matches(value: Any) -> None:
    expression = compile_expression("event.data.x")
    assert not expression.matches({"event": {"data": {"x": value}}})
    assert expression.matches({"event": {"data": {"x": True}}})


def test_an_integer_of_64_bits_is_exact() -> None:
    expression = compile_expression("event.data.x == 9223372036854775807")
    assert expression.matches({"event": {"data": {"x": (1 << 63) - 1}}})
    assert not expression.matches({"event": {"data": {"x": (1 << 63) - 2}}})


def test_integers_inside_a_macro_are_checked_too() -> None:
    env = {"event": {"data": {"l": [1 << 64, 1]}}}
    assert compile_expression("event.data.l.exists(x, x == 1)").matches(env)
    assert not compile_expression("event.data.l.all(x, x > 0)").matches(env)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_no_key_and_no_priority(value: float) -> None:
    env = {"event": {"data": {"x": value}}}
    assert compile_expression("event.data.x").key(env) is None
    assert compile_expression("event.data.x").integer(env) is None


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_deep_data_is_compared_without_recursion() -> None:
    levels = sys.getrecursionlimit() * 2
    env = {"event": {"data": {"a": nested(levels), "b": nested(levels), "c": nested(levels - 1)}}}
    assert compile_expression("event.data.a == event.data.b").matches(env)
    assert not compile_expression("event.data.a == event.data.c").matches(env)
    assert compile_expression("event.data.a").key(env) is None


@pytest.mark.parametrize(
    "text",
    [
        "event.data.l.all(x, event.data.l.all(y, x == y || x != y))",
        "event.data.l.map(x, event.data.l + event.data.l) != []",
        "event.data.l.all(x, event.data.long.contains('b') || true)",
        "event.data.l.all(x, event.data.long == event.data.same)",
        "event.data.l.all(x, event.data.l == event.data.copy)",
        "event.data.big == event.data.big2",
    ],
)
def test_work_is_bounded(text: str) -> None:
    """Loops in loops, and long data inside a loop, run out of steps instead of holding up the server."""
    size = 2000
    data = {
        "l": list(range(size)),
        "copy": list(range(size)),
        "long": "a" * 60_000,
        "same": "a" * 59_999 + "a",
        "big": [0] * 200_000,
        "big2": [0] * 200_000,
    }
    with pytest.raises(EvaluationError, match="steps"):
        compile_expression(text).evaluate({"event": {"data": data}})


def test_ordinary_loops_stay_within_the_bound() -> None:
    env = {"event": {"data": {"l": [{"id": number} for number in range(5000)]}}}
    assert compile_expression("event.data.l.exists(x, x.id == 4999 && x.id > 0)").matches(env)


def test_joined_text_and_lists_are_bounded() -> None:
    env = {"event": {"data": {"s": "x" * 40_000, "l": [0] * 6_000}}}
    for text in ("event.data.s + event.data.s", "event.data.l + event.data.l"):
        with pytest.raises(EvaluationError, match="longer than"):
            compile_expression(text).evaluate(env)
    with pytest.raises(EvaluationError, match="at most"):
        compile_expression("(event.data.t).matches('x')").evaluate({"event": {"data": {"t": "y" * 70_000}}})


def test_a_pattern_that_backtracks_elsewhere_takes_linear_time() -> None:
    env = {"event": {"data": {"s": "a" * 50_000 + "b"}}}
    assert not compile_expression("event.data.s.matches('^(a+)+$')").matches(env)
