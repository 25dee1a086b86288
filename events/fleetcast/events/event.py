"""An event as a value: what we emit, and what everything that is read becomes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from fleetcast.events.errors import EventInvalid, Fault, clip
from fleetcast.events.ids import derived_id, is_name, new_ulid
from fleetcast.events.jsondoc import MAX_EVENT_BYTES
from fleetcast.events.names import UNKNOWN_KEY, EventType, of
from fleetcast.events.payloads import EventRejected, Payload

CONTENT_TYPE: Final = "application/cloudevents+json"
SPEC_VERSION: Final = "1.0"
MESSAGE_ID: Final = "Nats-Msg-Id"
TRACE_CONTEXT: Final = frozenset(("traceparent", "tracestate"))
"""Extensions that say to which trace an event belongs (CloudEvents, distributed tracing)."""
ATTRIBUTES: Final = frozenset(
    ("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "correlationid", "causationid")
)
"""The attributes that `Event` has a place for; all others are its extensions."""

# Ids become headers, neighbours of subjects and journald fields: printable ASCII without blanks.
ID: Final = re.compile(r"[\x21-\x7e]{1,200}\Z")
SOURCE: Final = re.compile(r"[\x21-\x7e]{1,500}\Z")
EXTENSION_VALUE: Final = re.compile(r"[^\x00-\x1f\x7f]{0,4096}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact of the catalogue, with where it came from.

    Attributes:
        id: made once, at emission; the same on every retry.
        type: its entry in the catalogue.
        key: last token of its subject: a model, a lane, a node or a run.
        source: who emitted it: `/fleet/<node>/<daemon or job>`, or `/manual/natscli`.
        time: when it was emitted; aware, UTC.
        correlationid: the id of the first cause; one per promotion, run or incident.
        causationid: the id of the event that this one follows from.
        payload: what happened.
        extensions: other CloudEvents attributes, as text: `traceparent`, `dataschema`, …
        sequence: its place in FC_EVENTS, when it was read from there; not part of the event.
    """

    id: str
    type: EventType
    key: str
    source: str
    time: datetime
    correlationid: str
    causationid: str | None = None
    payload: Payload
    extensions: dict[str, str] = field(default_factory=dict)
    sequence: int | None = field(default=None, compare=False)

    @property
    def subject(self) -> str:
        """Where it is published: `fc.ev.<domain>.<event>.<key>`."""
        return self.type.subject(self.key)

    def encode(self) -> tuple[bytes, dict[str, str]]:
        """Body and headers of the NATS message: structured CloudEvents JSON; the server removes duplicates by id. An
        event that has no room for the context of its trace goes without.

        Raises:
            EventInvalid: it is larger than a message may be, or holds a number that is none in JSON.
        """
        body = self._body(self.extensions)
        if len(body) > MAX_EVENT_BYTES and not TRACE_CONTEXT.isdisjoint(self.extensions):
            # What happened is worth more than where it is shown.
            body = self._body({name: text for name, text in self.extensions.items() if name not in TRACE_CONTEXT})
        if len(body) > MAX_EVENT_BYTES:
            raise self._refused(f"it has {len(body)} bytes; an event has at most {MAX_EVENT_BYTES}")
        return body, {MESSAGE_ID: self.id, "Content-Type": CONTENT_TYPE}

    def _body(self, extensions: Mapping[str, str]) -> bytes:
        try:
            document = self._document(extensions)
            return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except ValueError as error:
            raise self._refused(f"it cannot be written as JSON: {error}") from error

    def _document(self, extensions: Mapping[str, str]) -> dict[str, Any]:
        return {
            "specversion": SPEC_VERSION,
            "id": self.id,
            "source": self.source,
            "type": self.type.type,
            "subject": self.key,
            "time": rfc3339(self.time),
            "datacontenttype": "application/json",
            "correlationid": self.correlationid,
            **({"causationid": self.causationid} if self.causationid else {}),
            **extensions,
            "data": self.payload.model_dump(mode="json", exclude_none=True),
        }

    def _refused(self, reason: str) -> EventInvalid:
        step = "Keep large or odd values in a file beside the artifact and name it in metadata."
        return EventInvalid(reason, field="data", next_step=step, event_id=self.id, subject=self.subject)


class Antecedent(Protocol):
    """What something follows from: an event, or what is still known of one."""

    @property
    def id(self) -> str:
        """The id of the event."""

    @property
    def correlationid(self) -> str:
        """The id of its first cause."""


def new_event(
    payload: Payload,
    *,
    source: str,
    cause: Antecedent | None = None,
    event_id: str | None = None,
    key: str | None = None,
    discriminator: str = "",
    time: datetime | None = None,
) -> Event:
    """A new event about *payload*.

    With *cause*, the id is derived from it (a handler that runs twice emits nothing twice in effect) and the
    correlation goes on; *discriminator* tells several events of one type, key and cause apart. Without, the id is
    *event_id* or a fresh ULID, and starts a correlation. *key* is only for events whose payload does not name one
    (`event.rejected`); what is no name becomes `unknown`. *time*: aware, default now.

    Raises:
        ValueError: *source*, *event_id* or *key* do not fit.
        UnknownEventType: the payload's class is not in the catalogue.
    """
    entry = of(payload)
    token = _key_for(entry, payload, key)
    if event_id is None:
        event_id = _following_id(cause, entry, token, discriminator) if cause else new_ulid()
    return Event(
        id=matching(ID, event_id, "id"),
        type=entry,
        key=token,
        source=matching(SOURCE, source, "source"),
        time=(time or datetime.now(UTC)).astimezone(UTC),
        correlationid=cause.correlationid if cause else event_id,
        causationid=cause.id if cause else None,
        payload=payload,
    )


def _following_id(cause: Antecedent, entry: EventType, token: str, discriminator: str) -> str:
    # The newline keeps key "gpu-1" with discriminator "2" apart from key "gpu-12".
    return derived_id(cause.id, entry.type, f"{token}\n{discriminator}" if discriminator else token)


def _key_for(entry: EventType, payload: Payload, key: str | None) -> str:
    own = entry.key_of(payload)
    if key is None or key == own:
        return own
    if entry.key_field is not None:
        raise ValueError(f"{entry.name} about {own!r} cannot be published under {key!r}")
    return key if is_name(key) else UNKNOWN_KEY


def rejection(invalid: EventInvalid, *, node: str | None) -> tuple[EventRejected, str]:
    """The payload and the key of the `event.rejected` that answers an event which does not parse."""
    key = invalid.subject.rpartition(".")[2]
    payload = EventRejected(
        event=invalid.event_id,
        subject=invalid.subject,
        reason=invalid.reason,
        field=invalid.field,
        next_step=invalid.next_step,
        node=node,
    )
    return payload, key if is_name(key) else UNKNOWN_KEY


def matching(pattern: re.Pattern[str], value: str, name: str) -> str:
    """*value*, when it fits *pattern*.

    Raises:
        Fault: it does not; names the attribute *name*.
    """
    if not pattern.match(value):
        shown = f"{clip(value, 80)!r} cannot be one" if value else "it is missing"
        raise Fault(f"{name}: {shown} ({_RULES[pattern]})", name)
    return value


_RULES: Final = {
    ID: "1 to 200 printable ASCII characters without blanks",
    SOURCE: "1 to 500 printable ASCII characters without blanks",
    EXTENSION_VALUE: "at most 4096 characters, none of them a control character",
}


def rfc3339(moment: datetime) -> str:
    """*moment* in UTC, to the microsecond: `2026-11-21T09:30:00.000000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
