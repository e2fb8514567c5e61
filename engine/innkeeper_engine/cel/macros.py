"""Macros as closures: `exists`, `all`, `exists_one`, `filter` and `map` over the elements of a list or the keys of a map.

Each round costs the nodes of the body, charged to the frame's meter: a program with a macro always has one.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from innkeeper_engine.cel import values
from innkeeper_engine.cel.errors import EvaluationError
from innkeeper_engine.cel.frames import METER, Frame, Run


def _elements(source: Any) -> list[Any]:
    if type(source) is list:
        return source
    if type(source) is dict:
        return list(source)
    raise EvaluationError(f"a macro goes over a list or a map, not {values.kind(source)}")


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise EvaluationError(f"the macro's condition is {values.kind(value)}, not true or false")
    return value


def _quantifier(deciding: bool) -> Callable[[Run, str, list[Run], int], Run]:
    """`exists` (an `||` over the elements) and `all` (an `&&`), with their absorbing of errors."""

    def compile_macro(source: Run, var: str, body: list[Run], cost: int) -> Run:
        condition = body[0]

        def run(frame: Frame) -> bool:
            problem, inner = "", dict(frame)
            for element in _elements(source(frame)):
                frame[METER].charge(cost)
                try:
                    inner[var] = values.checked(element)
                    value = _truth(condition(inner))
                except EvaluationError as error:
                    problem = problem or str(error)
                    continue
                if value is deciding:
                    return deciding
            if problem:
                raise EvaluationError(problem)
            return not deciding

        return run

    return compile_macro


def _exists_one(source: Run, var: str, body: list[Run], cost: int) -> Run:
    condition = body[0]

    def run(frame: Frame) -> bool:
        inner, count = dict(frame), 0
        for element in _elements(source(frame)):
            frame[METER].charge(cost)
            inner[var] = values.checked(element)
            count += _truth(condition(inner))
        return count == 1

    return run


def _filter(source: Run, var: str, body: list[Run], cost: int) -> Run:
    return _transform(source, var, [body[0], lambda frame: frame[var]], cost)


def _transform(source: Run, var: str, body: list[Run], cost: int) -> Run:
    """`map`: its last part makes the element, one before it says which elements count."""
    keep = body[0] if len(body) == 2 else None
    make = body[-1]

    def run(frame: Frame) -> list[Any]:
        inner, result = dict(frame), []
        for element in _elements(source(frame)):
            frame[METER].charge(cost)
            inner[var] = values.checked(element)
            if keep is None or _truth(keep(inner)):
                result.append(make(inner))
        return result

    return run


MACROS: Final[Mapping[str, Callable[[Run, str, list[Run], int], Run]]] = {
    "exists": _quantifier(deciding=True),
    "all": _quantifier(deciding=False),
    "exists_one": _exists_one,
    "filter": _filter,
    "map": _transform,
}
"""By kind: (source, name of the variable, closures of the body, steps of one round) -> the closure of the macro."""
