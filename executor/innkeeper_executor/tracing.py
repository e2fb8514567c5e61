"""What an executor tells of runs in traces. Of a run whose trace is not sampled it costs the look at that."""

from collections.abc import Sequence

from innkeeper_engine.model.calls import Answer
from innkeeper_engine.model.effects import Effect, Retry, Save, Start
from innkeeper_engine.model.state import FETCH, Lease, RunSummary
from innkeeper_engine.spans import About, about_lease, call_spans, fetch_span, run_span
from innkeeper_engine.tracing import Tracer, derived_span_id, is_sampled, parent_id, under


class RunTraces:
    """Spans of runs, of their requests and of the steps that those brought."""

    def __init__(self, tracer: Tracer | None) -> None:
        """`tracer`: None where nothing is told."""
        self._tracer = tracer

    def begin(self, lease: Lease) -> int:
        """When work on the item began, in ns since the epoch; 0 where nothing is told of it."""
        if self._tracer is None or not is_sampled(lease.trace):
            return 0
        return self._tracer.now_ns()

    def worked(self, lease: Lease, outcome: Answer | list[Effect], began_ns: int) -> None:
        """Tell what came of an item that was asked for. `began_ns`: what `begin` gave."""
        if self._tracer is None or not began_ns:
            return
        now_ns = self._tracer.now_ns()
        if isinstance(outcome, Answer):
            for span in call_spans(lease, outcome, began_ns, now_ns):
                self._tracer.emit(span)
        elif lease.kind == FETCH and not lease.rekey:
            self._tracer.emit(fetch_span(lease, began_ns, now_ns, failed=any(map(_is_failure, outcome))))

    def ended(self, lease: Lease, status: str, ended_ms: int) -> None:
        """Tell of a run that one of its own requests has ended."""
        if self._tracer is not None and is_sampled(lease.trace):
            self._tracer.emit(run_span(about_lease(lease), status, lease.queued_ms, ended_ms))

    def ended_otherwise(self, run: RunSummary) -> None:
        """Tell of a run that something else ended: an event, a person, a timeout."""
        if self._tracer is not None and is_sampled(run.trace) and run.ended_ms is not None:
            about = About(run.trace, run.id, run.env, run.slug)
            self._tracer.emit(run_span(about, run.status, run.queued_ms, run.ended_ms))

    def rooted(self, effects: Sequence[Effect]) -> Sequence[Effect]:
        """The same effects; a run that begins by itself, as that of a cron, begins a trace where it is sampled."""
        tracer = self._tracer
        if tracer is None:
            return effects
        return [
            effect._replace(trace=tracer.root()) if isinstance(effect, Start) else effect
            for effect in effects
        ]


def onward(lease: Lease) -> str:
    """The `traceparent` for the app: the span of this request, or where nobody records, what the sender sent."""
    if not lease.trace:
        return ""
    trace = under(lease.trace, derived_span_id(lease.token))
    return trace if parent_id(trace) else ""


def _is_failure(effect: Effect) -> bool:
    return isinstance(effect, Retry) or (isinstance(effect, Save) and effect.result.startswith(b'{"error":'))
