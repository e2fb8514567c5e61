"""The gateway's part in traces: requests that bring events, and steps that SDKs report while they run.

A request belongs to the trace that its `traceparent` names, and is told of if that one is sampled; without one a trace
begins here, for as many as are sampled. What is not sampled is not stored either, unless the sender said so: then its
app shall hear the same.
"""

from collections.abc import Iterable, MutableMapping, Sequence
from contextvars import ContextVar, Token
from typing import Any, NamedTuple

import structlog

from innkeeper_engine.model.calls import Op
from innkeeper_engine.model.effects import Effect, Start
from innkeeper_engine.spans import About, is_step, step_span
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_engine.store.store import Store
from innkeeper_engine.tracing import (
    Span,
    Tracer,
    derived_span_id,
    is_sampled,
    parent_id,
    read_traceparent,
    trace_id,
    under,
)
from innkeeper_gateway.bodies import Header

_KNOWN_RUNS = 10_000
_LONGEST_NS = 2 * 3600 * 1_000_000_000
"""How old a step may be that a request reports: as long as requests last. Otherwise the app's clock is off."""

_log = structlog.get_logger(__name__)

_current: ContextVar[str] = ContextVar("innkeeper_trace", default="")


class Traced(NamedTuple):
    """A request that is under way."""

    trace: str
    """For what it brings about; empty where it is in none."""
    parent_id: str
    began_ns: int
    """0 where nothing is told of it."""
    token: Token[str]


def begin_trace(tracer: Tracer, headers: Iterable[Header]) -> Traced:
    """Take up the trace that a request is in; `end_trace` must follow in the same task."""
    header = next((value for name, value in headers if name == b"traceparent"), None)
    # What cannot be read is no trace: the standard says to begin a new one.
    trace = (read_traceparent(header.decode("latin-1")) if header is not None else "") or tracer.root()
    if not is_sampled(trace):
        return Traced(trace, "", 0, _current.set(trace))
    own = under(trace, tracer.new_span_id())
    return Traced(own, parent_id(trace), tracer.now_ns(), _current.set(own))


def current_trace() -> str:
    """The trace of what the current request brings about; empty where it is in none."""
    return _current.get()


def in_current_trace(effects: Sequence[Effect]) -> list[Effect]:
    """The same effects; runs that they begin are in the trace of the current request."""
    trace = current_trace()
    return [effect._replace(trace=trace) if isinstance(effect, Start) else effect for effect in effects]


def end_trace(
    tracer: Tracer, traced: Traced, scope: MutableMapping[str, Any], route: str, status: int
) -> None:
    """Tell of a request, if it is in a trace that is sampled.

    `route`: the template of its path, empty where the ASGI scope knows. `status`: 0 where nobody was there to answer.
    """
    _current.reset(traced.token)
    if not traced.began_ns:
        return
    route = route or getattr(scope.get("route"), "path", "")
    method = scope["method"]
    about_route = {"http.route": route} if route else {}
    tracer.emit(
        Span(
            trace_id=trace_id(traced.trace),
            span_id=parent_id(traced.trace),
            parent_id=traced.parent_id,
            name=f"{method} {route}".rstrip(),
            kind="server",
            start_ns=traced.began_ns,
            end_ns=tracer.now_ns(),
            attributes={
                "http.request.method": method,
                "http.response.status_code": status,
                **about_route,
            },
            error=status >= 500,
        )
    )


class CheckpointTraces:
    """Tells of steps that were checkpointed. A run is asked for its trace once, where anything is told at all."""

    def __init__(self, tracer: Tracer | None, store: Store) -> None:
        self._tracer = tracer
        self._store = store
        self._known: dict[str, About | None] = {}

    async def took(self, run_id: str, request_id: str, steps: Iterable[Op]) -> None:
        """Tell of the steps of one checkpoint, which is stored; `request_id`: of the request that they are a part of."""
        if self._tracer is None:
            return
        try:
            about = await self._about(run_id)
        except (StoreError, StoreUnavailableError, TimeoutError) as error:
            # The steps are safe: their sender must not be told otherwise.
            _log.info("steps are missing in a trace", why=str(error) or "no answer")
            return
        if about is None:
            return
        now_ns = self._tracer.now_ns()
        for op in filter(is_step, steps):
            # All that is known of the request is that it goes on: the step says itself when it began.
            began_ns, took_ns = op.timing or (now_ns, 0)
            if not 0 <= now_ns - began_ns - took_ns <= _LONGEST_NS:
                began_ns, took_ns = now_ns, 0
            bounds_ns = (began_ns, began_ns + took_ns)
            self._tracer.emit(step_span(about, derived_span_id(request_id), op, bounds_ns))

    async def _about(self, run_id: str) -> About | None:
        if run_id not in self._known:
            if len(self._known) >= _KNOWN_RUNS:
                self._known.clear()
            run = await self._store.run(run_id)
            traced = run is not None and is_sampled(run.trace)
            self._known[run_id] = About(run.trace, run.id, run.env, run.slug) if run and traced else None
        return self._known[run_id]
