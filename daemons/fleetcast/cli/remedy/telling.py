"""Incidents in words and in JSON. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fleetcast.cli.units import ago, clock, counted, duration, moment
from fleetcast.daemons.remedy.incidents.documents import document, next_step
from fleetcast.daemons.remedy.incidents.rules import times
from fleetcast.events.incidents import IncidentState, ResourceType, SilenceState

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "document",
    "listing",
    "next_step",
    "numbers",
    "open_line",
    "silence_row",
    "timeline",
    "told",
    "took",
]

STEPS = 12
"""Lines of the timeline that are told; --json has all of them."""


def listing(states: Sequence[IncidentState], now: datetime | None = None) -> "RenderableType":
    """A line for each incident."""
    from fleetcast.cli.table import table

    at = now or datetime.now(UTC)
    columns = ("INCIDENT", "SEVERITY", "PHASE", "SINCE", "SAID", "ABOUT", "TRIGGER", "WHAT")
    return table(columns, [_row(each, at) for each in states], right=(4,))


def _row(state: IncidentState, now: datetime) -> tuple[object, ...]:
    phase = f"{state.phase}{', silenced' if state.silenced and not state.ended else ''}"
    since = ago((now - moment(state.began_at)).total_seconds())
    return (
        state.incident,
        state.severity.value,
        phase,
        since,
        state.occurrences,
        state.what,
        state.trigger,
        state.title,
    )


def open_line(states: Sequence[IncidentState]) -> str:
    """All open incidents in one line: `2 open incidents (1 critical): inc-… hex8_2p@43 error_rate, …`; empty: none."""
    if not states:
        return ""
    worst = max((each.severity for each in states), key=lambda each: each.rank)
    bad = sum(each.severity is worst for each in states)
    shown = ", ".join(f"{each.incident} {each.what} {each.trigger}" for each in states[:3])
    rest = f" and {len(states) - 3} more" if len(states) > 3 else ""
    return f"{counted(len(states), 'open incident')} ({bad} {worst}): {shown}{rest}; fleetcast incidents"


def told(state: IncidentState) -> list[str]:
    """Everything about an incident, a sentence or two per line."""
    noticed = f"trigger {state.trigger}, noticed by {state.source}"
    began, opened = clock(moment(state.began_at)), clock(moment(state.opened_at))
    lines = [
        f"{state.incident}  {state.title}",
        f"{state.severity}, {state.phase}, about {_kind(state)} {state.what}, {noticed}",
        f"since {began}, opened {opened}, said {counted(state.occurrences, 'time')}{_again(state)}",
    ]
    said = numbers(state)
    # What was noticed is described by the same sentences as its numbers.
    lines += [
        each for line in (state.description or "").splitlines() if (each := line.strip()).lstrip("- ") not in said
    ]
    lines += ["", "the numbers:", *(f"  {each}" for each in said)]
    if state.affected:
        lines.append(f"  affected: {', '.join(state.affected)}")
    lines += ["", "how long it took:", *(f"  {each}" for each in took(state))]
    lines += ["", "what happened:", *(f"  {each}" for each in timeline(state))]
    if state.runs:
        lines += ["", *(f"playbook run: fleetcast playbook show {run}" for run in state.runs)]
    if state.silenced and not state.ended:
        lines += ["", f"nobody is told: {state.silenced_by}"]
    lines += ["", f"runbook: {state.runbook}"] if state.runbook else []
    return [*lines, f"next: {next_step(state)}"]


def _kind(state: IncidentState) -> str:
    return "model" if state.resource_type is ResourceType.MODEL else state.resource_type.value


def _again(state: IncidentState) -> str:
    flapping = "; it comes and goes" if state.flapping else ""
    return f", opened again {counted(state.reopened, 'time')}{flapping}" if state.reopened else flapping


def numbers(state: IncidentState) -> list[str]:
    """What it was decided by."""
    reasons = state.context.get("reasons")
    said = [str(each) for each in reasons] if isinstance(reasons, list | tuple) else []
    plain = {k: v for k, v in sorted(state.context.items()) if isinstance(v, str | int | float | bool)}
    words = [f"{name}: {value}" for name, value in plain.items() if isinstance(value, str) and " " in value]
    values = [f"{k} {_number(v)}" for k, v in plain.items() if not (isinstance(v, str) and " " in v)]
    return [*said, *words, *([", ".join(values)] if values else [])] or ["none were given"]


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def took(state: IncidentState) -> list[str]:
    """Times to detect, mitigate and resolve."""
    measured = times(state)
    known = (
        ("to detect", measured.detect_seconds),
        ("to mitigate", measured.mitigate_seconds),
        ("to resolve", measured.resolve_seconds),
    )
    return [f"{name}: {'not yet' if value is None else duration(value)}" for name, value in known]


def timeline(state: IncidentState) -> list[str]:
    """The newest entries of the timeline, and the first one."""
    entries = state.timeline
    shown = [f"{clock(moment(e.at))}  {e.what:<12} {e.by}{f': {e.detail}' if e.detail else ''}" for e in entries]
    if len(shown) <= STEPS:
        return shown
    return [shown[0], f"… {len(shown) - STEPS} more (--json has them)", *shown[-(STEPS - 1) :]]


def silence_row(silence: SilenceState) -> tuple[object, ...]:
    """What a silence holds for, until when, and who said so."""
    rules = {"resource": silence.resource, "node": silence.node, "trigger": silence.trigger}
    about = " ".join(f"{name} {value}" for name, value in rules.items() if value)
    below = f"below {silence.below}" if silence.below else "all"
    end = f"ended by {silence.ended_by}" if silence.ended_at else f"until {clock(moment(silence.until))}"
    return (silence.silence, about, below, end, silence.by, silence.reason)
