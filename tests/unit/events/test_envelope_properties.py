"""Whatever is emitted reads back, through every shape; whatever arrives is an event or a refusal."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetcast.events.envelope import Event, EventInvalid, new_event, parse
from fleetcast.events.event import rfc3339
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.names import CATALOGUE, EventType

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,47}", fullmatch=True)
VERSIONS = st.from_regex(r"[A-Z0-9][A-Za-z0-9._+-]{0,63}", fullmatch=True)
SECONDS = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
JSON = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | SECONDS | TEXT | st.lists(TEXT), max_size=3
)
VARIED: dict[str, st.SearchStrategy[Any]] = {
    "model": NAMES,
    "lane": NAMES,
    "node": NAMES,
    "version": VERSIONS,
    "run_id": st.none() | TEXT,
    "epoch": st.none() | st.integers(0, 2**53),
    "metrics": st.none() | JSON,
    "metadata": st.none() | JSON,
    "seconds": SECONDS,
    "reason": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    "field": st.none() | TEXT,
    "next_step": TEXT,
    "transport": TEXT,
    "cause": TEXT,
    "labels": st.dictionaries(TEXT, TEXT, max_size=3),
    "bytes_by_source": st.dictionaries(NAMES, st.integers(0, 2**53), max_size=3),
    "samples_new": st.integers(0, 2**53),
}
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
VARIED_OF_RUNS: dict[str, st.SearchStrategy[Any]] = {
    "run_id": NAMES,
    "epoch": st.integers(0, 2**53),
    "since_epoch": st.integers(0, 2**53),
    "metrics": st.dictionaries(LINES, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    "seconds": st.none() | SECONDS,
    "reason": LINES,
    "signature": LINES,
    "device": st.none() | LINES,
    "config": st.none() | JSON,
}
TIMES = st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- hypothesis wants naive bounds


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event of the catalogue, with its fields varied."""
    entry = draw(st.sampled_from(CATALOGUE))
    data = dict(EXAMPLES[entry.name])
    varied = VARIED | (VARIED_OF_RUNS if entry.key_field == "run_id" else {})
    for name in sorted(varied.keys() & entry.payload.model_fields):
        if draw(st.booleans()):
            data[name] = draw(varied[name])
    payload = entry.payload.model_validate(data)
    return new_event(payload, source="/fleet/gpu-1/test", time=draw(TIMES))


def as_binary(event: Event) -> tuple[bytes, dict[str, str]]:
    """What a CloudEvents library sends in binary mode."""
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type.type,
        "time": rfc3339(event.time),
        "correlationid": event.correlationid,
        **event.extensions,
    }
    headers = {f"ce-{name}": quote(value, safe="/:+") for name, value in attributes.items()}
    return event.payload.model_dump_json().encode(), headers


@settings(deadline=None)
@given(events())
def test_structured_events_read_back(event: Event) -> None:
    body, headers = event.encode()
    assert parse(body, subject=event.subject, headers=headers) == event
    assert parse(body) == event


@settings(deadline=None)
@given(events())
def test_binary_events_read_back(event: Event) -> None:
    body, headers = as_binary(event)
    assert parse(body, subject=event.subject, headers=headers) == event


@settings(deadline=None)
@given(events())
def test_bare_payloads_read_back_without_their_envelope(event: Event) -> None:
    body = event.payload.model_dump_json(exclude_none=True).encode()
    read = parse(body, subject=event.subject, headers={"Nats-Msg-Id": event.id}, time=event.time)
    assert (read.id, read.type, read.key, read.time, read.payload) == (
        event.id,
        event.type,
        event.key,
        event.time,
        event.payload,
    )


def outcome(data: bytes, **arrival: Any) -> None:
    """An event, or a refusal that can be acted on and written down; nothing else."""
    fault = None
    try:
        assert isinstance(parse(data, **arrival), Event)
    except EventInvalid as refused:
        fault = refused
    if fault is not None:
        assert all((fault.reason, fault.next_step, fault.event_id))
        json.dumps([fault.reason, fault.field, fault.next_step], ensure_ascii=False).encode()


SUBJECTS = st.none() | st.text(max_size=30) | st.sampled_from([entry.subject("hex8_2p") for entry in CATALOGUE])
HEADERS = st.none() | st.dictionaries(
    st.text(max_size=8)
    | st.sampled_from(["Content-Type", "Nats-Msg-Id", "ce-id", "ce-type", "ce-source", "ce-specversion", "ce-time"]),
    st.text(max_size=20) | st.sampled_from(["application/cloudevents+json", "1.0", "model.promoted.v1"]),
    max_size=6,
)


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=100), subject=SUBJECTS, headers=HEADERS)
def test_arbitrary_bytes_are_an_event_or_a_refusal(
    data: bytes, subject: str | None, headers: dict[str, str] | None
) -> None:
    outcome(data, subject=subject, headers=headers, sequence=7)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, EventType]:
    """A structured event with one member of it, at any depth, replaced by something else."""
    entry = draw(st.sampled_from(CATALOGUE))
    event = new_event(entry.payload.model_validate(EXAMPLES[entry.name]), source="/fleet/gpu-1/test")
    document = json.loads(event.encode()[0])
    place = document
    while True:
        name = draw(st.sampled_from(sorted(place)))
        if isinstance(place[name], dict) and place[name] and draw(st.booleans()):
            place = place[name]
            continue
        place[name] = draw(ANYTHING)
        return json.dumps(document).encode(), entry


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
def test_damaged_event_is_an_event_or_a_refusal(case: tuple[bytes, EventType]) -> None:
    data, entry = case
    outcome(data, subject=entry.subject("hex8_2p"), headers={"Content-Type": "application/cloudevents+json"})
    outcome(data)
