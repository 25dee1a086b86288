"""OpenTelemetry behind `fleetcast.bus.tracing`: the only module that imports it, and imported only to export."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

import structlog
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from fleetcast.bus.tracing import Kind
from fleetcast.config.tracing import TracingSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.bus")

FLUSH_SECONDS: Final = 2.0
"""How long the end of a process waits for the collector to take what is left."""
SILENCE_SECONDS: Final = 60.0
"""Between two lines about a collector that does not answer."""
PATH: Final = "/v1/traces"
KNOWN_FLAGS: Final = 0b11
"""Sampled, and a random trace id; the others have no meaning yet and are not passed on (W3C Trace Context 2)."""

_KINDS: Final[Mapping[Kind, trace.SpanKind]] = {
    "internal": trace.SpanKind.INTERNAL,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}


class OtelTracer:
    """Spans for a collector, sent in batches by a thread of their own. Nothing here waits but `close`."""

    def __init__(self, settings: TracingSettings, *, daemon: str, node: str) -> None:
        # It tells of every try, and we of the outcome.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = _Exporter(settings)
        about = {"service.name": f"fleetcast-{daemon}", "service.instance.id": node, "fleetcast.node": node}
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
            resource=Resource.create(dict(about)),
            # Its own hook would keep the process for up to 30 s.
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("fleetcast", version("fleetcast"))

    @contextmanager
    def span(self, name: str, kind: Kind, parent: str, attributes: Mapping[str, object]) -> Iterator["OtelSpan"]:
        """See `tracing.Tracer.span`."""
        with self._tracer.start_as_current_span(
            name,
            context=_remote(parent) if parent else None,
            kind=_KINDS[kind],
            # A recorded exception has its traceback, for which source files are read, on the loop.
            record_exception=False,
            set_status_on_exception=False,
        ) as made:
            span = OtelSpan(made)
            span.note(**attributes)
            try:
                yield span
            except asyncio.CancelledError:
                span.failed("cancelled")
                raise
            except Exception as error:
                span.failed(str(error) or type(error).__name__)
                raise

    @contextmanager
    def continued(self, parent: str) -> Iterator[None]:
        """See `tracing.Tracer.continued`."""
        token = contexts.attach(_remote(parent))
        try:
            yield
        finally:
            contexts.detach(token)

    def current(self) -> str:
        """See `tracing.Tracer.current`."""
        known = trace.get_current_span().get_span_context()
        if not known.is_valid:
            return ""
        return f"00-{known.trace_id:032x}-{known.span_id:016x}-{known.trace_flags:02x}"

    def close(self) -> None:
        """See `tracing.Tracer.close`: at most `FLUSH_SECONDS`, and no time for a collector that did not answer."""
        if self._exporter.is_away:
            self._exporter.shutdown()
        flushing = threading.Thread(target=self._provider.shutdown, name="traces-flush", daemon=True)
        flushing.start()
        flushing.join(FLUSH_SECONDS)


class OtelSpan:
    """One span."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def note(self, **attributes: object) -> None:
        """See `tracing.Span.note`."""
        for name, value in attributes.items():
            if value is not None:
                known = value if isinstance(value, str | bool | int | float) else str(value)
                self._span.set_attribute(f"fleetcast.{name}", known)

    def failed(self, reason: str) -> None:
        """See `tracing.Span.failed`."""
        self._span.set_status(trace.StatusCode.ERROR, reason)


class _Exporter(SpanExporter):
    """OTLP over HTTP; tells of a collector that is away once a minute.

    Attributes:
        is_away: the last export failed.
    """

    def __init__(self, settings: TracingSettings) -> None:
        self._endpoint = settings.endpoint.rstrip("/").removesuffix(PATH) + PATH
        self._otlp: SpanExporter = OTLPSpanExporter(endpoint=self._endpoint, timeout=settings.timeout_seconds)
        self._told: float | None = None
        self._lost = 0
        self._ended = False
        self.is_away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one batch; in the processor's thread."""
        result = SpanExportResult.FAILURE if self._ended else self._otlp.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.is_away = False
            return result
        self.is_away = True
        self._lost += len(spans)
        if self._told is None or time.monotonic() - self._told >= SILENCE_SECONDS:
            self._told = time.monotonic()
            log.warning("traces.dropped", endpoint=self._endpoint, spans=self._lost, reason="the collector took none")
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """Send nothing more; what waits to be tried again is given up."""
        if not self._ended:
            self._ended = True
            self._otlp.shutdown()


def _remote(traceparent: str) -> contexts.Context:
    """The context of a span in another process; *traceparent* is one (`tracing.is_traceparent`)."""
    _, trace_id, span_id, flags = traceparent.split("-")
    parent = trace.SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16) & KNOWN_FLAGS)
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(parent))
