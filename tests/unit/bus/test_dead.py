import json
from datetime import UTC, datetime

import pytest

from fleetcast.bus.dead import DeadLetter, Letter, decode, encode, event_id_of, with_event_id
from fleetcast.bus.jetstream import Entry

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
MIB = 2**20


def letter(data: bytes = b'{"version":"43"}', headers: dict[str, str] | None = None) -> Letter:
    return Letter(
        subject="fc.ev.model.promoted.m",
        data=data,
        headers=headers or {},
        stream="FC_EVENTS",
        sequence=12,
        consumer="intake",
        attempts=2,
        reason="path is missing",
        field="path",
        next_step="add path",
    )


def stored(written: Letter, max_payload: int = MIB) -> DeadLetter:
    data = encode(written, now=NOW, max_payload=max_payload)
    return decode(Entry("fc.dead.intake", data, 5, NOW))


@pytest.mark.parametrize("data", [b'{"version":"43"}', b"", b"\xff\x00\xfe", "größer".encode()])
def test_a_dead_letter_keeps_the_bytes_and_the_reason(data: bytes) -> None:
    read = stored(letter(data, {"X": "1"}))

    assert data == read.data
    assert (read.reason, read.field, read.next_step) == ("path is missing", "path", "add path")
    assert (read.sequence, read.subject, read.headers) == (5, "fc.ev.model.promoted.m", {"X": "1"})
    assert (read.origin_stream, read.origin_sequence, read.attempts, read.at) == ("FC_EVENTS", 12, 2, NOW)


def test_a_message_too_large_for_its_own_letter_is_left_in_its_stream() -> None:
    data = encode(letter(b"x" * MIB), now=NOW, max_payload=MIB)

    assert len(data) < 2000
    assert json.loads(data)["omitted_bytes"] == MIB
    assert decode(Entry("fc.dead.intake", data, 5, NOW)).origin_sequence == 12


@pytest.mark.parametrize("data", [b"", b"no json", b"[]", b'{"schema":1}', b'{"at":1,"data":3}'])
def test_a_foreign_message_among_the_dead_letters_is_shown_not_fatal(data: bytes) -> None:
    read = decode(Entry("fc.dead.somebody", data, 9, NOW, {"A": "b"}))

    assert (9, data, "somebody") == (read.sequence, read.data, read.consumer)
    assert "not written by fleetcast" in read.reason


@pytest.mark.parametrize(
    ("data", "headers", "expected"),
    [
        (b'{"specversion":"1.0","id":"01E"}', {"Nats-Msg-Id": "02"}, "01E"),
        (b'{"id":"a field of the payload"}', {"Nats-Msg-Id": "02"}, "02"),
        (b"{}", {"ce-id": "03"}, "03"),
        (b"garbage", {}, "FC_EVENTS:12"),
    ],
)
def test_the_id_of_a_dead_event_is_found_whatever_its_shape(
    data: bytes, headers: dict[str, str], expected: str
) -> None:
    assert expected == event_id_of(data, headers, "FC_EVENTS", 12)


def test_an_event_typed_by_hand_keeps_its_first_id_when_it_is_retried() -> None:
    body = b'{"version":"43","path":"/models/m.pt","node":"gpu-1"}'

    data, headers = with_event_id(stored(letter(body)))

    assert json.loads(data)["id"] == "FC_EVENTS:12"
    assert json.loads(data)["data"]["version"] == "43"
    assert headers["Content-Type"] == "application/cloudevents+json"


def test_what_is_no_event_is_retried_as_it_is_without_the_servers_headers() -> None:
    data, headers = with_event_id(stored(letter(b"garbage", {"Nats-Msg-Id": "1", "X": "y"})))

    assert (data, headers) == (b"garbage", {"X": "y"})
