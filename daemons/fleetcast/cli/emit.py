"""`fleetcast emit`: any event of the catalogue from the shell; with NATS down it waits in the spool."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleetcast.bus.errors import BusUnavailable
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, absolute, target, traced
from fleetcast.cli.problems import Exit, Problem, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.submit import publish
from fleetcast.client.spool import SpoolError, SpoolWriter
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.names import EventType, find
from fleetcast.events.refusal import fault_of
from fleetcast.registry.speaking import speaker


def run(call: Call, kind: str, fields: Sequence[str], *, dry_run: bool) -> Exit:
    """Publish an event of *kind* with *fields* (`key=value`)."""
    entry = find(kind)
    aim = target(call)
    event = build(entry, parse_fields(fields), aim)
    if dry_run:
        return _say(call, event, "would publish", None)
    try:
        run_async(_publish(aim, event))
    except BusUnavailable as error:
        folder = spool(aim, event, error)
        call.out.say(f"NATS is not reachable ({error}); the event waits in {folder} for this node's distributor")
        return _say(call, event, "spooled", folder)
    return _say(call, event, "published", None)


def parse_fields(fields: Sequence[str]) -> dict[str, Any]:
    """`a=1 b.c=x d={"e":1}` as nested values. Text stays text, so that version=007 stays 007; braces and brackets
    begin JSON; below a dot, numbers and booleans are taken as such.

    Raises:
        Problem: a field has no `=`, or its JSON cannot be read.
    """
    document: dict[str, Any] = {}
    for each in fields:
        key, found, text = each.partition("=")
        if not found or not key:
            raise usage(f"{each!r} is not KEY=VALUE", next_step="fleetcast emit --help")
        _set(document, key.split("."), _value(key, text))
    return document


def _value(key: str, text: str) -> Any:
    if not text.startswith(("{", "[")) and "." not in key:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        if text.startswith(("{", "[")):
            raise usage(f"{key}: {text!r} is not JSON", why=str(error)) from error
        return text


def _set(document: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        document = document.setdefault(part, {})
        if not isinstance(document, dict):
            raise usage(f"{'.'.join(path)}: {part} is already a value")
    document[path[-1]] = value


def build(entry: EventType, fields: Mapping[str, Any], aim: Target) -> Event:
    """The event, with node and absolute path filled in.

    Raises:
        Problem: a field is missing or wrong; names it.
    """
    from pydantic import ValidationError

    document = dict(fields)
    if "node" in entry.payload.model_fields:
        document.setdefault("node", aim.node)
    if isinstance(document.get("path"), str) and document["node"] == aim.node:
        document["path"] = str(absolute(Path(document["path"])))
    own = speaker() if {"run_id", "claim"} <= entry.payload.model_fields.keys() else None
    # A command of a lane's job speaks for its run, as the client does.
    if own is not None and document.setdefault("run_id", own.run) == own.run:
        document.setdefault("claim", own.claim)
    try:
        return new_event(entry.payload.model_validate(document), source=aim.source)
    except ValidationError as error:
        fault = fault_of(error, entry, document)
        raise usage(f"{entry.name}: {fault.reason}", next_step="fields and examples: docs/events.md") from error


async def _publish(aim: Target, event: Event) -> None:
    async with traced(aim) as bus:
        await publish(bus, aim, event)


def spool(aim: Target, event: Event, cause: BusUnavailable) -> Path:
    """Keep *event* for this node's distributor; returns the folder.

    Raises:
        Problem: there is no spool here that this user may write.
    """
    folder = Path(os.environ.get("FLEETCAST_SPOOL") or aim.settings.store.data / "spool")
    try:
        SpoolWriter(str(folder)).append(event.encode()[0], durable=True)
    except (SpoolError, OSError) as error:
        raise Problem(
            "no_nats",
            f"the event was not published: {cause}",
            why=f"and it cannot be kept in {folder} either: {error}",
            next_step="fleetcast doctor, or set FLEETCAST_SPOOL to a folder that this node's distributor forwards",
            exit_code=Exit.NO_NATS,
        ) from error
    return folder


def _say(call: Call, event: Event, verb: str, folder: Path | None) -> Exit:
    call.out.document(
        {
            "event": event.id,
            "published": verb == "published",
            "spooled": str(folder) if folder else None,
            "subject": event.subject,
            "data": event.payload.model_dump(mode="json", exclude_none=True),
        }
    )
    call.out.text(f"{verb} {event.type.name} {event.key}, event {event.id}")
    return Exit.OK
