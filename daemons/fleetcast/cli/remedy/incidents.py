"""`fleetcast incidents`, `incident`, `ack`, `resolve`, `silence`, `silences`, `unsilence`."""

from collections.abc import Mapping

from pydantic import ValidationError

from fleetcast.cli import history
from fleetcast.cli.call import Call
from fleetcast.cli.connection import target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, usage
from fleetcast.cli.remedy.asking import asked
from fleetcast.cli.remedy.telling import document, listing, silence_row, told
from fleetcast.cli.units import parse_duration
from fleetcast.daemons.remedy.incidents.commands import (
    REQUEST,
    AnyRequest,
    GetIncident,
    IncidentAnswer,
    ListSilences,
)
from fleetcast.registry.commands import stamp


def listed(
    call: Call,
    *,
    everything: bool,
    model: str | None,
    node: str | None,
    severity: str | None,
    since: str | None,
    limit: int,
) -> Exit:
    """List incidents, what matters most first."""
    after = stamp(history.since(parse_duration(since, option="--since"))) if since else None
    fields = {"ask": "list", "ended": everything, "resource": model, "node": node, "severity": severity}
    answer = asked(call, _request({**fields, "since": after, "limit": limit}))
    call.out.document({"incidents": [document(each) for each in answer.incidents], "more": answer.more})
    if not answer.incidents:
        call.out.text("no incident" if everything else "no open incident")
        return Exit.OK
    call.out.show(listing(answer.incidents))
    if answer.more:
        call.out.say(f"… and {answer.more} more: --limit {limit + answer.more}")
    return Exit.OK


def show(call: Call, incident: str) -> Exit:
    """Everything about one incident."""
    (state,) = asked(call, _request({"ask": "get", "incident": incident})).incidents
    call.out.document({"incident": document(state)})
    for line in told(state):
        call.out.text(printable(line))
    return Exit.OK


def change(call: Call, ask: str, incident: str, *, reason: str | None, dry_run: bool) -> Exit:
    """Acknowledge an incident, note something, or resolve it."""
    if not reason:
        raise usage(
            "a reason must be said; it stays with the incident", next_step=f"fleetcast {ask} {incident} --reason TEXT"
        )
    request = _order(call, {"ask": ask, "incident": incident}, reason)
    if dry_run:
        (state,) = asked(call, GetIncident(incident=incident)).incidents
        return _done(call, IncidentAnswer(incidents=(state,), message=f"would {ask} {state.incident} ({state.title})"))
    return _done(call, asked(call, request))


def silence(
    call: Call,
    *,
    model: str | None,
    node: str | None,
    trigger: str | None,
    below: str | None,
    keep: str,
    reason: str | None,
    dry_run: bool,
) -> Exit:
    """Let nobody be told of certain incidents for a while."""
    if not (model or node or trigger):
        raise usage(
            "a silence names a model, a node or a trigger",
            next_step="fleetcast silence --model NAME --for 2h --reason TEXT; '*' means all",
        )
    if not reason:
        raise usage("a reason must be said; people read it", next_step="--reason TEXT")
    seconds = parse_duration(keep, option="--for")
    rules = {"resource": model, "node": node, "trigger": trigger, "below": below}
    request = _order(call, {"ask": "silence", "seconds": seconds, **rules}, reason)
    if dry_run:
        fields = {"ask": "list", "resource": model, "node": node, "trigger": trigger}
        found = asked(call, _request(fields)).incidents
        names = ", ".join(each.incident for each in found) or "none now"
        return _done(call, IncidentAnswer(incidents=found, message=f"would silence for {keep}: {names}"))
    return _done(call, asked(call, request))


def unsilence(call: Call, name: str, *, reason: str | None) -> Exit:
    """End a silence."""
    request = _order(call, {"ask": "unsilence", "silence": name}, reason or "ended by hand")
    return _done(call, asked(call, request))


def silences(call: Call, *, everything: bool) -> Exit:
    """List silences, and the maintenance windows of the settings."""
    from fleetcast.cli.table import table

    answer = asked(call, ListSilences(ended=everything))
    windows = target(call).settings.incidents.maintenance
    call.out.document(
        {
            "silences": [each.model_dump(mode="json", by_alias=True) for each in answer.silences],
            "maintenance": [each.model_dump(mode="json", by_alias=True) for each in windows],
        }
    )
    if not answer.silences:
        call.out.text("no silence holds")
    else:
        columns = ("SILENCE", "ABOUT", "SEVERITY", "UNTIL", "BY", "REASON")
        call.out.show(table(columns, [silence_row(each) for each in answer.silences]))
    for window in windows:
        about = " ".join(
            f"{name} {value}" for name in ("resource", "node", "trigger") if (value := getattr(window, name))
        )
        hours = f"{' '.join(window.days)} {window.begins}-{window.ends} {window.zone}"
        call.out.text(printable(f"maintenance: {hours}, {about or 'everything'}: {window.reason}"))
    return Exit.OK


def _order(call: Call, fields: Mapping[str, object], reason: str) -> AnyRequest:
    return _request({**fields, "actor": target(call).source, "reason": reason})


def _request(fields: Mapping[str, object]) -> AnyRequest:
    """The request of *fields*, as typed.

    Raises:
        Problem: one of them cannot be what it is meant to be.
    """
    try:
        return REQUEST.validate_python({k: v for k, v in fields.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "the command"
        raise usage(
            f"{place}: {first['msg'].removeprefix('Value error, ')}", next_step="fleetcast incidents"
        ) from error


def _done(call: Call, answer: IncidentAnswer) -> Exit:
    call.out.document(
        {
            "outcome": answer.outcome,
            "message": answer.message,
            "incidents": [document(each) for each in answer.incidents],
            "silences": [each.model_dump(mode="json", by_alias=True) for each in answer.silences],
        }
    )
    call.out.text(printable(answer.message))
    if answer.next_step:
        call.out.say(f"next: {answer.next_step}")
    return Exit.OK
