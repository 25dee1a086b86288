"""What a person is told about a refused event: the fault in words, and the command that would have been right."""

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fleetcast.events.errors import Fault, clip, close_matches
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.names import EventType

_MAX_COMMAND: Final = 1500
_NAME_THE_NODE: Final = "Name the node {that} (the fleetcast CLI and the Python client do that for you)"
_DAEMONS_EMIT: Final = (
    "Only daemons emit {name}; its fields are in docs/events.md. What was refused is kept: fleetcast dlq ls"
)
_NEEDS_QUOTES: Final = (int, float, bool)


def fault_of(error: ValidationError, entry: EventType, data: Mapping[str, Any]) -> Fault:
    """The first fault that pydantic found in *data*, in words; misspelt fields first, for they explain missing ones."""
    details = sorted(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    first = details[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    return Fault(_words(first, field or "the event", entry, data), field)


def _words(detail: ErrorDetails, field: str, entry: EventType, data: Mapping[str, Any]) -> str:
    match detail["type"]:
        case "missing":
            return _missing(field, entry)
        case "extra_forbidden":
            return _unknown_field(field, entry)
        case "string_type" if isinstance(detail["input"], _NEEDS_QUOTES):
            written = json.dumps(detail["input"])
            return f'{field} is text; write it in quotes: "{written}"'
        case "value_error":
            return f"{field}: {detail['ctx']['error']}"
    return f"{field}: {detail['msg'][:1].lower()}{detail['msg'][1:]} (it is {clip(repr(detail['input']), 80)})"


def _role(entry: EventType) -> str:
    """What the node does that an event names."""
    return "holds the file" if "path" in entry.payload.model_fields else "it happened on"


def _missing(field: str, entry: EventType) -> str:
    if field == "node":
        return f"node is missing: nothing says which node {_role(entry)}"
    return f"{field} is missing; {entry.name} needs it"


def _unknown_field(field: str, entry: EventType) -> str:
    close = close_matches(field, entry.payload.model_fields)
    hint = f"; did you mean {' or '.join(close)}?" if close else f"; it has {', '.join(entry.payload.model_fields)}"
    return f"{entry.name} has no field {clip(field, 80)!r}{hint}"


def next_step(entry: EventType, key: str, body: Mapping[str, Any] | None, fault: Fault) -> str:
    """What to do about *fault* in an event of type *entry* about *key*. *body*: what was typed by hand, or None."""
    if not entry.manual:
        return _DAEMONS_EMIT.format(name=entry.name)
    lead = "Publish it again, for example"
    if fault.field == "node":
        lead = _NAME_THE_NODE.format(that=f"that {_role(entry)}")
    return f"{lead}: {command(entry, key, _corrected(entry, key, body or {}, fault))}"


def command(entry: EventType, key: str, body: Mapping[str, Any]) -> str:
    """The NATS CLI's command that publishes *body* by hand, to be pasted into a shell."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    # The NATS CLI expands {{…}} in bodies unless it is told not to.
    plain = "--no-templates " if "{{" in text else ""
    return f"nats pub -J {plain}{entry.subject(key)} {shlex.quote(text)}"


def example_body(entry: EventType) -> dict[str, Any]:
    """The example of *entry* as a person types it: the key stands in the subject."""
    return {name: value for name, value in EXAMPLES[entry.name].items() if name != entry.key_field}


def _corrected(entry: EventType, key: str, body: Mapping[str, Any], fault: Fault) -> dict[str, Any]:
    """*body* with what is wrong replaced, so that the command in the message is right as it stands."""
    given = _respelt(entry, body)
    wrong = (fault.field or "").split(".")[0]
    value = given.pop(wrong, None)
    given.pop(entry.key_field or "", None)
    # A number where text belongs lacks its quotes only.
    quoted = {wrong: str(value)} if isinstance(value, int | float) and wrong != entry.key_field else {}
    example = example_body(entry)
    tries = (example | given | quoted, example | given)
    return next((body for body in tries if _is_shown(entry, key, body)), example)


def _is_shown(entry: EventType, key: str, body: Mapping[str, Any]) -> bool:
    """Whether *body* is right, and short enough to be read."""
    return _is_right(entry, key, body) and len(command(entry, key, body)) <= _MAX_COMMAND


def _respelt(entry: EventType, body: Mapping[str, Any]) -> dict[str, Any]:
    fields = entry.payload.model_fields
    respelt: dict[str, Any] = {}
    for name, value in body.items():
        close = (name,) if name in fields else close_matches(name, fields)
        if name in fields or (close and close[0] not in {*body, *respelt}):
            respelt[close[0]] = value
    return respelt


def _is_right(entry: EventType, key: str, body: Mapping[str, Any]) -> bool:
    try:
        entry.payload.model_validate(dict(body) | ({entry.key_field: key} if entry.key_field else {}))
    except ValidationError:
        return False
    return True
