"""The envelope of events: CloudEvents 1.0 over NATS, structured when we emit; three shapes when we read (ADR 0003).

Sources: CloudEvents 1.0.2 core and JSON event format, the NATS protocol binding, the correlation extension.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn
from urllib.parse import unquote_to_bytes

from pydantic import ValidationError

from fleetcast.events.errors import EventInvalid, Fault, UnknownEventType, clip, close_matches
from fleetcast.events.event import (
    ATTRIBUTES,
    CONTENT_TYPE,
    EXTENSION_VALUE,
    ID,
    MESSAGE_ID,
    SOURCE,
    SPEC_VERSION,
    Antecedent,
    Event,
    matching,
    new_event,
    rejection,
)
from fleetcast.events.ids import is_name
from fleetcast.events.jsondoc import read_object
from fleetcast.events.names import CATALOGUE, UNKNOWN_KEY, EventType, find, from_subject
from fleetcast.events.payloads import Payload
from fleetcast.events.refusal import command, example_body, fault_of, next_step

__all__ = ["CONTENT_TYPE", "MANUAL_SOURCE", "Antecedent", "Event", "EventInvalid", "new_event", "parse", "rejection"]

MANUAL_SOURCE: Final = "/manual/natscli"
"""Source of what was typed by hand, without an envelope."""
_EXTENSION = re.compile(r"[a-z0-9]{1,40}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_JSON_TYPE = re.compile(r"application/([a-z0-9.-]+\+)?json\s*(;.*)?\Z", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """How a message came: what is known before its body is looked at."""

    subject: str
    headers: Mapping[str, str]
    stream: str | None
    sequence: int | None
    time: datetime | None

    @property
    def id(self) -> str:
        """Its id unless the body says otherwise: the message id, else its place in the stream."""
        given = self.headers.get(MESSAGE_ID.lower())
        if given is not None and ID.match(given):
            return given
        return "unknown" if self.sequence is None else f"{self.stream or 'FC_EVENTS'}:{self.sequence}"


@dataclass(slots=True)
class _Reading:
    """What is known so far of an event that is being read; refusals are worded from it."""

    arrival: _Arrival
    entry: EventType | None = None
    key: str = UNKNOWN_KEY
    typed: dict[str, Any] | None = None
    event_id: str | None = None

    def refuse(self, fault: Fault) -> EventInvalid:
        return EventInvalid(
            fault.reason,
            field=fault.field,
            next_step=self._next_step(fault),
            event_id=self.event_id or self.arrival.id,
            subject=self.arrival.subject,
        )

    def _next_step(self, fault: Fault) -> str:
        if self.entry is not None:
            return next_step(self.entry, self.key, self.typed, fault)
        cause = fault.__cause__
        close = cause.close if isinstance(cause, UnknownEventType) else ()
        entry = next((find(name) for name in close if find(name).manual), CATALOGUE[0])
        key = self.arrival.subject.rpartition(".")[2]
        step = command(entry, key if is_name(key) else "hex8_2p", example_body(entry))
        return f"For {entry.name}: {step}"


def parse(
    data: bytes,
    *,
    subject: str | None = None,
    headers: Mapping[str, str] | None = None,
    stream: str | None = None,
    sequence: int | None = None,
    time: datetime | None = None,
) -> Event:
    """The event in a message, in any of three shapes.

    Structured (`Content-Type: application/cloudevents+json`, or a body with `specversion`), binary (`ce-*` headers), or
    bare JSON typed by hand. Unknown payload fields are ignored in the first two, which programs of another fleetcast
    version write, and refused in the third, where they are typing errors.

    Args:
        data: body of the message.
        subject: where it was published; None (a record of the spool): derived from the event itself.
        headers: of the message.
        stream: name of the stream that it was read from.
        sequence: its place there.
        time: when the stream took it; used where the event has no time of its own.

    Raises:
        EventInvalid: it is none; carries what a person needs to put it right.
    """
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    reading = _Reading(_Arrival(subject or "", lowered, stream, sequence, time))
    try:
        if subject is not None:
            reading.entry, reading.key = _located(subject)
        return _read(bytes(data), reading)
    except Fault as fault:
        raise reading.refuse(fault) from fault


def _located(subject: str) -> tuple[EventType, str]:
    try:
        return from_subject(subject)
    except UnknownEventType as error:
        raise Fault(str(error), "subject") from error


def _read(data: bytes, reading: _Reading) -> Event:
    headers = reading.arrival.headers
    content_type = headers.get("content-type", "")
    if content_type.lower().startswith("application/cloudevents"):
        return _enveloped(*_structured(data, content_type), reading)
    if any(name.startswith("ce-") for name in headers):
        return _enveloped(_binary_attributes(headers), read_object(data), reading)
    document = read_object(data)
    if "specversion" in document:
        return _enveloped(*_split(document), reading)
    return _bare(document, reading)


def _structured(data: bytes, content_type: str) -> tuple[dict[str, str], dict[str, Any]]:
    if content_type.split(";")[0].strip().lower() != CONTENT_TYPE:
        raise Fault(f"the content type {clip(content_type, 80)!r} is not {CONTENT_TYPE}", "Content-Type")
    return _split(read_object(data))


def _split(document: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Attributes and data of a structured event. Members that are null count as absent (JSON format, 2.2)."""
    attributes = {
        name: _attribute(name, value)
        for name, value in document.items()
        if name not in {"data", "data_base64"} and value is not None
    }
    return attributes, _data(document)


def _attribute(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if name in ATTRIBUTES or not isinstance(value, bool | int):
        raise Fault(f"the attribute {clip(name, 80)!r} is not text", clip(name, 80))
    return json.dumps(value)


def _data(document: dict[str, Any]) -> dict[str, Any]:
    encoded = document.get("data_base64")
    if encoded is not None:
        return read_object(_decoded(encoded))
    data = document.get("data")
    if not isinstance(data, dict):
        raise Fault("data is missing" if data is None else "data is not a JSON object", "data")
    return data


def _decoded(encoded: object) -> bytes:
    try:
        return base64.b64decode(encoded if isinstance(encoded, str) else "=", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Fault("data_base64 is not base 64", "data_base64") from error


def _binary_attributes(headers: Mapping[str, str]) -> dict[str, str]:
    """Attributes of the `ce-` headers, percent-decoded; the payload's type is the message's."""
    attributes = {
        name.removeprefix("ce-"): _percent_decoded(name, value)
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    if "content-type" in headers:
        attributes["datacontenttype"] = headers["content-type"]
    return attributes


def _percent_decoded(name: str, value: str) -> str:
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeError as error:
        raise Fault(f"the header {name} is not UTF-8 once percent-decoded", name) from error


def _enveloped(attributes: dict[str, str], data: dict[str, Any], reading: _Reading) -> Event:
    if attributes.get("specversion") != SPEC_VERSION:
        raise Fault(f"specversion is {attributes.get('specversion')!r}, not '{SPEC_VERSION}'", "specversion")
    identity = matching(ID, attributes.get("id", ""), "id")
    reading.event_id = identity
    entry = _agreed_type(attributes, reading)
    payload = _payload(entry, data, strict=False)
    _check_content_type(attributes.get("datacontenttype", "application/json"))
    return Event(
        id=identity,
        type=entry,
        key=_agreed_key(entry, payload, attributes, reading),
        source=matching(SOURCE, attributes.get("source", ""), "source"),
        time=_moment(attributes.get("time"), reading.arrival),
        correlationid=matching(ID, attributes.get("correlationid", identity), "correlationid"),
        causationid=matching(ID, attributes["causationid"], "causationid") if "causationid" in attributes else None,
        payload=payload,
        extensions=_extensions(attributes),
        sequence=reading.arrival.sequence,
    )


def _bare(document: dict[str, Any], reading: _Reading) -> Event:
    if reading.entry is None:
        raise Fault("without an envelope, only the subject tells what the event is; there is none", "specversion")
    reading.typed = document
    entry, key = reading.entry, reading.key
    identity = _bare_id(reading.arrival)
    _check_content_type(reading.arrival.headers.get("content-type", "application/json"))
    payload = _payload(entry, _with_key(entry, key, document), strict=True)
    return Event(
        id=identity,
        type=entry,
        key=key,
        source=MANUAL_SOURCE,
        time=_moment(None, reading.arrival),
        correlationid=identity,
        payload=payload,
        sequence=reading.arrival.sequence,
    )


def _bare_id(arrival: _Arrival) -> str:
    given = arrival.headers.get(MESSAGE_ID.lower())
    if given is not None:
        return matching(ID, given, MESSAGE_ID)
    if arrival.sequence is None:
        raise Fault("it has no id: neither an envelope, nor a Nats-Msg-Id header, nor a place in a stream", "id")
    return arrival.id


def _with_key(entry: EventType, key: str, document: dict[str, Any]) -> dict[str, Any]:
    """*document* with the key of the subject filled in, where the key is a field that people type."""
    name = entry.key_field
    if name is None or "." in name:
        return document
    if name in document and document[name] != key:
        given = clip(json.dumps(document[name]), 80)
        raise Fault(f"{name} is {given} in the body, but {key!r} in the subject", name)
    return document | {name: key}


def _payload(entry: EventType, data: dict[str, Any], *, strict: bool) -> Payload:
    try:
        return entry.payload.model_validate(data, extra="forbid" if strict else "ignore")
    except ValidationError as error:
        raise fault_of(error, entry, data) from error


def _agreed_type(attributes: Mapping[str, str], reading: _Reading) -> EventType:
    """The type that envelope and subject agree on; permissions are by subject, so neither may say otherwise."""
    given = attributes.get("type")
    if given is None:
        raise Fault("type is missing", "type")
    try:
        entry = find(given)
    except UnknownEventType as error:
        raise Fault(str(error), "type") from error
    if reading.entry is not None and reading.entry is not entry:
        raise Fault(f"type is {entry.name}, but the subject is one of {reading.entry.name}", "type")
    reading.entry = entry
    return entry


def _agreed_key(entry: EventType, payload: Payload, attributes: Mapping[str, str], reading: _Reading) -> str:
    own = entry.key_of(payload)
    if entry.key_field is None:
        about = attributes.get("subject", own)
        own = reading.key if reading.arrival.subject else about if is_name(about) else own
    if reading.arrival.subject and own != reading.key:
        raise Fault(f"{entry.key_field} is {own!r} in the data, but {reading.key!r} in the subject", entry.key_field)
    return own


def _check_content_type(given: str) -> None:
    if not _JSON_TYPE.match(given):
        raise Fault(f"the data is {clip(given, 80)!r}, not application/json", "datacontenttype")


def _extensions(attributes: Mapping[str, str]) -> dict[str, str]:
    extensions = {name: value for name, value in attributes.items() if name not in ATTRIBUTES}
    for name, value in extensions.items():
        if not _EXTENSION.match(name) or name == "data":
            close = close_matches(name.lower().replace("_", ""), ATTRIBUTES)
            hint = f"; did you mean {close[0]}?" if close else "; attributes are written a-z 0-9"
            raise Fault(f"{clip(name, 80)!r} cannot be an attribute{hint}", clip(name, 80))
        matching(EXTENSION_VALUE, value, name)
    return extensions


def _moment(given: str | None, arrival: _Arrival) -> datetime:
    """The event's own time, else the stream's, else now."""
    if given is None:
        return (arrival.time or datetime.now(UTC)).astimezone(UTC)
    if not _TIME.match(given):
        _no_time(given)
    try:
        return datetime.fromisoformat(given.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        _no_time(given)


def _no_time(given: str) -> NoReturn:
    raise Fault(f"time is {clip(given, 80)!r}, not a time like 2026-11-21T09:30:00Z (RFC 3339)", "time")
