"""Traces: what a `traceparent` may be, and what follows from it."""

import pytest

from innkeeper_engine.tracing import Tracer, in_run, is_sampled, parent_id, read_traceparent, trace_id, under

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
        (f" 00-{TRACE}-{SPAN}-00 ", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-03", f"00-{TRACE}-{SPAN}-01"),
        (f"00-{TRACE}-{SPAN}-02", f"00-{TRACE}-{SPAN}-00"),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", f"00-{TRACE}-{SPAN}-01"),
        (f"00-{TRACE}-{SPAN}-01-more", ""),
        (f"ff-{TRACE}-{SPAN}-01", ""),
        (f"00-{'0' * 32}-{SPAN}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-{SPAN}-01", ""),
        (f"00-{TRACE}-{SPAN}", ""),
        ("", ""),
        ("00-\n-x", ""),
    ],
)
def test_a_traceparent_is_read_as_the_standard_says(header: str, meant: str) -> None:
    """Examples of https://www.w3.org/TR/trace-context/, one form for all that is valid."""
    assert read_traceparent(header) == meant


def test_what_happens_under_a_span_is_in_the_same_trace() -> None:
    """Only the span changes; a trace that nobody records is passed on as it came."""
    sampled, unsampled = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
    onward = in_run(sampled, "01JQDAE4RQF8MBCR55T5AK4KXS")
    assert (trace_id(onward), is_sampled(onward)) == (TRACE, True)
    assert parent_id(onward) not in ("", SPAN)
    assert in_run(sampled, "01JQDAE4RQF8MBCR55T5AK4KXS") == onward
    assert under(unsampled, "1" * 16) == unsampled


def test_traces_that_begin_here_are_sampled_by_the_ratio() -> None:
    """What is not sampled is no trace at all: nothing is stored for it."""
    chances = iter([0.1, 0.25, 0.9])
    tracer = Tracer(lambda _: None, ratio=0.25, chance=lambda: next(chances), entropy=lambda n: "ab" * n)
    assert tracer.root() == f"00-{'ab' * 16}-{'0' * 16}-01"
    assert parent_id(f"00-{'ab' * 16}-{'0' * 16}-01") == ""
    assert [tracer.root(), tracer.root()] == ["", ""]
