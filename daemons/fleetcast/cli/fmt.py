"""`fleetcast fmt`: one event on stdin, one line on stdout."""

import sys

from fleetcast.cli.call import Call
from fleetcast.cli.narrate import line, printable
from fleetcast.cli.problems import Exit
from fleetcast.events.envelope import parse
from fleetcast.events.errors import EventInvalid


def run(call: Call) -> Exit:
    """Translate stdin. What is no event is passed on as it is: a filter must not hide what went by."""
    body = sys.stdin.buffer.read()
    try:
        event = parse(body, subject="")
    except EventInvalid:
        text = printable(body.decode("utf-8", "replace").strip())
        call.out.document({"event": None, "text": text})
        call.out.text(text)
        return Exit.OK
    call.out.document({"event": event.id, "type": event.type.name, "text": line(event)})
    call.out.text(line(event))
    return Exit.OK
