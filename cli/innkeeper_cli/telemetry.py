"""Whether a role tells of traces, and where to."""

from collections.abc import Callable, Mapping
from typing import Protocol

from innkeeper_cli.settings import Traces
from innkeeper_engine.tracing import Span, Tracer

_BASES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Export(Protocol):
    """Where spans go."""

    def take(self, span: Span) -> None:
        """As a `Sink`."""
        ...

    async def close(self) -> None:
        """Send what waits, for a short while, and end."""
        ...


class Telemetry:
    """The tracer of a process, and its end."""

    def __init__(self, export: Export | None = None, ratio: float = 1.0) -> None:
        """`export`: None where nobody wants spans."""
        self._export = export
        self.tracer = None if export is None else Tracer(export.take, ratio=ratio)
        """None where nothing is told."""

    async def close(self) -> None:
        """Send what waits, for a short while."""
        if self._export is not None:
            await self._export.close()


def telemetry_of(
    role: Traces, service: str, environ: Mapping[str, str], on_dropped: Callable[[int], None] | None = None
) -> Telemetry:
    """What a role tells of, by its settings and by OpenTelemetry's own variables.

    `OTEL_SDK_DISABLED=true` and `OTEL_TRACES_EXPORTER=none` turn it off, as everywhere. `service`: what the process is
    called, unless it is told. `on_dropped`: from another thread, how many spans were dropped since it was told last.
    """
    named = role.otlp_endpoint or any(environ.get(name) for name in _BASES)
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not named or off or environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return Telemetry()
    # A quarter of a second and many modules, for those who want it.
    from innkeeper_cli.otlp import open_export  # noqa: PLC0415

    return Telemetry(open_export(role.otlp_endpoint, service, environ, on_dropped), role.trace_ratio)
