"""Google's own CEL runtime (C++, through cel-expr-python) is the judge of what expressions mean."""

import math
from typing import Any

import pytest
from hypothesis import assume, example, given, settings

cel = pytest.importorskip("cel_expr_python.cel", reason="no wheel of cel-expr-python for this platform")

from innkeeper_engine.cel import EvaluationError, compile_expression  # noqa: E402
from tests.engine.cel_generator import EVENTS, arithmetic, expressions  # noqa: E402

ENV = cel.NewEnv(variables={"event": cel.Type.DYN, "async": cel.Type.DYN})
ERROR = "error"


def same(left: Any, right: Any) -> bool:
    """Equal values of equal types, all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, float) and math.isnan(left):
        return math.isnan(right)
    return bool(left == right)


def oracle(text: str, env: dict[str, Any]) -> Any:
    try:
        expression = ENV.compile(text, disable_check=True)
    except RuntimeError:
        # Its parser nests at most 32 levels.
        assume(False)
    value = expression.eval(data=env)
    return ERROR if value.type() == cel.Type.ERROR else (value.plain_value(),)


def ours(text: str, env: dict[str, Any]) -> Any:
    try:
        return (compile_expression(text).evaluate(env),)
    except EvaluationError:
        return ERROR


def check_condition(text: str, event: dict[str, Any], later: dict[str, Any]) -> None:
    """Values and errors agree; without arithmetic the dialects do not differ."""
    env = {"event": event, "async": later}
    expected, actual = oracle(text, env), ours(text, env)
    if ERROR in (expected, actual):
        assert expected == actual
    else:
        assert same(expected[0], actual[0]), (expected, actual)


CONDITIONS = given(expressions(arithmetic=False), EVENTS, EVENTS)


@settings(max_examples=60, deadline=None)
@CONDITIONS
def test_conditions_mean_what_google_s_runtime_says(
    text: str, event: dict[str, Any], later: dict[str, Any]
) -> None:
    """Values and errors of conditions without arithmetic."""
    check_condition(text, event, later)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None)
@CONDITIONS
def test_many_conditions_mean_what_google_s_runtime_says(
    text: str, event: dict[str, Any], later: dict[str, Any]
) -> None:
    """The same with more of them."""
    check_condition(text, event, later)


@settings(max_examples=200, deadline=None)
@given(arithmetic(int) | arithmetic(float))
@example("(-9223372036854775808) / (-1)")
@example("(-9223372036854775808) % (-1)")
@example("-(-9223372036854775808)")
@example("(-0.0) / 1.0 == 1.0 / (-0.0)")
def test_arithmetic_is_that_of_google_s_runtime(text: str) -> None:
    """64-bit overflow, division by zero, signs of quotients and remainders, infinities."""
    expected, actual = oracle(text, {}), ours(text, {})
    if ERROR in (expected, actual):
        assert expected == actual
    else:
        assert same(expected[0], actual[0]), (expected, actual)


def check_result(text: str, event: dict[str, Any], later: dict[str, Any]) -> None:
    """Int and double mix here and are an error there, hence one way only."""
    env = {"event": event, "async": later}
    expected = oracle(text, env)
    if expected != ERROR:
        actual = ours(text, env)
        assert actual != ERROR
        assert same(expected[0], actual[0]), (expected, actual)


ANYTHING = given(expressions(), EVENTS, EVENTS)


@settings(max_examples=80, deadline=None)
@ANYTHING
def test_a_result_of_google_s_runtime_is_ours(
    text: str, event: dict[str, Any], later: dict[str, Any]
) -> None:
    """Arithmetic among everything else."""
    check_result(text, event, later)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None)
@ANYTHING
def test_many_results_of_google_s_runtime_are_ours(
    text: str, event: dict[str, Any], later: dict[str, Any]
) -> None:
    """The same with more of them."""
    check_result(text, event, later)
