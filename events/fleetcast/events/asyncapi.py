"""The catalogue as JSON Schemas and as an AsyncAPI document. Sources: JSON Schema 2020-12, AsyncAPI 3.0.0."""

from typing import Any, Final

from pydantic.json_schema import models_json_schema

from fleetcast.events.envelope import CONTENT_TYPE
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.names import CATALOGUE, EventType
from fleetcast.events.payloads import Payload

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_ID: Final = {"type": "string", "pattern": "^[\\x21-\\x7e]{1,200}$"}
_MOMENT: Final = "2026-11-21T09:30:00.000000Z"
_EVENT_ID: Final = "01KAGN1P8Z6V6J2C5S0M4X7T3E"


def payload_schema(entry: EventType) -> dict[str, Any]:
    """JSON Schema of the payload of *entry*."""
    schema = entry.payload.model_json_schema(mode="validation")
    return {
        "$schema": DIALECT,
        "$id": f"urn:fleetcast:event:{entry.type}",
        **_open(schema),
        "title": entry.type,
        "examples": [EXAMPLES[entry.name]],
    }


def envelope_schema() -> dict[str, Any]:
    """JSON Schema of the structured envelope, whatever the event."""
    return {
        "$schema": DIALECT,
        "$id": "urn:fleetcast:envelope",
        "title": "envelope",
        "description": "CloudEvents 1.0 in structured JSON, as fleetcast emits it. Other attributes are kept.",
        **_envelope({"type": "string", "enum": [entry.type for entry in CATALOGUE]}, {"type": "object"}),
    }


def document() -> dict[str, Any]:
    """The AsyncAPI document: one channel, one message and one operation per event."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "fleetcast events",
            "version": "1.0.0",
            "description": "Facts on the stream FC_EVENTS. Generated from the catalogue; docs/events.md explains.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {entry.name: _channel(entry) for entry in CATALOGUE},
        "operations": {f"emit.{entry.name}": _operation(entry) for entry in CATALOGUE},
        "components": {
            "messages": {entry.type: _message(entry) for entry in CATALOGUE},
            "schemas": _components(),
        },
    }


def envelope_example(entry: EventType) -> dict[str, Any]:
    """A whole event, as `nats sub` shows it."""
    payload = entry.payload.model_validate(EXAMPLES[entry.name])
    return {
        "specversion": "1.0",
        "id": _EVENT_ID,
        "source": "/fleet/gpu-1/distributor",
        "type": entry.type,
        "subject": entry.key_of(payload),
        "time": _MOMENT,
        "datacontenttype": "application/json",
        "correlationid": _EVENT_ID,
        "data": EXAMPLES[entry.name],
    }


def _channel(entry: EventType) -> dict[str, Any]:
    key = _key_name(entry)
    return {
        "address": entry.subject("{" + key + "}"),
        "description": f"The alias is accepted as well: {entry.filters('{' + key + '}')[1]}",
        "parameters": {key: {"description": "Last token of the subject: a-z 0-9 _ -, at most 48."}},
        "messages": {entry.type: {"$ref": f"#/components/messages/{entry.type}"}},
    }


def _key_name(entry: EventType) -> str:
    return entry.key_field.rpartition(".")[2] if entry.key_field else "key"


def _operation(entry: EventType) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{entry.name}"},
        "messages": [{"$ref": f"#/channels/{entry.name}/messages/{entry.type}"}],
    }


def _message(entry: EventType) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{entry.payload.__name__}"}
    return {
        "name": entry.type,
        "title": entry.alias,
        "summary": summary(entry.payload),
        "contentType": CONTENT_TYPE,
        "payload": _envelope({"const": entry.type}, reference),
        "examples": [{"name": entry.name, "payload": envelope_example(entry)}],
    }


def summary(payload: type[Payload]) -> str:
    """What the event says: the first paragraph of its class."""
    return " ".join((payload.__doc__ or "").split("\n\n")[0].split())


def _envelope(type_: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": _ID,
            "source": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,500}$"},
            "type": type_,
            "subject": {"type": "string"},
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"type": "string"},
            "correlationid": _ID,
            "causationid": _ID,
            "data": data,
        },
        "additionalProperties": {"type": ["string", "boolean", "integer"]},
    }


def _components() -> dict[str, Any]:
    _, schemas = models_json_schema(
        [(entry.payload, "validation") for entry in CATALOGUE], ref_template="#/components/schemas/{model}"
    )
    definitions: dict[str, Any] = _open(schemas)["$defs"]
    return definitions


def _open(schema: Any) -> Any:
    """*schema* as a consumer of envelopes reads it: newer emitters may add fields, which are ignored. Titles that only
    repeat names go as well."""
    if isinstance(schema, list):
        return [_open(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _open(each) for name, each in schema.items() if not _is_noise(name, each)}


def _is_noise(name: str, value: object) -> bool:
    return (name == "title" and isinstance(value, str)) or (name == "additionalProperties" and value is False)
