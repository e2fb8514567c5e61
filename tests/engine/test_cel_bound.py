"""Binding: the run's event goes in, what is left is about the later event and can be indexed and stored."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_engine.cel import Bound, ExpressionError, bind, compile_expression, index_value
from tests.engine.cel_generator import EVENTS, JSON, SCALARS, expressions


def bound(text: str, data: dict[str, Any] | None = None) -> Bound:
    return bind(compile_expression(text), {"name": "x", "data": data or {}})


INDEXED = [
    ("event.data.id == async.data.id", {"id": "u1"}, ("data.id", '"u1"')),
    ("async.data.id == event.data.id", {"id": 42}, ("data.id", "42")),
    ("async.data.id == event.data.id", {"id": 42.0}, ("data.id", "42")),
    ("async.data.id == event.data.id", {"id": "42"}, ("data.id", '"42"')),
    ("async.data.id == event.data.id", {"id": 4.5}, ("data.id", "4.5")),
    ("async.data.id == event.data.id", {"id": True}, ("data.id", "true")),
    ("async.data.id == event.data.id", {"id": None}, ("data.id", "null")),
    ("async.data.id == event.data.id", {"id": ["u1"]}, None),
    ("async.data.id == event.data.id", {}, None),
    ("'abc' == async.data.id", {}, ("data.id", '"abc"')),
    ("async.name == 'abc'", {}, ("name", '"abc"')),
    ("async.data.user.id == 7", {}, ("data.user.id", "7")),
    ("async.data['user-id'] == 7", {}, ("data.user-id", "7")),
    ("async.data['user.id'] == 7", {}, None),
    ("async.data.list[0] == 7", {}, None),
    ("async.data.id == event.data.a + '-' + event.data.b", {"a": "x", "b": "y"}, ("data.id", '"x-y"')),
    ("async.data.id == 'a' + 'b'", {}, ("data.id", '"ab"')),
    ("async.data.id == string(event.data.n)", {"n": 1}, ("data.id", '"1"')),
    # The run's own value tells more than a constant, a text or number more than true and null.
    ("async.data.plan == 'pro' && event.data.id == async.data.id", {"id": 1}, ("data.id", "1")),
    ("async.data.plan == 'pro' && (true && event.data.id == async.data.id)", {"id": 1}, ("data.id", "1")),
    ("async.data.ok == event.data.ok && async.data.plan == 'pro'", {"ok": True}, ("data.plan", '"pro"')),
    ("event.data.a == async.data.a && event.data.b == async.data.b", {"a": 1, "b": 2}, ("data.a", "1")),
    # Only what must hold counts.
    ("async.data.id == 1 || async.data.id == 2", {}, None),
    ("!(async.data.id == 1)", {}, None),
    ("async.data.id != 1", {}, None),
    ("async.data.id > 1", {}, None),
    ("async.data.a == async.data.b", {}, None),
    ("async.data.ok ? async.data.id == 1 : false", {}, None),
    ("event.data.go", {"go": True}, None),
]


@pytest.mark.parametrize(("text", "data", "index"), INDEXED)
def test_index(text: str, data: dict[str, Any], index: tuple[str, str] | None) -> None:
    assert bound(text, data).index == index


NEVER = [
    ("event.data.id == async.data.id", {}, True),
    ("event.data.id == async.data.id", {"id": 1 << 63}, True),
    ("event.data.id == async.data.id", {"id": None}, False),
    ("event.data.plan == 'pro' && async.data.id == 1", {"plan": "free"}, True),
    ("event.data.plan == 'pro' && async.data.id == 1", {"plan": "pro"}, False),
    ("event.data.plan == 'pro' || async.data.id == 1", {"plan": "free"}, False),
    ("event.data.plan == 'pro' || event.data.id == async.data.id", {}, True),
    ("event.data.plan", {"plan": "pro"}, True),
    ("event.data.go", {"go": True}, False),
    ("event.data.go ? async.data.id == 1 : false", {"go": False}, True),
    ("event.data.go ? async.data.id == 1 : false", {"go": True}, False),
    ("event.data.go ? async.data.id == 1 : false", {"go": 1}, True),
    ("async.data.go ? false : event.data.x", {}, True),
    ("async.data.go ? false : true", {}, False),
    ("!(event.data.id == async.data.id)", {}, True),
    ("event.data.ids.exists(x, x == async.data.id)", {}, True),
    ("event.data.ids.exists(x, x == async.data.id)", {"ids": [1]}, False),
    ("async.data.ids.exists(x, x == event.data.id)", {}, False),
    ("size(event.data.id + async.data.id) == 1", {}, True),
    ("1 && async.data.x", {}, True),
    ("1 || async.data.x", {}, False),
]


@pytest.mark.parametrize(("text", "data", "never"), NEVER)
def test_never(text: str, data: dict[str, Any], never: bool) -> None:
    assert bound(text, data).never is never


def test_one_in_a_disjunction_is_not_taken_for_true() -> None:
    """Python holds 1 and True for equal; CEL does not."""
    assert not bound("1 || async.data.x").matches({"data": {"x": False}})
    assert bound("1 || async.data.x").matches({"data": {"x": True}})


SHOWN = [
    (
        "event.data.id == async.data.id && async.data.plan=='pro'",
        {"id": "u1"},
        '"u1" == async.data.id && async.data.plan == "pro"',
    ),
    (
        "async.data.n - (event.data.n - async.data.m) * -2 > 0",
        {"n": 3},
        "async.data.n - (3 - async.data.m) * -2 > 0",
    ),
    ("event.data.id == async.data.id", {}, "event.data.id == async.data.id"),
    ("async.data.id in event.data.ids", {"ids": [1]}, "async.data.id in event.data.ids"),
    ("async.data.id == event.data.s", {"s": "x" * 300}, "async.data.id == event.data.s"),
    (
        "async.data.l.exists(x, x.id == event.data.id || has(x.a)) ? [1,'a'] : {'k': !async.data.b}",
        {"id": True},
        'async.data.l.exists(x, x.id == true || has(x.a)) ? [1, "a"] : {"k": !async.data.b}',
    ),
    ("(async.a || async.b) && async.c[event.data.i].d.size() == -1", {"i": 0}, None),
]


@pytest.mark.parametrize(("text", "data", "shown"), SHOWN)
def test_text_for_people(text: str, data: dict[str, Any], shown: str | None) -> None:
    expected = shown or "(async.a || async.b) && async.c[0].d.size() == -1"
    assert bound(text, data).expression_text == expected


def test_stored_form_needs_no_event() -> None:
    first = bound(
        "event.data.id == async.data.id && event.data.none || async.data.n == event.data.n",
        {"id": "u", "n": 1.0},
    )
    assert first.dump() == {
        "expression": "event.data.id == async.data.id && event.data.none || async.data.n == event.data.n",
        "values": [["u"], [], [1.0]],
    }
    loaded = Bound.load(json.loads(json.dumps(first.dump())))
    assert loaded.matches({"data": {"n": 1}})
    assert not loaded.matches({"data": {"id": "u", "n": 2}})


def test_stored_values_must_fit_the_expression() -> None:
    with pytest.raises(ValueError, match="was stored with 0 values; it has 1"):
        Bound.load({"expression": "event.data.id == async.data.id", "values": []})
    with pytest.raises(ExpressionError):
        Bound.load({"expression": "event.data.id ==", "values": []})


def test_only_the_two_events_can_be_bound() -> None:
    expression = compile_expression("output.a == 1", variables=frozenset({"output"}))
    with pytest.raises(ValueError, match="other variables"):
        bind(expression, {})


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"id": "42"}, '"42"'),
        ({"id": 42}, "42"),
        ({"id": 42.0}, "42"),
        ({"id": -0.0}, "0"),
        ({"id": 1e300}, "1e+300"),
        ({"id": True}, "true"),
        ({"id": 1}, "1"),
        ({"id": "true"}, '"true"'),
        ({"id": None}, "null"),
        ({"id": "\ud800é"}, '"\\ud800\\u00e9"'),
        ({"id": []}, None),
        ({"id": {}}, None),
        ({"id": 1 << 63}, None),
        ({"id": float("nan")}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_index_value(data: Any, text: str | None) -> None:
    assert index_value({"data": data}, "data.id") == text


def test_long_texts_are_indexed_by_their_digest() -> None:
    one, other = (index_value({"data": {"id": "x" * 500 + end}}, "data.id") for end in "ab")
    assert one is not None
    assert other is not None
    assert one.startswith("#")
    assert len(one) == 65
    assert one != other


@given(SCALARS, SCALARS)
def test_equal_scalars_and_only_they_have_the_same_index_text(left: Any, right: Any) -> None:
    same_text = index_value({"v": left}, "v") == index_value({"v": right}, "v")
    assert (
        compile_expression("event.v == async.v").matches({"event": {"v": left}, "async": {"v": right}})
        is same_text
    )


@st.composite
def correlations(draw: st.DrawFn) -> str:
    """Conditions of the shape that waits have: equalities joined with other terms."""
    field = draw(st.sampled_from(["a", "b", "user"]))
    equality = draw(
        st.sampled_from(
            ["event.data.{0} == async.data.{0}", "async.data.{0} == event.data.{0}", "async.data.{0} == 1"]
        )
    ).format(field)
    terms = draw(st.permutations([equality, *draw(st.lists(expressions(max_leaves=3), max_size=2))]))
    return " && ".join(terms)


def check_binding(text: str, event: dict[str, Any], later: list[dict[str, Any]]) -> None:
    """Bound, stored, loaded and shown, an expression matches as before; its index and `never` are true."""
    expression = compile_expression(text)
    first = bind(expression, event)
    loaded = Bound.load(msgspec.msgpack.decode(msgspec.msgpack.encode(first.dump())))
    shown = compile_expression(first.expression_text)
    # The same event again is the likeliest to match.
    for candidate in [*later, event]:
        env = {"event": event, "async": candidate}
        verdict = expression.matches(env)
        assert first.matches(candidate) is verdict
        assert loaded.matches(candidate) is verdict
        assert shown.matches(env) is verdict
        if verdict:
            assert not first.never
            if first.index is not None:
                assert index_value(candidate, first.index[0]) == first.index[1]
    assert (loaded.index, loaded.never) == (first.index, first.never)


BINDINGS = given(expressions() | correlations(), EVENTS, st.lists(EVENTS, min_size=1, max_size=3))


@settings(max_examples=40, deadline=None)
@BINDINGS
def test_binding_changes_no_verdict(text: str, event: dict[str, Any], later: list[dict[str, Any]]) -> None:
    """Whatever the expression and the events."""
    check_binding(text, event, later)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None)
@BINDINGS
def test_binding_changes_no_verdict_of_many(
    text: str, event: dict[str, Any], later: list[dict[str, Any]]
) -> None:
    """The same with more of them."""
    check_binding(text, event, later)


@given(JSON, JSON)
def test_a_bound_equality_finds_what_it_waits_for(value: Any, other: Any) -> None:
    """Looking up an event's value finds exactly the waiters that match, where the value is a scalar."""
    waiter = bound("event.data.a == async.data.a", {"a": value})
    if waiter.index is None:
        assert isinstance(value, (list, dict))
        return
    path, text = waiter.index
    candidate = {"data": {"a": other}}
    assert (index_value(candidate, path) == text) is waiter.matches(candidate)
