"""Filters of lists: expressions over events and outputs, each line a term of its own."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from innkeeper_engine.cel import Expression, ExpressionError, compile_expression
from innkeeper_engine.decide.events import event_object
from innkeeper_engine.model.decoding import decoded
from innkeeper_gateway.errors import ApiError

EVENT: Final = frozenset({"event"})
EVENT_AND_OUTPUT: Final = frozenset({"event", "output"})
MOST_LINES: Final = 50


class Filter:
    """Terms that must all be true."""

    def __init__(self, terms: Sequence[Expression]) -> None:
        self.terms = tuple(terms)

    def matches(self, variables: Mapping[str, Any]) -> bool:
        """Whether every term is true: one that is not, or that gives nothing for this data, is no match."""
        return all(term.matches(variables) for term in self.terms)

    def picks_event(self, body: bytes) -> bool:
        """Whether an event is wanted."""
        return self.matches({"event": event_object(body)})

    def picks_run(self, event: bytes, output: bytes | None) -> bool:
        """Whether a run is wanted, by its first event and its output or error; without one, `output` is null."""
        return self.matches({"event": event_object(event), "output": _value(output)})


def read_filter(text: str, variables: frozenset[str]) -> Filter | None:
    """The filter of a query's `cel`; None where it says nothing.

    Lines combine like terms joined by `&&`, where each of them is an expression by itself. Others are parts of one
    expression, which may go over several lines.

    Raises:
        ApiError: 400, it is no expression, or never true or false.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    if len(lines) > MOST_LINES:
        raise ApiError(400, f"query.cel: it has {len(lines)} lines; {MOST_LINES} are the most")
    try:
        terms = [compile_expression(line, variables=variables) for line in lines]
    except ExpressionError as error:
        terms = [_whole(text, variables, error if len(lines) > 1 else None)]
    for term in terms:
        if term.yields_boolean() is False:
            raise ApiError(
                400,
                f"query.cel: {term.text[:200]} gives neither true nor false: compare it with something, for example "
                "event.data.plan == 'pro'",
            )
    return Filter(terms)


def _whole(text: str, variables: frozenset[str], of_a_line: ExpressionError | None) -> Expression:
    try:
        return compile_expression(text, variables=variables)
    except ExpressionError as error:
        also = f"; line by line: {of_a_line}" if of_a_line is not None else ""
        raise ApiError(400, f"query.cel: no valid expression: {error}{also}") from None


def _value(output: bytes | None) -> Any:
    try:
        return None if output is None else decoded(output)
    except ValueError:
        return None
