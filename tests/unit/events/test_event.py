"""Events that we emit."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from fleetcast.events.envelope import Event, EventInvalid, new_event, parse, rejection
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.names import CATALOGUE, EventType
from fleetcast.events.payloads import EventRejected, ModelPromoted

SOURCE = "/fleet/gpu-1/distributor"
PROMOTED = ModelPromoted(model="hex8_2p", version="43", path="/models/m.pt", node="gpu-1")
REJECTED = EventRejected(event="e", subject="s", reason="r", next_step="n")


def promoted(**changes: Any) -> Event:
    return new_event(PROMOTED.model_copy(update=changes), source=SOURCE)


def test_a_first_cause_has_a_fresh_id_and_starts_the_correlation() -> None:
    one, other = promoted(), promoted()
    assert one.id != other.id
    assert len(one.id) == 26
    assert (one.correlationid, one.causationid) == (one.id, None)


def test_what_follows_has_the_same_id_however_often_it_is_made() -> None:
    cause = promoted()
    one, again = (new_event(REJECTED, source=SOURCE, cause=cause, key="hex8_2p") for _ in range(2))
    assert one.id == again.id
    assert (one.correlationid, one.causationid) == (cause.correlationid, cause.id)


def test_correlation_runs_through_a_chain() -> None:
    first = promoted()
    second = new_event(REJECTED, source=SOURCE, cause=first)
    third = new_event(REJECTED, source=SOURCE, cause=second)
    assert third.correlationid == first.id
    assert third.causationid == second.id


def test_key_type_and_discriminator_tell_followers_of_one_cause_apart() -> None:
    cause = promoted()

    def follower(key: str, discriminator: str = "") -> str:
        return new_event(REJECTED, source=SOURCE, cause=cause, key=key, discriminator=discriminator).id

    ids = {follower("gpu-1"), follower("gpu-12"), follower("gpu-1", "2"), follower("gpu-1", "3")}
    assert len(ids) == 4


def test_a_given_id_is_kept_for_retries_and_spools() -> None:
    assert new_event(PROMOTED, source=SOURCE, event_id="promote-43").id == "promote-43"


@pytest.mark.parametrize("event_id", ["", "a b", "a\nb", "é", "a" * 201, "a\0"])
def test_id_that_could_break_a_header_is_refused(event_id: str) -> None:
    with pytest.raises(ValueError, match="id: "):
        new_event(PROMOTED, source=SOURCE, event_id=event_id)


def test_event_cannot_be_published_under_the_key_of_another() -> None:
    with pytest.raises(ValueError, match="cannot be published under 'go9'"):
        new_event(PROMOTED, source=SOURCE, key="go9")


@pytest.mark.parametrize(("key", "token"), [("hex8_2p", "hex8_2p"), ("No Name!", "unknown"), (None, "unknown")])
def test_rejection_goes_under_its_model_or_under_unknown(key: str | None, token: str) -> None:
    assert new_event(REJECTED, source=SOURCE, key=key).subject == f"fc.ev.event.rejected.{token}"


def test_time_is_kept_in_utc() -> None:
    noon = datetime(2026, 11, 21, 12, tzinfo=timezone(timedelta(hours=2)))
    event = new_event(PROMOTED, source=SOURCE, time=noon)
    assert event.time == noon
    assert event.time.tzinfo is UTC
    assert json.loads(event.encode()[0])["time"] == "2026-11-21T10:00:00.000000Z"


def test_the_server_sees_the_id_and_readers_see_one_json_object() -> None:
    event = promoted()
    body, headers = event.encode()
    assert headers == {"Nats-Msg-Id": event.id, "Content-Type": "application/cloudevents+json"}
    document = json.loads(body)
    assert document["specversion"] == "1.0"
    assert document["type"] == "model.promoted.v1"
    assert document["data"] == {"model": "hex8_2p", "version": "43", "path": "/models/m.pt", "node": "gpu-1"}
    assert b"\n" not in body


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_value_that_json_cannot_hold_is_refused_where_it_is_emitted(value: object) -> None:
    with pytest.raises(EventInvalid, match="cannot be written as JSON"):
        promoted(metrics={"elo": value}).encode()


def test_event_too_large_for_a_message_is_refused_where_it_is_emitted() -> None:
    with pytest.raises(EventInvalid, match="at most 1000000"):
        promoted(metadata={"log": "x" * 1_000_000}).encode()


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_a_record_of_the_spool_says_its_own_subject(entry: EventType) -> None:
    event = new_event(entry.payload.model_validate(EXAMPLES[entry.name]), source=SOURCE)
    assert parse(event.encode()[0]) == event


def test_a_record_of_the_spool_keeps_the_key_that_its_emitter_chose() -> None:
    event = new_event(REJECTED, source=SOURCE, key="hex8_2p")
    assert parse(event.encode()[0]).subject == "fc.ev.event.rejected.hex8_2p"


def test_the_place_in_the_stream_is_no_part_of_the_event() -> None:
    event = promoted()
    read = parse(event.encode()[0], subject=event.subject, stream="FC_EVENTS", sequence=7)
    assert read.sequence == 7
    assert read == event


def test_rejection_of_what_does_not_parse_is_about_its_key() -> None:
    with pytest.raises(EventInvalid) as refused:
        parse(b"{}", subject="fc.ev.model.promoted.hex8_2p", sequence=7)
    payload, key = rejection(refused.value, node="gpu-1")
    assert key == "hex8_2p"
    assert (payload.event, payload.subject) == ("FC_EVENTS:7", "fc.ev.model.promoted.hex8_2p")
    assert new_event(payload, source=SOURCE, key=key).encode()


def test_rejection_of_what_has_no_usable_subject_is_about_unknown() -> None:
    with pytest.raises(EventInvalid) as refused:
        parse(b"{}", subject="fc.ev.model.promoted.Hex8")
    assert rejection(refused.value, node=None)[1] == "unknown"
