"""`fleetcast events`: the event log for people, and as CloudEvents for programs."""

from collections.abc import Sequence

from fleetcast.cli import history
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.narrate import line, printable
from fleetcast.cli.output import Output
from fleetcast.cli.problems import Exit
from fleetcast.cli.running import run_async
from fleetcast.cli.units import parse_duration
from fleetcast.events.envelope import Event
from fleetcast.events.errors import EventInvalid


def run(call: Call, *, follow: bool, since: str, kinds: Sequence[str], model: str | None) -> Exit:
    """Print what was logged within *since* and, with *follow*, what comes."""
    seconds = parse_duration(since, option="--since")
    wanted = history.subjects(kinds, model)
    return run_async(_print(call, target(call), wanted, seconds, follow=follow))


async def _print(call: Call, aim: Target, wanted: Sequence[str], seconds: float, *, follow: bool) -> Exit:
    async with connected(aim) as bus:
        async for event in history.follow(bus, wanted, start_time=history.since(seconds), follow=follow):
            write(call.out, event)
    return Exit.OK


def write(out: Output, event: Event | EventInvalid) -> None:
    """One event as a line; what is no event is shown with the reason, and as an error object in JSON."""
    if isinstance(event, Event):
        out.record(event.encode()[0].decode(), line(event))
        return
    out.record(
        _error_line(event),
        printable(f"{'-':<13} not an event      {event.subject}: {event.reason}  [{event.event_id}]"),
    )


def _error_line(invalid: EventInvalid) -> str:
    import json

    said = {"code": "event_invalid", "message": invalid.reason, "why": invalid.field or "", "next": invalid.next_step}
    return json.dumps({"id": invalid.event_id, "subject": invalid.subject, "error": said})
