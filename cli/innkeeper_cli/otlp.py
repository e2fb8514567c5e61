"""Spans on their way to an OpenTelemetry collector (OTLP over HTTP), from a thread of its own.

Whoever tells of a span only puts it into a bounded queue. What the collector is too slow for, or away, is dropped and
counted. The exporter is OpenTelemetry's own: its variables hold here, `OTEL_EXPORTER_OTLP_HEADERS`,
`OTEL_EXPORTER_OTLP_CERTIFICATE` and the like (https://opentelemetry.io/docs/specs/otel/protocol/exporter/), and
`OTEL_RESOURCE_ATTRIBUTES` say what the spans are of.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from innkeeper_cli.version import VERSION
from innkeeper_engine.tracing import Span

MOST_WAITING = 8_192
"""Spans that wait for the exporter at most, some 10 MB."""
MOST_AT_ONCE = 512
LINGER_S = 1.0
"""How long the first span of a request to the collector waits for others."""
CLOSE_S = 3.0
"""How long the end of a process may take for what still waits."""

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_SCOPE = InstrumentationScope("innkeeper", VERSION)
_FAILED, _UNSET = Status(StatusCode.ERROR), Status(StatusCode.UNSET)

_log = structlog.stdlib.get_logger(__name__)


class SpanExport:
    """The queue of spans and the thread that sends them. `take` is a `Sink`."""

    def __init__(
        self,
        exporter: SpanExporter,
        resource: Resource,
        on_dropped: Callable[[int], None] | None = None,
        *,
        most_waiting: int = MOST_WAITING,
        linger_s: float = LINGER_S,
    ) -> None:
        """`on_dropped` is told, from the thread, how many spans were dropped since it was told last."""
        self._exporter = exporter
        self._resource = resource
        self._on_dropped = on_dropped
        self._most_waiting = most_waiting
        self._linger_s = linger_s
        self._waiting: deque[Span] = deque()
        self._some = threading.Event()
        self._ending = threading.Event()
        self._overflown = 0
        self._told = 0
        self._lost = 0
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Spans that were not exported and never will be."""
        return self._overflown + self._lost

    def take(self, span: Span) -> None:
        """Queue one span; dropped where too many wait. From one thread only, the event loop's."""
        if len(self._waiting) >= self._most_waiting or self._ending.is_set():
            self._overflown += 1
        else:
            self._waiting.append(span)
        if not self._some.is_set():
            self._some.set()

    async def close(self) -> None:
        """Send what waits, for a short while, and end."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._ending.set()
        self._some.set()
        self._thread.join(CLOSE_S)
        # Ends the wait between two tries of a request.
        self._exporter.shutdown()
        self._thread.join(CLOSE_S)
        if self.dropped:
            _log.warning("spans were dropped: the collector was too slow, or away", count=self.dropped)

    def _run(self) -> None:
        while not (self._ending.is_set() and not self._waiting):
            self._some.wait()
            self._ending.wait(self._linger_s)
            self._some.clear()
            while self._waiting:
                count = min(MOST_AT_ONCE, len(self._waiting))
                self._send([self._waiting.popleft() for _ in range(count)])
            self._tell_dropped()

    def _send(self, spans: Sequence[Span]) -> None:
        try:
            sent = self._exporter.export([_readable(span, self._resource) for span in spans])
        except Exception:
            # A thread that ends would keep all further spans waiting.
            _log.exception("spans could not be exported")
            sent = SpanExportResult.FAILURE
        failing = sent is not SpanExportResult.SUCCESS
        if failing:
            self._lost += len(spans)
        if failing is not self._failing:
            self._failing = failing
            if failing:
                _log.warning("the collector does not take spans; they are dropped", count=len(spans))
            else:
                _log.info("the collector takes spans again")

    def _tell_dropped(self) -> None:
        dropped = self.dropped
        if self._on_dropped is not None and dropped > self._told:
            self._on_dropped(dropped - self._told)
        self._told = dropped


def open_export(
    base_url: str, service: str, environ: Mapping[str, str], on_dropped: Callable[[int], None] | None
) -> SpanExport:
    """An exporter to `base_url`, or where OpenTelemetry's own variables say if that is empty."""
    # What it has to say is said once, here.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    exporter = OTLPSpanExporter(endpoint=f"{base_url.rstrip('/')}/v1/traces" if base_url else None)
    attributes: dict[str, str] = {"service.version": VERSION}
    if "service.name" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        attributes["service.name"] = environ.get("OTEL_SERVICE_NAME") or service
    if host := environ.get("HOSTNAME"):
        attributes["service.instance.id"] = host
    return SpanExport(exporter, Resource.create(attributes), on_dropped)


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    trace_id = int(span.trace_id, 16)
    parent = _context(trace_id, span.parent_id) if span.parent_id else None
    return ReadableSpan(
        name=span.name,
        context=_context(trace_id, span.span_id),
        parent=parent,
        resource=resource,
        attributes=span.attributes,
        kind=_KINDS[span.kind],
        status=_FAILED if span.error else _UNSET,
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=_SCOPE,
    )


def _context(trace_id: int, span_id: str) -> SpanContext:
    return SpanContext(
        trace_id, int(span_id, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
