"""Three shapes in, one event out."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from fleetcast.events.envelope import Event, EventInvalid, parse
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.ids import canonical_json
from fleetcast.events.names import find
from fleetcast.events.payloads import ModelPromoted
from fleetcast.events.state import SlotState

SUBJECT = "fc.ev.model.promoted.hex8_2p"
STORED = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
BODY = {"version": "43", "path": "/models/m.pt", "node": "gpu-1"}
DATA = {"model": "hex8_2p", **BODY}
STRUCTURED_HEADERS = {"Content-Type": "application/cloudevents+json"}
ATTRIBUTES = {"specversion": "1.0", "id": "ci-1", "source": "/ci/nightly", "type": "model.promoted.v1"}


def read(
    body: object = BODY, *, subject: str | None = SUBJECT, headers: dict[str, str] | None = None, **place: Any
) -> Event:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse(
        data, subject=subject, headers=headers, **{"stream": "FC_EVENTS", "sequence": 7, "time": STORED, **place}
    )


def structured(**changes: object) -> Event:
    document = {**ATTRIBUTES, "data": DATA, **changes}
    return read({name: value for name, value in document.items() if value is not ...}, headers=STRUCTURED_HEADERS)


def binary(body: object = DATA, **headers: str) -> Event:
    return read(body, headers={**{f"ce-{name}": value for name, value in ATTRIBUTES.items()}, **headers})


def refused(*arguments: Any, **keywords: Any) -> EventInvalid:
    with pytest.raises(EventInvalid) as caught:
        read(*arguments, **keywords)
    return caught.value


def refused_structured(**changes: object) -> EventInvalid:
    with pytest.raises(EventInvalid) as caught:
        structured(**changes)
    return caught.value


def refused_binary(body: object = DATA, **headers: str) -> EventInvalid:
    with pytest.raises(EventInvalid) as caught:
        binary(body, **headers)
    return caught.value


# Bare JSON, typed by hand


def test_hand_typed_body_needs_no_envelope() -> None:
    event = read()
    assert event == Event(
        id="FC_EVENTS:7",
        type=find("model.promoted"),
        key="hex8_2p",
        source="/manual/natscli",
        time=STORED,
        correlationid="FC_EVENTS:7",
        payload=ModelPromoted(model="hex8_2p", version="43", path="/models/m.pt", node="gpu-1"),
    )
    assert event.sequence == 7


def test_message_id_is_the_id_of_a_hand_typed_event() -> None:
    assert read(headers={"Nats-Msg-Id": "promote-43"}).id == "promote-43"


def test_integer_version_becomes_text() -> None:
    assert read({**BODY, "version": 43}).payload == read().payload


def test_older_spelling_of_the_subject_works_and_the_event_has_the_newer() -> None:
    assert read(subject="fc.ev.MODEL_PROMOTED.hex8_2p").subject == SUBJECT


def test_fact_of_a_registry_batch_is_read_where_it_was_written() -> None:
    assert read(subject="fc.reg.fact.model.promoted.hex8_2p").subject == SUBJECT


def test_key_in_the_body_may_repeat_the_subject() -> None:
    assert read(DATA).payload == read().payload


def test_key_in_the_body_that_contradicts_the_subject_is_refused() -> None:
    fault = refused({**BODY, "model": "go9"})
    assert fault.field == "model"
    assert "\"go9\" in the body, but 'hex8_2p' in the subject" in fault.reason


@pytest.mark.parametrize("model", [5, None, True, ["hex8_2p"], {"a": 1}])
def test_key_in_the_body_of_another_kind_is_refused(model: object) -> None:
    assert refused({**BODY, "model": model}).field == "model"


def test_typing_error_in_a_hand_typed_field_is_never_ignored() -> None:
    fault = refused({**BODY, "epochs": 3})
    assert fault.field == "epochs"
    assert "did you mean epoch?" in fault.reason


def test_misspelt_required_field_is_named_instead_of_the_one_that_seems_missing() -> None:
    fault = refused({"verison": "43", "path": "/models/m.pt", "node": "gpu-1"})
    assert fault.field == "verison"
    assert "did you mean version?" in fault.reason


def test_hand_typed_event_without_any_id_is_refused() -> None:
    assert refused(stream=None, sequence=None).field == "id"


@pytest.mark.parametrize("message_id", ["a b", "a\nb", "", "é", "x" * 201])
def test_absurd_message_id_is_refused(message_id: str) -> None:
    fault = refused(headers={"Nats-Msg-Id": message_id})
    assert fault.field == "Nats-Msg-Id"
    assert fault.event_id == "FC_EVENTS:7"


def test_body_without_envelope_and_without_subject_is_refused() -> None:
    assert "only the subject tells" in refused(subject=None).reason


def test_body_of_another_content_type_is_refused() -> None:
    assert refused(headers={"Content-Type": "application/msgpack"}).field == "datacontenttype"


def test_envelope_typed_without_its_version_is_a_typing_error_and_not_a_payload() -> None:
    assert refused({"id": "x", "type": "model.promoted.v1", "data": DATA}).field in {"id", "type", "data"}


# Structured


def test_structured_event_is_read() -> None:
    event = structured(
        time="2026-11-21T08:00:00+02:00", correlationid="nightly", causationid="cause", traceparent="00-ab-cd-01"
    )
    assert (event.id, event.source, event.time.isoformat()) == ("ci-1", "/ci/nightly", "2026-11-21T06:00:00+00:00")
    assert (event.correlationid, event.causationid) == ("nightly", "cause")
    assert event.extensions == {"traceparent": "00-ab-cd-01"}


def test_structured_event_is_known_by_its_body_when_the_header_is_missing() -> None:
    assert read({**ATTRIBUTES, "data": DATA}).id == "ci-1"


@pytest.mark.parametrize(
    "content_type", ["application/cloudevents+json; charset=utf-8", "Application/CloudEvents+JSON"]
)
def test_content_type_may_have_parameters_and_any_case(content_type: str) -> None:
    assert read({**ATTRIBUTES, "data": DATA}, headers={"content-type": content_type}).id == "ci-1"


@pytest.mark.parametrize("content_type", ["application/cloudevents-batch+json", "application/cloudevents+avro"])
def test_batches_and_other_formats_are_refused(content_type: str) -> None:
    assert refused({**ATTRIBUTES, "data": DATA}, headers={"Content-Type": content_type}).field == "Content-Type"


def test_time_of_the_stream_stands_in_for_a_missing_time() -> None:
    assert structured().time == STORED


def test_event_starts_its_own_correlation_when_it_has_none() -> None:
    assert structured().correlationid == "ci-1"


def test_unknown_extensions_are_kept_as_text() -> None:
    event = structured(severitynumber=9, sampled=True, dataschema="urn:x", nothing=None)
    assert event.extensions == {"severitynumber": "9", "sampled": "true", "dataschema": "urn:x"}


def test_extensions_survive_being_emitted_again() -> None:
    event = structured(traceparent="00-ab-cd-01")
    assert parse(event.encode()[0], subject=SUBJECT).extensions == event.extensions


def test_field_of_a_newer_emitter_is_ignored_so_that_a_half_upgraded_fleet_keeps_working() -> None:
    assert structured(data={**DATA, "added_in_v1_7": {"a": 1}}).payload == structured().payload


def test_nested_field_of_a_newer_emitter_is_ignored() -> None:
    started = {
        "node": "gpu-1",
        "daemon": "distributor",
        "version": "9.9",
        "endpoints": {"bt": None, "http": None, "quic": "gpu-1:99"},
    }
    event = read({**ATTRIBUTES, "type": "node.started.v1", "data": started}, subject="fc.ev.node.started.gpu-1")
    assert event.key == "gpu-1"


def test_data_may_come_in_base_64() -> None:
    encoded = base64.b64encode(json.dumps(DATA).encode()).decode()
    assert structured(data=..., data_base64=encoded).payload == structured().payload


@pytest.mark.parametrize("encoded", ["%%%", "e30", 5, "bm8="])
def test_data_that_is_no_base_64_or_no_json_is_refused(encoded: object) -> None:
    refused_structured(data=..., data_base64=encoded)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": 1.0}, "specversion"),
        ({"id": ...}, "id"),
        ({"id": ""}, "id"),
        ({"id": "a\nb"}, "id"),
        ({"id": 5}, "id"),
        ({"source": ...}, "source"),
        ({"source": "a b"}, "source"),
        ({"type": ...}, "type"),
        ({"type": "model.promotd.v1"}, "type"),
        ({"type": "model.promoted.v2"}, "type"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-11-21T09:30:00"}, "time"),
        ({"time": "2026-W47-6T09:30:00Z"}, "time"),
        ({"time": "2026-13-21T09:30:00Z"}, "time"),
        ({"time": "0001-01-01T00:00:00+23:00"}, "time"),
        ({"correlationid": "a b"}, "correlationid"),
        ({"causationid": ""}, "causationid"),
        ({"datacontenttype": "text/plain"}, "datacontenttype"),
        ({"data": ...}, "data"),
        ({"data": None}, "data"),
        ({"data": [DATA]}, "data"),
        ({"data": "text"}, "data"),
        ({"correlation_id": "x"}, "correlation_id"),
        ({"Extension": "x"}, "Extension"),
        ({"extension": "a\nb"}, "extension"),
        ({"extension": {"a": 1}}, "extension"),
        ({"extension": 1.5}, "extension"),
    ],
)
def test_broken_attribute_is_refused_by_name(changes: dict[str, object], field: str) -> None:
    assert refused_structured(**changes).field == field


def test_misspelt_attribute_is_refused_with_what_was_meant() -> None:
    assert "did you mean correlationid?" in refused_structured(correlation_id="x").reason


def test_fraction_of_a_second_beyond_microseconds_is_cut() -> None:
    assert structured(time="2026-11-21T09:30:00.123456789Z").time.microsecond == 123456


def test_envelope_of_another_type_than_its_subject_is_refused_for_permissions_are_by_subject() -> None:
    fault = refused_structured(type="slot.ordered.v1")
    assert fault.field == "type"
    assert "slot.ordered, but the subject is one of model.promoted" in fault.reason


def test_envelope_about_another_model_than_its_subject_is_refused_for_permissions_are_by_subject() -> None:
    fault = refused_structured(data={**DATA, "model": "go9"})
    assert fault.field == "model"


def test_artifact_of_another_model_than_its_subject_is_refused() -> None:
    document = {**ATTRIBUTES, "type": "artifact.available.v1", "data": EXAMPLES["artifact.available"]}
    assert read(document, subject="fc.ev.artifact.available.hex8_2p").key == "hex8_2p"
    fault = refused(document, subject="fc.ev.artifact.available.go9")
    assert fault.field == "envelope.statement.model"


def test_refused_envelope_is_known_by_its_own_id() -> None:
    assert refused_structured(data={"model": "hex8_2p"}).event_id == "ci-1"


# Binary


def test_binary_event_is_read() -> None:
    event = binary(**{"CE-Time": "2026-11-21T06:00:00Z", "ce-correlationid": "nightly", "ce-traceparent": "00-ab"})
    assert (event.id, event.source, event.correlationid) == ("ci-1", "/ci/nightly", "nightly")
    assert event.extensions == {"traceparent": "00-ab"}
    assert event.payload == structured().payload


def test_headers_of_a_binary_event_are_percent_decoded() -> None:
    assert binary(**{"ce-reason": "Euro %E2%82%AC %F0%9F%98%80"}).extensions["reason"] == "Euro € 😀"


def test_header_that_is_no_utf_8_once_decoded_is_refused() -> None:
    assert refused_binary(**{"ce-reason": "%ff"}).field == "ce-reason"


def test_escaped_newline_cannot_enter_an_id() -> None:
    assert refused_binary(**{"ce-id": "a%0Ab"}).field == "id"


def test_data_cannot_be_smuggled_in_as_an_attribute() -> None:
    assert refused_binary(**{"ce-data": "{}"}).field == "data"


def test_content_type_of_a_binary_event_is_that_of_its_data() -> None:
    assert binary(**{"Content-Type": "application/json; charset=utf-8"}).id == "ci-1"
    assert refused_binary(**{"Content-Type": "text/plain"}).field == "datacontenttype"


def test_binary_event_without_its_version_is_refused_and_not_taken_for_hand_typed() -> None:
    assert refused(DATA, headers={"ce-id": "x"}).field == "specversion"


def test_field_of_a_newer_emitter_is_ignored_in_binary_events_too() -> None:
    assert binary({**DATA, "added_in_v1_7": 1}).payload == binary().payload


# Subjects


def test_unknown_subject_is_refused_with_what_was_meant() -> None:
    fault = refused(subject="fc.ev.model.promotd.hex8_2p")
    assert fault.field == "subject"
    assert "did you mean model.promoted" in fault.reason
    assert "nats pub -J fc.ev.model.promoted.hex8_2p" in fault.next_step


# What is kept beside events


def test_state_of_a_newer_daemon_is_read_by_an_older_one() -> None:
    slot = {
        "schema": 1,
        "model": "hex8_2p",
        "generation": 7,
        "production": {"version": "43", "artifact": "0" * 64, "added": 1},
        "cause": {"event": "e", "sequence": 7, "by": "gpu-1", "correlation": "e", "added": {}},
        "at": "2026-11-21T09:30:00Z",
        "added": [],
    }
    assert SlotState.model_validate(slot).generation == 7


def test_content_with_a_field_that_this_reader_does_not_know_is_refused_for_it_is_another_artifact() -> None:
    data = json.loads(json.dumps(EXAMPLES["artifact.available"]))
    data["content"]["compressed"] = True
    artifact = hashlib.sha256(canonical_json(data["content"])).hexdigest()
    data["artifact"] = data["envelope"]["statement"]["artifact"] = artifact
    document = {**ATTRIBUTES, "type": "artifact.available.v1", "data": data}
    assert "not the digest of content" in refused(document, subject="fc.ev.artifact.available.hex8_2p").reason
