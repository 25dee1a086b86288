"""Which contexts are gone on with, and what carries them."""

import dataclasses
from collections.abc import Iterator

import pytest

from fleetcast.bus import tracing
from fleetcast.bus.otel import OtelTracer
from fleetcast.config.settings import TracingSettings
from fleetcast.events.envelope import Event, new_event, parse
from fleetcast.events.errors import EventInvalid
from fleetcast.events.jsondoc import MAX_EVENT_BYTES
from fleetcast.events.payloads import ModelPromoted

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"
BAD = [
    "",
    "00-ab-cd-01",
    f"00-{TRACE}-{SPAN}",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE}-{SPAN}-01\n",
    "0" * 4096,
]


def event(traceparent: str | None = None) -> Event:
    made = new_event(ModelPromoted(model="m", version="1", path="/srv/m.bin", node="n"), source="/tests")
    if traceparent is not None:
        made.extensions["traceparent"] = traceparent
    return made


@pytest.fixture
def tracer() -> Iterator[None]:
    """This process traces, for a collector that is away."""
    settings = TracingSettings(endpoint="http://127.0.0.1:9", timeout_seconds=0.1)
    with tracing.exporting(settings, daemon="tests", node="n"):
        yield


def trace_of(context: str) -> str:
    return context.split("-")[1]


@pytest.mark.parametrize("context", BAD)
def test_a_bad_traceparent_is_passed_over(tracer: None, context: str) -> None:
    with tracing.span_of(event(context), doing="handle", node="n"):
        begun = tracing.headers()

    assert begun is not None
    assert tracing.is_traceparent(begun["traceparent"])
    assert trace_of(begun["traceparent"]) != TRACE
    with tracing.continued({"traceparent": context}):
        assert tracing.headers() is None
    tracing.remember("cause", context)
    assert tracing.recall("cause") == ""


@pytest.mark.parametrize("context", [GOOD, f"00-{TRACE}-{SPAN}-00", f"cc-{TRACE}-{SPAN}-01"])
def test_a_good_traceparent_is_gone_on_with(tracer: None, context: str) -> None:
    with tracing.span_of(event(context), doing="handle", node="n"):
        followed = tracing.stamped(event())
    with tracing.continued({"traceparent": context}):
        asked = tracing.headers()

    assert asked is not None
    assert {trace_of(followed.extensions["traceparent"]), trace_of(asked["traceparent"])} == {TRACE}


def test_a_trace_that_is_not_kept_elsewhere_is_not_kept_here(tracer: None) -> None:
    with tracing.span("work", parent=f"00-{TRACE}-{SPAN}-00"):
        assert tracing.stamped(event()).extensions["traceparent"].endswith("-00")


def test_the_context_survives_the_envelope(tracer: None) -> None:
    with tracing.span("work"):
        sent = tracing.stamped(event())

    data, headers = sent.encode()
    assert parse(data, subject=sent.subject, headers=headers).extensions == sent.extensions != {}


def sized(size: int) -> Event:
    """An event of exactly so many bytes, without a trace."""
    said = ModelPromoted(model="m", version="1", path="/srv/m.bin", node="n", metadata={"note": ""})
    empty = new_event(said, source="/tests")
    room = size - len(empty.encode()[0])
    return dataclasses.replace(empty, payload=said.model_copy(update={"metadata": {"note": "x" * room}}))


def test_an_event_that_fits_without_a_trace_is_sent_without_one_and_a_larger_one_is_refused_as_ever(
    tracer: None,
) -> None:
    with tracing.span("work"):
        largest, small = tracing.stamped(sized(MAX_EVENT_BYTES)), tracing.stamped(sized(MAX_EVENT_BYTES - 200))
        too_large = tracing.stamped(sized(MAX_EVENT_BYTES + 1))

    assert "traceparent" in largest.extensions
    data, headers = largest.encode()
    assert (len(data), parse(data, subject=largest.subject, headers=headers).extensions) == (MAX_EVENT_BYTES, {})
    assert b'"traceparent"' in small.encode()[0]
    with pytest.raises(EventInvalid, match=f"it has {MAX_EVENT_BYTES + 1} bytes"):
        too_large.encode()


def test_what_follows_later_in_another_task_belongs_to_the_trace_of_its_cause(tracer: None) -> None:
    cause = event()
    with tracing.span_of(cause, doing="handle", node="n"):
        tracing.remember(cause.id)
        inside = tracing.headers()

    payload = ModelPromoted(model="m", version="2", path="/srv/m.bin", node="n")
    assert tracing.stamped(new_event(payload, source="/tests", cause=cause)).extensions == inside


def test_the_memory_of_causes_is_bounded(tracer: None) -> None:
    for number in range(tracing.REMEMBERED + 1):
        tracing.remember(str(number), GOOD)

    assert tracing.recall("0") == ""
    assert tracing.recall("1") == GOOD


def test_an_event_is_as_it_was_where_nothing_is_traced() -> None:
    plain, carrying = event(), event(GOOD)

    with tracing.span("work"), tracing.continued({"traceparent": GOOD}):
        assert tracing.stamped(plain) is plain
        assert tracing.stamped(carrying, anew=True) is carrying
        assert tracing.headers() is None


def test_a_sample_ratio_of_zero_keeps_nothing_and_says_so_to_others() -> None:
    tracer = OtelTracer(TracingSettings(endpoint="http://127.0.0.1:9", sample_ratio=0), daemon="d", node="n")
    with tracer.span("work", "internal", "", {}):
        assert not int(tracer.current()[-2:], 16) & 1
    tracer.close()


def test_the_extra_is_asked_for_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "NEEDED", ("opentelemetry.no_such_part",))

    assert tracing.problem(TracingSettings()) is None
    lacking = tracing.problem(TracingSettings(endpoint="http://127.0.0.1:4318"))
    assert lacking is not None
    assert "fleetcast[otel]" in lacking.next_step
