"""What is refused when an expression is registered, with its position and what would be right."""

import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_engine.cel import (
    MAX_DEPTH,
    MAX_LENGTH,
    EvaluationError,
    ExpressionError,
    compile_expression,
)

REFUSED = [
    ("", 1, 1, "empty"),
    (" \n ", 1, 1, "empty"),
    ("// nothing", 1, 11, "ends too early"),
    ("event.data.a =", 1, 14, "write == to compare"),
    ("event.data.a === 1", 1, 16, "write == (there is no third =)"),
    ("event.data.a !== 1", 1, 16, "write != (there is no third =)"),
    ("event.data.a & true", 1, 14, "write && for and"),
    ("event.data.a | true", 1, 14, "write || for or"),
    ("event.data.a and true", 1, 14, "write && for and"),
    ("event.data.a or true", 1, 14, "write || for or"),
    ("not event.data.a", 1, 5, "write ! for not"),
    ("event.data.a == None", 1, 17, "write null"),
    ("event.data.a == undefined", 1, 17, "has(event.data.field)"),
    ("event.data.a == `b`", 1, 17, "single or double quotes"),
    ("event.data.a == \u201cb\u201d", 1, 17, "straight quotes"),
    ("event.data.a == ${id}", 1, 17, "placeholder"),
    ("event.data.a == 'b", 1, 17, "another '"),
    ('event.data.a == "b\n"', 1, 17, 'another "'),
    ("event.data.a == '''b''", 1, 17, "another '''"),
    ("event.data.a == 'b\\q'", 1, 19, "\\q is not an escape"),
    ("'\\ud800'", 1, 2, "\\ud800 is not an escape"),
    ("(event.data.a", 1, 14, "ends too early"),
    ("event.data.a == ", 1, 17, "ends too early"),
    ("event.data.a)", 1, 13, "unexpected )"),
    ("event.data.a\n  event.data.b", 2, 3, "an operator is missing"),
    ("event.data.a &&\n event.data. == 1", 2, 14, "unexpected =="),
    ("event.data.in == 1", 1, 12, '["in"]'),
    ("event.data.a == 1u", 1, 17, "write 1"),
    ("event.data.a == b'x'", 1, 17, "byte strings"),
    ("event.data.a == 1abc", 1, 17, '"1abc"'),
    ("event.data.a == 9223372036854775808", 1, 17, "64 bits"),
    ("event.data.a == 0x8000000000000000", 1, 17, "64 bits"),
    ("event.data.a == Foo{x: 1}", 1, 17, "messages"),
    ("if == 1", 1, 1, "unknown name if"),
    ("event.data.a == evnt.data.b", 1, 17, "known: async, event"),
    ("event.data.user-id == 1", 1, 17, 'is written event.data["user-id"]'),
    ("evnt.exists(x, true)", 1, 1, "unknown name evnt"),
    ("x == 1 || [1].all(x, x == 1)", 1, 1, "unknown name x"),
    ("event.data.a.toLower()", 1, 1, "unknown function toLower()"),
    ("event.data.a.startWith('b')", 1, 1, "did you mean startsWith()?"),
    ("event.data.a.includes('b')", 1, 1, "did you mean contains()?"),
    ("timestamp(event.data.a)", 1, 1, "unknown function timestamp()"),
    ("startsWith('a', 'b')", 1, 1, "is called on a value"),
    ("event.data.a.int()", 1, 1, "write int(…)"),
    ("size(1, 2)", 1, 1, "takes 1 argument(s), not 2"),
    ("'a'.contains()", 1, 1, "takes 1 argument(s), not 0"),
    ("has(event)", 1, 1, "has() takes one field"),
    ("has()", 1, 1, "has() takes one field"),
    ("has(event.data['a'])", 1, 1, "has() takes one field"),
    ("[1].all(x)", 1, 1, "list.all(x, x > 1)"),
    ("[1].all(1, true)", 1, 9, "a new variable name"),
    ("[1].all(event.data, true)", 1, 9, "a new variable name"),
    ("[1].all(event, true)", 1, 9, "event is taken"),
    ("[1].all(for, true)", 1, 9, "for is taken"),
    ("[1].all(x, [1].all(x, true))", 1, 20, "x is taken"),
    ("[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))", 1, 34, "macros nest deeper"),
    ("event.data.a.matches('(')", 1, 1, "missing )"),
    ("event.data.a.matches(1)", 1, 1, "it is int, not text"),
    ("event.data.a.matches('" + "a" * 2000 + "')", 1, 1, "longer than 1024"),
    ("(" * 70 + "1" + ")" * 70, 1, 65, "brackets nest deeper"),
    ("!" * 100 + "true", 1, MAX_DEPTH + 2, "nested deeper"),
    ("1" + " + 1" * 100, 1, 1, "nested deeper"),
    ("x" * (MAX_LENGTH + 1), 1, 1, f"at most {MAX_LENGTH}"),
]


def refusal(text: Any) -> ExpressionError | None:
    try:
        compile_expression(text)
    except ExpressionError as error:
        return error
    return None


@pytest.mark.parametrize(("text", "line", "column", "message"), REFUSED)
def test_refused_with_position_and_advice(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    error = caught.value
    assert message in error.message
    assert (error.line, error.column) == (line, column)
    assert str(error) == f"line {line}, column {column}: {error.message}"


@pytest.mark.parametrize("value", [None, 1, ["event"], {"if": "true"}])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(ExpressionError, match="an expression is text"):
        compile_expression(value)


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ExpressionError("wrong", 2, 3)))
    assert (error.message, error.line, error.column) == ("wrong", 2, 3)


def test_a_long_chain_of_conditions_is_not_deep() -> None:
    expression = compile_expression(" || ".join(f"event.data.n == {number}" for number in range(150)))
    assert expression.matches({"event": {"data": {"n": 149}}})
    assert not expression.matches({"event": {"data": {"n": 150}}})


@pytest.mark.parametrize("opening", ["'", '"', "'''", '"""', "r'", "r'''"])
@pytest.mark.parametrize("filler", ["\\\\", "\\x41", "\\", "a", "''", '""', "\n", "\\u0041"])
def test_hostile_text_is_read_in_linear_time(opening: str, filler: str) -> None:
    """cel-python's own patterns would try every way to split the escapes of an unclosed text."""
    text = opening + filler * (4000 // len(filler))
    started = time.process_time()
    refused = refusal(text)
    assert time.process_time() - started < 5
    # Pairs of quotes may close it.
    assert refused is not None or filler in ("''", '""')


@pytest.mark.parametrize(
    "text", ["{" * 60, "[" * 60, "-" * 4000 + "1", "1?" * 2000, "a." * 2000, "1." * 2000]
)
def test_hostile_nesting_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(text)


def test_compiled_expressions_are_remembered() -> None:
    assert compile_expression("event.data.seen") is compile_expression("event.data.seen")


def test_threads_may_compile_and_evaluate_at_once() -> None:
    def work(number: int) -> bool:
        expression = compile_expression(f"event.data.n == {number} && [1, 2].exists(x, x == event.data.n)")
        return expression.matches({"event": {"data": {"n": number}}})

    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(work, range(200)))
    assert verdicts == [number in (1, 2) for number in range(200)]


def test_only_the_grammar_of_cel_python_is_loaded() -> None:
    """Its evaluator brings date and YAML libraries, and its parser is one global object."""
    code = (
        "import sys; from innkeeper_engine.cel import compile_expression; "
        "assert compile_expression('1 + 1 == 2').matches({}); "
        "print([name for name in ('celpy', 'pendulum', 'yaml', 're2') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "[]"


FRAGMENTS = st.sampled_from(
    [
        "event",
        "async",
        "data",
        ".",
        ".id",
        "==",
        "!=",
        "<",
        "&&",
        "||",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "?",
        ":",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        "1",
        "1.5",
        "'a'",
        '"b"',
        "true",
        "null",
        "in",
        "has(",
        "size(",
        ".all(x,",
        ".map(x,",
        "x",
        "\\",
        "'",
        '"',
        "'''",
        "r'",
        "0x",
        "1u",
        "@",
        "#",
        "\n",
        "//",
        "é",
        "\x00",
        ".matches('(')",
        "if",
        "for",
        "�",
        "99999999999999999999",
        ".5",
        "1e5",
        "1e999",
    ]
)


@given(
    st.lists(FRAGMENTS, max_size=14).map(" ".join) | st.lists(FRAGMENTS, max_size=14).map("".join) | st.text()
)
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    """Nothing but the two documented errors comes out, whatever goes in."""
    refused = refusal(text)
    if refused is not None:
        assert refused.line >= 1
        assert refused.column >= 1
        return
    expression = compile_expression(text)
    env = {"event": {"data": {"id": 1}}, "async": {"data": {}}}
    try:
        matched = expression.evaluate(env) is True
    except EvaluationError:
        matched = False
    assert expression.matches(env) is matched
