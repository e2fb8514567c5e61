"""Filters of lists: expressions over events and outputs, each line a term of its own."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from innkeeper_engine.cel import EvaluationError, Expression, ExpressionError, compile_expression
from innkeeper_engine.cel.compiler import Program
from innkeeper_engine.cel.values import MAX_STEPS, Meter
from innkeeper_engine.decide.events import event_object
from innkeeper_engine.model.decoding import decoded
from innkeeper_gateway.errors import ApiError

EVENT: Final = frozenset({"event"})
EVENT_AND_OUTPUT: Final = frozenset({"event", "output"})
MOST_LINES: Final = 50


MOST_STEPS_EACH: Final = 500_000
"""Steps that the terms may take together for one entry of a list; reading its payloads counts, too."""
_BYTES_PER_STEP: Final = 16
"""Payload that is parsed in the time of a step."""


class Filter:
    """Terms that must all be true."""

    def __init__(self, terms: Sequence[Expression]) -> None:
        self.terms = tuple(terms)
        self._programs = tuple(Program(term.node, metered=True) for term in terms)

    def event(self, body: bytes) -> tuple[bool, int]:
        """Whether an event is wanted, and how many steps it took to know."""
        return self._decide(len(body), lambda: {"event": event_object(body)})

    def run(self, event: bytes, output: bytes | None) -> tuple[bool, int]:
        """The same of a run, by its first event and its output or error; without one, `output` is null."""
        size = len(event) + len(output or b"")
        return self._decide(size, lambda: {"event": event_object(event), "output": _value(output)})

    def _decide(self, size: int, read: Callable[[], dict[str, Any]]) -> tuple[bool, int]:
        """A term that is not true, or that gives nothing for this data, is no match; neither are too many steps."""
        steps = 1 + size // _BYTES_PER_STEP
        variables = read()
        for program in self._programs:
            steps += program.size
            meter = Meter(min(MAX_STEPS, MOST_STEPS_EACH - steps))
            try:
                is_true = program.evaluate(variables, meter=meter) is True
            except EvaluationError:
                is_true = False
            steps += meter.most - max(meter.left, 0)
            if not is_true:
                return False, steps
        return True, steps


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
