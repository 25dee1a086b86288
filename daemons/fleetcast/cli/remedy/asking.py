"""Asking the remedy daemon about incidents; what only reads is read from the stream where none answers."""

from datetime import UTC, datetime

from pydantic import ValidationError

from fleetcast.bus import Bus, patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.cli.call import Call
from fleetcast.cli.connection import connected, target
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.daemons.remedy.incidents import reading
from fleetcast.daemons.remedy.incidents.commands import (
    INCIDENTS_SUBJECT,
    AnyRequest,
    GetIncident,
    IncidentAnswer,
    ListIncidents,
    ListSilences,
    Query,
)

START_ONE = "fleetcast run remedy    (on one or two nodes)"
DEADLINE_SECONDS = 15.0
"""A person waits this long for a remedy daemon that is just being restarted."""


def asked(call: Call, request: AnyRequest) -> IncidentAnswer:
    """The answer to one request.

    Raises:
        Problem: there is none, or it says no; says why and what to do.
    """
    aim = target(call)

    async def run() -> IncidentAnswer:
        async with connected(aim) as bus:
            return await answer(bus, request)

    return accepted(run_async(run()))


async def answer(bus: Bus, request: AnyRequest) -> IncidentAnswer:
    """As `asked`, over a connection that is there, and whatever it says."""
    data = request.model_dump_json().encode()
    reads = isinstance(request, Query)
    try:
        said = await patience.ask(
            bus, INCIDENTS_SUBJECT, data, deadline_seconds=DEADLINE_SECONDS, wait_for_somebody=not reads, reads=reads
        )
        return IncidentAnswer.model_validate_json(said)
    except (NoResponder, BusTimeout, ConnectionLost) as error:
        if reads:
            return await _read(bus, request)
        raise Problem(
            "no_remedy",
            "no remedy daemon answers, so nothing was changed",
            why=str(error),
            next_step=f"{START_ONE}; fleetcast doctor says more",
        ) from error
    except ServiceFailed as error:
        raise usage(str(error)) from error
    except ValidationError as error:
        raise Problem(
            "answer", "the remedy daemon's answer cannot be read", why=str(error.errors()[0]["msg"])
        ) from error


async def _read(bus: Bus, request: AnyRequest) -> IncidentAnswer:
    match request:
        case ListIncidents():
            return reading.chosen(await reading.incidents(bus, ended=request.ended), request)
        case GetIncident():
            return reading.named(await reading.incidents(bus, ended=True), request)
        case ListSilences():
            return reading.holding(await reading.silences(bus), datetime.now(UTC), ended=request.ended)
        case _:
            raise TypeError(f"{type(request).__name__} does not only read")


def accepted(said: IncidentAnswer) -> IncidentAnswer:
    """An answer that is no refusal.

    Raises:
        Problem: it is one.
    """
    if said.outcome == "unknown":
        raise not_found(said.message, next_step=said.next_step)
    if said.outcome == "ambiguous":
        raise usage(said.message, next_step="more characters of the id")
    if said.outcome == "refused":
        raise Problem("refused", said.message, next_step=said.next_step, exit_code=Exit.REFUSED)
    return said
