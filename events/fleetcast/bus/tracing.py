"""Traces: spans around what this process does, and their context in events and requests, so that one trace goes from a
promotion to its installation on every node.

The context is a `traceparent` (W3C Trace Context): an attribute of events (CloudEvents, distributed tracing extension)
and a header of requests. Nothing of this does anything until `exporting` is given an endpoint; only then
`fleetcast.bus.otel` is imported, and OpenTelemetry with it.
"""

import dataclasses
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Final, Literal, Protocol

from fleetcast.config.errors import ConfigError, Mistake
from fleetcast.config.tracing import TracingSettings
from fleetcast.events.envelope import Event

TRACEPARENT: Final = "traceparent"
INSTALL: Final = "pip install 'fleetcast[otel]', or leave tracing.endpoint empty"
NEEDED: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
REMEMBERED: Final = 4096
"""Events whose traces are known to what follows from them later, in other tasks; about 1 MiB."""

_FORM: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")

Kind = Literal["internal", "producer", "consumer"]


class Span(Protocol):
    """A piece of work under way."""

    def note(self, **attributes: object) -> None:
        """Add attributes (`fleetcast.<name>`); those that are None are left out."""

    def failed(self, reason: str) -> None:
        """The work did not succeed, for *reason*."""


class Tracer(Protocol):
    """What makes spans."""

    def span(
        self, name: str, kind: Kind, parent: str, attributes: Mapping[str, object]
    ) -> AbstractContextManager[Span]:
        """A span as the current one; *parent*: a `traceparent`, empty for the current span."""

    def continued(self, parent: str) -> AbstractContextManager[None]:
        """What is begun inside belongs to the span *parent* of another process."""

    def current(self) -> str:
        """The `traceparent` of the current span; empty for none."""

    def close(self) -> None:
        """Send what is left, in bounded time."""


class _NoSpan:
    def note(self, **attributes: object) -> None:
        """Nothing is traced."""

    def failed(self, reason: str) -> None:
        """Nothing is traced."""


class _Tracing:
    """What this process traces with; None: it does not."""

    def __init__(self) -> None:
        self.tracer: Tracer | None = None
        self.parents: OrderedDict[str, str] = OrderedDict()


_NO_SPAN: Final = _NoSpan()
_STATE: Final = _Tracing()


def problem(settings: TracingSettings) -> ConfigError | None:
    """Why traces cannot be exported although *settings* want it: the extra is not installed."""
    if not settings.endpoint or all(_is_installed(name) for name in NEEDED):
        return None
    message = "tracing.endpoint is set, and OpenTelemetry is not installed"
    return ConfigError((Mistake("tracing.endpoint", message, INSTALL),))


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def exporting(settings: TracingSettings, *, daemon: str, node: str) -> Iterator[None]:
    """Export the spans of this process inside the block; at its end what is left is sent, for at most
    `otel.FLUSH_SECONDS`, which blocks: no event loop may run then.

    Raises:
        ConfigError: see `problem`.
    """
    if lacking := problem(settings):
        raise lacking
    if not settings.endpoint:
        yield
        return
    from fleetcast.bus.otel import OtelTracer

    _STATE.tracer = tracer = OtelTracer(settings, daemon=daemon, node=node)
    try:
        yield
    finally:
        _STATE.tracer = None
        _STATE.parents.clear()
        tracer.close()


@contextmanager
def span(name: str, *, kind: Kind = "internal", parent: str = "", **attributes: object) -> Iterator[Span]:
    """A span around the block, failed by whatever leaves it as an exception; *parent*: see `Tracer.span`."""
    tracer = _STATE.tracer
    if tracer is None:
        yield _NO_SPAN
        return
    with tracer.span(name, kind, parent if is_traceparent(parent) else "", attributes) as made:
        yield made


def span_of(event: Event, *, doing: Literal["publish", "handle"], node: str) -> AbstractContextManager[Span]:
    """A span about an event, which goes on with the trace that the event carries."""
    said = event.payload
    return span(
        f"{doing} {event.type.name}",
        kind="producer" if doing == "publish" else "consumer",
        parent=event.extensions.get(TRACEPARENT, ""),
        event=event.type.name,
        event_id=event.id,
        cid=event.correlationid,
        model=getattr(said, "model", None),
        version=getattr(said, "version", None),
        node=node,
    )


def is_traceparent(text: str) -> bool:
    """Whether *text* is a context that can be gone on with; all else is passed over, as the standard wants it."""
    return _FORM.match(text) is not None


def stamped(event: Event, *, anew: bool = False) -> Event:
    """*event* with the context of the current span, or of the one that its cause was handled in.

    An event that has one keeps it (it was stamped where it was made, and is sent from another task), unless *anew*.
    """
    if _STATE.tracer is None or (not anew and TRACEPARENT in event.extensions):
        return event
    context = _STATE.tracer.current() or recall(event.causationid or "")
    if not context:
        return event
    return dataclasses.replace(event, extensions={**event.extensions, TRACEPARENT: context})


def headers() -> dict[str, str] | None:
    """Headers for a request: the current context, where there is one."""
    context = _STATE.tracer.current() if _STATE.tracer else ""
    return {TRACEPARENT: context} if context else None


@contextmanager
def continued(received: Mapping[str, str]) -> Iterator[None]:
    """Go on with the context in the headers of a request."""
    parent = received.get(TRACEPARENT, "")
    if _STATE.tracer is None or not is_traceparent(parent):
        yield
        return
    with _STATE.tracer.continued(parent):
        yield


def remember(event_id: str, context: str = "") -> None:
    """What follows from the event *event_id* later belongs to *context*, or else to the current span."""
    if _STATE.tracer is None or not is_traceparent(context := context or _STATE.tracer.current()):
        return
    _STATE.parents[event_id] = context
    _STATE.parents.move_to_end(event_id)
    while len(_STATE.parents) > REMEMBERED:
        _STATE.parents.popitem(last=False)


def recall(event_id: str) -> str:
    """The context of what follows from an event; empty: not known here."""
    return _STATE.parents.get(event_id, "")
