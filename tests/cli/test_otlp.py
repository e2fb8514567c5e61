"""Spans on their way to a real OTLP receiver, a slow one, and none."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from innkeeper_cli.otlp import SpanExport
from innkeeper_cli.settings import DevRole, SettingsError, load
from innkeeper_cli.telemetry import telemetry_of
from innkeeper_engine.tracing import Span

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def span(name: str = "run f", *, error: bool = False) -> Span:
    """A span of a run."""
    return Span(
        trace_id=TRACE,
        span_id="00f067aa0ba902b7",
        parent_id="53995c3f42cd8ad8",
        name=name,
        kind="client",
        start_ns=1_000,
        end_ns=2_000,
        attributes={"innkeeper.run": "R", "innkeeper.attempt": 1},
        error=error,
    )


class Collector:
    """An HTTP server that takes OTLP."""

    def __init__(self) -> None:
        collector = self
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                collector.headers.append({k.lower(): v for k, v in self.headers.items()})
                collector.paths.append(self.path)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on this machine."""
    made = Collector()
    yield made
    made.close()


@pytest.mark.parametrize("by", ["setting", "variable"])
async def test_spans_reach_a_collector(
    by: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By this server's setting or by OpenTelemetry's own, whose other variables hold as well."""
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "x-token=abc", "HOSTNAME": "pod-1"}
    if by == "variable":
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    role = load(DevRole, otlp_endpoint=collector.url if by == "setting" else None)
    telemetry = telemetry_of(role, "innkeeper-test", environ)
    assert telemetry.tracer is not None
    telemetry.tracer.emit(span())
    telemetry.tracer.emit(span("call f", error=True))
    await telemetry.close()
    (request,) = collector.requests
    assert collector.paths == ["/v1/traces"]
    assert collector.headers[0]["x-token"] == "abc"
    (resource,) = request.resource_spans
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (about["service.name"], about["service.instance.id"]) == ("innkeeper-test", "pod-1")
    run, call = resource.scope_spans[0].spans
    assert (run.name, run.trace_id.hex(), run.span_id.hex()) == ("run f", TRACE, "00f067aa0ba902b7")
    assert (run.parent_span_id.hex(), run.start_time_unix_nano, run.end_time_unix_nano) == (
        "53995c3f42cd8ad8",
        1_000,
        2_000,
    )
    assert {a.key: a.value.string_value or a.value.int_value for a in run.attributes} == {
        "innkeeper.run": "R",
        "innkeeper.attempt": 1,
    }
    assert (run.kind, run.status.code, call.status.code) == (3, 0, 2)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
async def test_nothing_is_told_unless_somebody_wants_it(environ: dict[str, str]) -> None:
    """And not where it is turned off the usual way."""
    telemetry = telemetry_of(load(DevRole), "innkeeper-test", environ)
    assert telemetry.tracer is None
    await telemetry.close()


@pytest.mark.parametrize(
    "url",
    [
        "collector:4318",
        "grpc://collector:4317",
        "http://user:secret@collector",
        "http://",
        "http://collector:4318/v1/traces",
        "http://collector:4318/v1/traces/",
    ],
)
def test_an_endpoint_that_is_none_is_refused(url: str) -> None:
    """With what would be right."""
    with pytest.raises(SettingsError, match=r"INNKEEPER_OTLP_ENDPOINT.*http://collector:4318") as refused:
        load(DevRole, otlp_endpoint=url)
    assert "secret" not in str(refused.value)


class Slow(SpanExporter):
    """An exporter that waits until the test lets it go on, or until it is ended."""

    def __init__(self, outcome: Callable[[], SpanExportResult]) -> None:
        self.began, self.may = threading.Event(), threading.Event()
        self.sizes: list[int] = []
        self._outcome = outcome

    def export(self, spans: object) -> SpanExportResult:
        """One request."""
        assert isinstance(spans, list)
        assert all(isinstance(each, ReadableSpan) for each in spans)
        self.sizes.append(len(spans))
        self.began.set()
        self.may.wait(10)
        return self._outcome()

    def shutdown(self) -> None:
        """Ends a wait."""
        self.may.set()


async def test_a_slow_collector_costs_spans_and_not_time() -> None:
    """The queue is bounded; what does not fit is dropped at once and counted."""
    exporter = Slow(lambda: SpanExportResult.SUCCESS)
    dropped: list[int] = []
    export = SpanExport(exporter, Resource({}), dropped.append, most_waiting=10, linger_s=0.0)
    export.take(span())
    exporter.began.wait(5)
    taken = sum(exporter.sizes)
    for _ in range(25):
        export.take(span())
    assert taken == 1
    assert export.dropped == 15
    exporter.may.set()
    await export.close()
    assert (sum(exporter.sizes), sum(dropped), export.dropped) == (11, 15, 15)


def _broken() -> SpanExportResult:
    raise RuntimeError("a fault of the exporter's own")


@pytest.mark.parametrize("outcome", [lambda: SpanExportResult.FAILURE, _broken])
async def test_what_the_collector_does_not_take_is_counted(outcome: Callable[[], SpanExportResult]) -> None:
    """An exporter that raises does not end the thread."""
    exporter = Slow(outcome)
    exporter.may.set()
    dropped: list[int] = []
    export = SpanExport(exporter, Resource({}), dropped.append, linger_s=0.0)
    export.take(span())
    exporter.began.wait(5)
    exporter.began.clear()
    export.take(span())
    exporter.began.wait(5)
    await export.close()
    assert (sum(dropped), export.dropped) == (2, 2)
