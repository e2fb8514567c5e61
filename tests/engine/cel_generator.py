"""Generated expressions and JSON data for the properties of the expression language."""

import json
from typing import Any

from hypothesis import strategies as st

FIELDS = ("a", "b", "c", "user", "list")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.0, -0.0, 1.0, 2.5, -3.0, 1e300, (1 << 63) - 1, -(1 << 63), 2**53 + 1, float(2**53)])
    | st.sampled_from(["", "a", "b", "1", "é", "😀", 'a"\\\n', "true"])
)
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=6,
)
DATA = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5)
EVENTS = st.fixed_dictionaries({"name": st.sampled_from(["x", "y"]), "data": DATA})


def _literal(value: Any) -> str:
    """JSON is CEL but for a sign, which does not bind to what follows in every dialect: `-1.size()`."""
    text = json.dumps(value, ensure_ascii=False)
    return f"({text})" if text.startswith("-") else text


def _paths(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    head = st.sampled_from([f"{name}.data" for name in names])
    step = st.sampled_from([*(f".{field}" for field in FIELDS), '["a"]', "[0]"])
    return st.builds(
        lambda start, steps: start + "".join(steps), head, st.lists(step, min_size=1, max_size=2)
    )


LITERALS = SCALARS.map(_literal) | st.sampled_from(["[1, 'a']", "{'a': 1}", "[]"])
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in")
ARITHMETIC = ("+", "-", "*", "/", "%")


def expressions(
    names: tuple[str, ...] = ("event", "async"), *, arithmetic: bool = True, max_leaves: int = 8
) -> st.SearchStrategy[str]:
    """Text of expressions that read `names`. Most are conditions, as most that people write."""
    leaves = _paths(names) | LITERALS
    comparison = st.builds("({} {} {})".format, leaves, st.sampled_from(COMPARISONS), leaves)
    operators = COMPARISONS + (ARITHMETIC if arithmetic else ())

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        several = st.lists(inner, min_size=2, max_size=3)
        macros = st.sampled_from(["all", "exists", "exists_one", "filter", "map"])
        in_macro = st.builds("x {} {}".format, st.sampled_from(COMPARISONS), inner) | inner
        return st.one_of(
            several.map(lambda terms: "(" + " && ".join(terms) + ")"),
            several.map(lambda terms: "(" + " || ".join(terms) + ")"),
            st.builds("({} {} {})".format, inner, st.sampled_from(operators), inner),
            st.builds("({} ? {} : {})".format, inner, inner, inner),
            inner.map("(!{})".format),
            *([inner.map("(-{})".format)] if arithmetic else []),
            st.builds("has({}.{})".format, _paths(names), st.sampled_from(FIELDS)),
            inner.map("size({})".format),
            st.builds("{}.contains({})".format, inner, inner),
            st.builds("{}.startsWith({})".format, inner, inner),
            st.lists(inner, max_size=2).map(lambda items: "[" + ", ".join(items) + "]"),
            st.builds("{{'a': {}}}".format, inner),
            st.builds("{}[{}]".format, inner, inner),
            st.builds("{}.{}(x, {})".format, _paths(names) | st.just("[1, 'a']"), macros, in_macro).map(
                # A macro inside a macro would need another name.
                lambda text: text if text.count("(x,") == 1 else "true"
            ),
        )

    return st.recursive(comparison | leaves, grow, max_leaves=max_leaves)


def arithmetic(kind: type[int] | type[float]) -> st.SearchStrategy[str]:
    """Text of arithmetic between constants of one type."""
    numbers: st.SearchStrategy[Any]
    if kind is int:
        numbers = st.integers(-10, 10) | st.sampled_from([(1 << 63) - 1, -(1 << 63), 1 << 62, -(1 << 32)])
    else:
        numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.5, 1e308])
    operators = ARITHMETIC if kind is int else ARITHMETIC[:-1]
    return st.recursive(
        numbers.map(_literal),
        lambda inner: (
            st.builds("({} {} {})".format, inner, st.sampled_from(operators), inner)
            | inner.map("(-{})".format)
        ),
        max_leaves=6,
    )
