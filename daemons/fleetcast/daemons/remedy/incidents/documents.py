"""Incidents in JSON, with the command that helps next. Pure."""

from typing import Any

from fleetcast.daemons.remedy.incidents.rules import times
from fleetcast.events.incidents import IncidentPhase, IncidentState, ResourceType, Severity


def document(state: IncidentState) -> dict[str, Any]:
    """An incident in JSON, with its times."""
    measured = times(state)
    return state.model_dump(mode="json", by_alias=True, exclude={"seen", "flips", "sequence"}) | {
        "time_to_detect_seconds": measured.detect_seconds,
        "time_to_mitigate_seconds": measured.mitigate_seconds,
        "time_to_resolve_seconds": measured.resolve_seconds,
        "next": next_step(state),
    }


def next_step(state: IncidentState) -> str:
    """The one command that helps now."""
    if state.ended:
        return f"fleetcast events --since 7d --model {state.resource_id}"
    if state.runs and state.phase is IncidentPhase.MITIGATING:
        return f"fleetcast playbook show {state.runs[-1]}"
    if state.phase is IncidentPhase.OPEN and state.severity is not Severity.LOW:
        return f"fleetcast ack {state.incident} --reason 'I look after it'"
    if state.resource_type in {ResourceType.MODEL, ResourceType.NODE}:
        return f"fleetcast why {state.resource_id}"
    return f"fleetcast events --since 1d --model {state.resource_id}"
