"""What is wrong with a model or a node, or became of an incident, for `fleetcast why` and `status`: read from the
stream, whether or not a remedy daemon answers."""

from collections.abc import Iterable

from fleetcast.bus import Bus
from fleetcast.bus.errors import NotFound
from fleetcast.cli.remedy.telling import told
from fleetcast.cli.units import clock, counted, moment
from fleetcast.daemons.remedy.incidents import reading
from fleetcast.daemons.remedy.incidents.commands import GetIncident
from fleetcast.daemons.remedy.incidents.silences import nodes_of
from fleetcast.events.envelope import Event
from fleetcast.events.incidents import IncidentState

TROUBLE = frozenset(
    {
        "verdict.changed",
        "incident.opened",
        "incident.changed",
        "model.rollback.requested",
        "model.retrain.requested",
        "playbook.requested",
        "playbook.run.changed",
        "hook.failed",
        "hook.recovered",
    }
)
"""Events that tell what was wrong, and what was done about it."""


async def incident_facts(bus: Bus, name: str) -> list[str]:
    """A sentence about each open incident of the model *name*, or that names the node *name*."""
    return [_fact(each) for each in await reading.unresolved(bus) if name in {each.resource_id, *nodes_of(each)}]


def _fact(state: IncidentState) -> str:
    reasons = state.context.get("reasons") or [state.title]
    began = clock(moment(state.began_at))
    said = f"said {counted(state.occurrences, 'time')}"
    what = f"{state.severity} incident {state.incident} ({state.trigger}), {state.phase}"
    return f"{what}: began {began}, {said}: {reasons[0]}; fleetcast incident {state.incident}"


async def incident(bus: Bus, name: str) -> IncidentState | None:
    """The incident of an id or the unique start of one; None: there is none."""
    try:
        known = await reading.incidents(bus, ended=True)
    except NotFound:
        return None
    found = reading.named(known, GetIncident(incident=name)).incidents
    return found[0] if found else None


def incident_told(state: IncidentState) -> list[str]:
    """Everything about an incident, without blank lines."""
    return [line for line in told(state) if line]


def trouble(events: Iterable[Event], correlation: str, most: int) -> tuple[Event, ...]:
    """The newest events that tell what was wrong, without those of a chain that is told anyway."""
    found = [event for event in events if event.type.name in TROUBLE and event.correlationid != correlation]
    return tuple(found[-most:])
