"""The settings of [tracing]: where spans go, and how many traces are kept."""

from pydantic import Field

from fleetcast.config.group import Group


class TracingSettings(Group):
    """Traces by OpenTelemetry, which the extra `fleetcast[otel]` brings. What is not here (headers, certificates, batch
    sizes, resource attributes) is read by its library from the usual OTEL_* variables."""

    endpoint: str = Field(
        default="",
        pattern=r"^(https?://[^\s/]+(/\S*)?)?$",
        examples=["http://127.0.0.1:4318"],
        description="Address of an OpenTelemetry collector that takes OTLP over HTTP, without /v1/traces. Empty: no "
        "traces, and nothing of OpenTelemetry is loaded.",
    )
    sample_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the traces begun here that are kept; a trace that came from elsewhere is kept if it was "
        "there. All: a fleet handles few events, and each may matter.",
    )
    timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        le=60,
        description="Seconds that one export may take, tries included, before its spans are dropped; 10, as is usual "
        "with OTLP. Nothing but the exporter's own thread waits for it.",
    )
