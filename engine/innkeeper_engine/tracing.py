"""Where a run stands in a distributed trace, and the spans that are told of it.

A *trace* in this code base is a `traceparent` (https://www.w3.org/TR/trace-context/) in one form, `00-<trace id>-<span
id>-<01 or 00>`: the span under which something happens, and whether it is recorded. It comes with the sender's request
or begins here, lies with the event and with the run, and goes on to the app. The empty text is no trace, which is also
what an event has that nobody sampled: nothing is stored or asked for it. A trace that begins with a run has a span id
of zeros.

Ids of spans of runs and of requests are derived from what they are about. So whoever ends a run can tell of it, and
nothing has to be kept for that.
"""

import hashlib
import random
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import msgspec

SpanKind: TypeAlias = Literal["internal", "server", "client"]
Attribute: TypeAlias = str | int | bool

NO_SPAN = "0" * 16

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = "0" * 32


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Something that took its time. Names and attributes say what it was about, never what users sent or got."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    parent_id: str = ""
    """16 hex digits; empty for the first of a trace."""
    name: str
    kind: SpanKind = "internal"
    start_ns: int
    """Since the Unix epoch."""
    end_ns: int
    attributes: Mapping[str, Attribute]
    error: bool = False


Sink: TypeAlias = Callable[[Span], None]
"""Takes a span and returns at once, whatever becomes of it; it never raises."""


class Tracer:
    """What a process that tells of traces has: where spans go, and how many of those traces that begin here are kept."""

    def __init__(
        self,
        sink: Sink,
        *,
        ratio: float = 1.0,
        chance: Callable[[], float] = random.random,
        entropy: Callable[[int], str] = secrets.token_hex,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`ratio`: of traces that begin here, in [0, 1]; what a sender decided holds for its own.

        `entropy` gives so many bytes as hex digits.
        """
        self.emit = sink
        self.now_ns = now_ns
        self._ratio = ratio
        self._chance = chance
        self._entropy = entropy

    def root(self) -> str:
        """A new trace without a span yet; empty where this one is not sampled."""
        if self._chance() >= self._ratio:
            return ""
        return f"00-{self._entropy(16)}-{NO_SPAN}-01"

    def new_span_id(self) -> str:
        """16 random hex digits."""
        return self._entropy(8)


def read_traceparent(header: str) -> str:
    """The trace that a `traceparent` header names; empty for none that is valid, which the standard says to ignore."""
    match = _TRACEPARENT.fullmatch(header.strip())
    if match is None:
        return ""
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or trace_id == _NO_TRACE or span_id == NO_SPAN:
        return ""
    return f"00-{trace_id}-{span_id}-{'01' if int(flags, 16) & 1 else '00'}"


def is_sampled(trace: str) -> bool:
    """Whether spans of this trace are told."""
    return trace.endswith("1")


def trace_id(trace: str) -> str:
    """The 32 hex digits that a trace's spans have in common."""
    return trace[3:35]


def parent_id(trace: str) -> str:
    """The span under which things happen in this trace; empty where there is none yet."""
    span = trace[36:52]
    return "" if span == NO_SPAN else span


def under(trace: str, span_id: str) -> str:
    """The trace for what happens under one of its spans; one that is not sampled has none, and stays as it is."""
    return f"{trace[:36]}{span_id}{trace[52:]}" if is_sampled(trace) else trace


def derived_span_id(of: str) -> str:
    """The id of the span of a run (its id) or of a request (its token). The scripts derive the same."""
    return hashlib.sha1(of.encode(), usedforsecurity=False).hexdigest()[:16]


def in_run(trace: str, run: str) -> str:
    """The trace for what a run brings about."""
    return under(trace, derived_span_id(run))
