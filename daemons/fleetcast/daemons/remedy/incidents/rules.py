"""What becomes of an incident when something is said about it, or time passes. Pure: values in, a decision out.

There is one incident per resource, version and trigger. It is opened by the first event that raises it, counts those
that follow, and resolves once it was cleared, or mitigated and not raised again, for the hold-down. Raised again soon
after that it is opened anew under its id; later, it is another one. All times are those at which the stream took what
was said, never a node's.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from fleetcast.config.incidents import IncidentSettings
from fleetcast.events.ids import crockford
from fleetcast.events.incidents import (
    IncidentCleared,
    IncidentPhase,
    IncidentRaised,
    IncidentState,
    Severity,
    TimelineEntry,
    incident_key,
    is_around,
)
from fleetcast.registry.commands import stamp

TIMELINE_ENTRIES: Final = 100
SEEN_IDS: Final = 50
FLIPS: Final = 20
AFFECTED: Final = 100
RUNS: Final = 20
_ID_BITS: Final = 50
"""Ten characters of five bits: typed by hand, and a clash once in a million incidents would need a million others."""
_ORDER: Final = tuple(IncidentPhase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Where a statement comes from.

    Attributes:
        id: of the event or request; the same one counts once.
        correlation: of its first cause.
        at: when the stream took it.
        by: who said it.
        sequence: of the event in FC_EVENTS; 0: it is none.
    """

    id: str
    correlation: str
    at: datetime
    by: str
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """Something is wrong.

    Attributes:
        affected: which part of the resource; None: it has none that are told apart.
        worse_after: said so often, it is of the severity `worse`.
    """

    about: IncidentRaised
    said: Said
    affected: str | None = None
    worse_after: int | None = None
    worse: Severity = Severity.MEDIUM


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """It is not wrong any more, as far as *affected* is concerned; None: at all."""

    about: IncidentCleared
    said: Said
    affected: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A change that the fleet is told of. `what`: `opened`, or as in `IncidentChanged`."""

    what: str
    from_phase: IncidentPhase
    by: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows.

    Attributes:
        state: the incident from now on; None: nothing changes.
        told: in this order.
        past: the former incident of the same key, which goes where the past is kept.
    """

    state: IncidentState | None
    told: tuple[Told, ...] = ()
    past: IncidentState | None = None


NOTHING: Final = Decision(None)


def incident_id(key: str, opened_by: str) -> str:
    """`inc-` and ten characters: the same for whoever opens the incident because of the same event."""
    digest = hashlib.sha256(f"{key}\n{opened_by}".encode()).digest()
    return f"inc-{crockford(int.from_bytes(digest[:8]) >> (64 - _ID_BITS), 10).lower()}"


def moment(text: str) -> datetime:
    """A time as states carry it."""
    return datetime.fromisoformat(text)


# -- raised and cleared


def raised(current: IncidentState | None, news: Raised, limits: IncidentSettings) -> Decision:
    """What a statement that something is wrong makes of the incident of its key."""
    if current is None:
        return _opened(news, limits, past=None)
    if news.said.id in current.seen:
        return NOTHING
    if current.ended and not _soon(current, news.said.at, limits):
        return _opened(news, limits, past=current)
    state = _counted(current, news)
    if 0 < news.said.sequence < current.sequence:
        # Something newer has been said about whether it holds: this only counts.
        return Decision(state)
    told: list[Told] = []
    if _is_over(current, news.said.at, limits):
        state = _again(state, news, limits, told)
    return Decision(_graded(state, news, told), tuple(told))


def _opened(news: Raised, limits: IncidentSettings, *, past: IncidentState | None) -> Decision:
    about, said = news.about, news.said
    at = stamp(said.at)
    began = min(moment(about.began_at), said.at) if about.began_at else said.at
    state = IncidentState(
        incident=incident_id(incident_key(about), said.id),
        source=about.source,
        resource_type=about.resource_type,
        resource_id=about.resource_id,
        version=about.version,
        trigger=about.trigger,
        severity=about.severity,
        title=about.title,
        description=about.description,
        context=about.context,
        runbook=about.runbook or limits.runbook(_page(about)),
        began_at=stamp(began),
        opened_at=at,
        updated_at=at,
        raised_at=at,
        affected=(news.affected,) if news.affected else (),
        flips=(at,),
        sequence=said.sequence,
        seen=(said.id,),
        correlation=said.correlation,
    )
    state = _entered(state, said, "opened", first_reason(about))
    return Decision(state, (Told(what="opened", from_phase=state.phase, by=said.by, detail=first_reason(about)),), past)


def _page(about: IncidentRaised) -> str:
    """Which page of the runbooks: what is nobody's fault but the surroundings' has one of its own."""
    return "environment" if is_around(about) else about.trigger


def first_reason(about: IncidentRaised) -> str | None:
    """The first sentence of what was noticed."""
    reasons = about.context.get("reasons")
    if isinstance(reasons, list | tuple) and reasons:
        return str(reasons[0])[:500]
    return about.description


def _counted(state: IncidentState, news: Raised) -> IncidentState:
    """The same incident, with one more statement taken into account."""
    about, said = news.about, news.said
    later = said.sequence >= state.sequence
    affected = state.affected
    if news.affected and news.affected not in affected:
        affected = (*affected, news.affected)[-AFFECTED:]
    update: dict[str, Any] = {"affected": affected, "occurrences": state.occurrences + 1, **_heard(state, said)}
    if later:
        update |= {
            "sequence": said.sequence or state.sequence,
            "raised_at": stamp(said.at),
            "title": about.title,
            "context": about.context or state.context,
            "description": about.description or state.description,
            "runbook": about.runbook or state.runbook,
        }
    return state.model_copy(update=update)


def _is_over(state: IncidentState, at: datetime, limits: IncidentSettings) -> bool:
    """Whether it was thought to be over, so that being raised at *at* is news."""
    if state.ended or state.cleared_at is not None:
        return True
    if state.phase is not IncidentPhase.MITIGATED or state.mitigated_at is None:
        return False
    # What a remedy cures is still being reported for a moment.
    return at > moment(state.mitigated_at) + timedelta(seconds=limits.settle_seconds)


def _again(state: IncidentState, news: Raised, limits: IncidentSettings, told: list[Told]) -> IncidentState:
    """It came back: the same incident is open again."""
    said, before = news.said, state.phase
    state = _flipped(state, said, limits, told)
    over = before in {IncidentPhase.RESOLVED, IncidentPhase.MITIGATED}
    back = IncidentPhase.ACKNOWLEDGED if state.acknowledged_at and not state.ended else IncidentPhase.OPEN
    update: dict[str, Any] = {"cleared_at": None, "resolved_at": None}
    if over:
        update |= {"phase": back, "mitigated_at": None, "reopened": state.reopened + 1}
    if state.ended:
        update |= {"acknowledged_at": None, "acknowledged_by": None}
    state = state.model_copy(update=update)
    if not over:
        return state
    detail = first_reason(news.about)
    state = _entered(state, said, "reopened", detail)
    if not state.flapping:
        told.append(Told(what="reopened", from_phase=before, by=said.by, detail=detail))
    return state


def _graded(state: IncidentState, news: Raised, told: list[Told]) -> IncidentState:
    """The severity that it has now."""
    severity = news.about.severity
    if news.worse_after is not None and state.occurrences >= news.worse_after:
        severity = max(severity, news.worse, key=lambda each: each.rank)
    if severity is state.severity:
        return state
    detail = f"{state.severity} before; {first_reason(news.about) or state.title}"
    state = _entered(state.model_copy(update={"severity": severity}), news.said, "severity", detail)
    told.append(Told(what="severity", from_phase=state.phase, by=news.said.by, detail=detail))
    return state


def cleared(current: IncidentState | None, news: Cleared, limits: IncidentSettings) -> Decision:
    """What a statement that it is over makes of an incident: mitigated, and resolved after the hold-down."""
    if current is None or current.ended or news.said.id in current.seen:
        return NOTHING
    if 0 < news.said.sequence < current.sequence:
        return NOTHING
    said = news.said
    left = tuple(each for each in current.affected if each != news.affected) if news.affected else ()
    state = current.model_copy(
        update={"affected": left, "sequence": said.sequence or current.sequence, **_heard(current, said)}
    )
    if news.affected is not None and (left or news.affected not in current.affected):
        return Decision(state) if left != current.affected else NOTHING
    if current.cleared_at is not None:
        return NOTHING
    told: list[Told] = []
    state = _flipped(state, said, limits, told)
    state = state.model_copy(
        update={"cleared_at": stamp(said.at), "context": {**state.context, **news.about.context}},
    )
    if state.phase is IncidentPhase.MITIGATED:
        return Decision(_entered(state, said, "cleared", news.about.reason), tuple(told))
    before = state.phase
    state = _mitigated(state, said.at)
    state = _entered(state, said, "mitigated", news.about.reason)
    if not state.flapping:
        told.append(Told(what="mitigated", from_phase=before, by=said.by, detail=news.about.reason))
    return Decision(state, tuple(told))


def _flipped(state: IncidentState, said: Said, limits: IncidentSettings, told: list[Told]) -> IncidentState:
    """It came or went: too often within a time, and its changes are not told any more."""
    flips = tuple(
        each for each in state.flips if said.at - moment(each) <= timedelta(seconds=limits.flap_window_seconds)
    )
    flips = (*flips, stamp(said.at))[-FLIPS:]
    flapping = len(flips) >= limits.flap_changes
    if flapping and not state.flapping:
        detail = f"came and went {len(flips)} times in {limits.flap_window_seconds / 60:g} minutes; not told any more"
        state = _entered(state, said, "flapping", detail)
        told.append(Told(what="flapping", from_phase=state.phase, by=said.by, detail=detail))
    return state.model_copy(update={"flips": flips, "flapping": flapping or state.flapping})


# -- people and playbooks


def acknowledged(current: IncidentState, said: Said, reason: str) -> Decision:
    """Somebody looks after it."""
    if current.ended or said.id in current.seen or current.acknowledged_at is not None:
        return NOTHING
    before = current.phase
    phase = IncidentPhase.ACKNOWLEDGED if before is IncidentPhase.OPEN else before
    update = {"phase": phase, "acknowledged_at": stamp(said.at), "acknowledged_by": said.by, **_heard(current, said)}
    state = _entered(current.model_copy(update=update), said, "acknowledged", reason)
    return Decision(state, (Told(what="acknowledged", from_phase=before, by=said.by, detail=reason),))


def noted(
    current: IncidentState,
    said: Said,
    what: str,
    detail: str,
    *,
    phase: IncidentPhase | None,
    run: str | None,
    told: bool = True,
) -> Decision:
    """Something was done about it, which may bring it to another *phase*; a note never opens what has ended.

    *told*: the fleet is told even where it only adds to the timeline.
    """
    if said.id in current.seen:
        return NOTHING
    runs = (*current.runs, run)[-RUNS:] if run and run not in current.runs else current.runs
    before = current.phase
    state = current.model_copy(update={"runs": runs, **_heard(current, said)})
    if phase is IncidentPhase.RESOLVED and not state.ended:
        return resolved(state, replace(said, id=f"{said.id}/resolved"), detail)
    # What a run still does after the effect is over takes nothing back: only being raised again does.
    back = phase is IncidentPhase.MITIGATING and before is IncidentPhase.MITIGATED
    moved = phase is not None and not state.ended and phase is not before and not back
    if moved:
        assert phase is not None
        state = _mitigated(state, said.at) if phase is IncidentPhase.MITIGATED else _at(state, phase)
    state = _entered(state, said, what, detail)
    if not (moved or told):
        return Decision(state)
    return Decision(state, (Told(what=str(phase) if moved else "note", from_phase=before, by=said.by, detail=detail),))


def _at(state: IncidentState, phase: IncidentPhase) -> IncidentState:
    return state.model_copy(update={"phase": phase, "mitigated_at": None})


def _mitigated(state: IncidentState, at: datetime) -> IncidentState:
    return state.model_copy(
        update={"phase": IncidentPhase.MITIGATED, "mitigated_at": state.mitigated_at or stamp(at)},
    )


def resolved(current: IncidentState, said: Said, reason: str) -> Decision:
    """It is over, because somebody says so or because it held still for long enough."""
    if current.ended or said.id in current.seen:
        return NOTHING
    before, at = current.phase, stamp(said.at)
    update = {
        "phase": IncidentPhase.RESOLVED,
        "resolved_at": at,
        "mitigated_at": current.mitigated_at or at,
        "flapping": False,
        "affected": (),
        **_heard(current, said),
    }
    state = _entered(current.model_copy(update=update), said, "resolved", reason)
    return Decision(state, (Told(what="resolved", from_phase=before, by=said.by, detail=reason),))


def hushed(current: IncidentState, said: Said, by: str | None, detail: str) -> Decision:
    """A silence or a maintenance window holds for it from now on (*by*: its id), or none does any more (None)."""
    if current.ended or (by is not None) is current.silenced:
        return NOTHING
    what = "silenced" if by is not None else "unsilenced"
    update = {"silenced": by is not None, "silenced_by": by}
    state = _entered(current.model_copy(update=update), said, what, detail)
    return Decision(state, (Told(what=what, from_phase=state.phase, by=said.by, detail=detail),))


# -- time


def resolves_at(state: IncidentState, limits: IncidentSettings) -> datetime | None:
    """When it resolves if nothing more is said; None: it does not by itself."""
    if state.ended or (state.cleared_at is None and state.phase is not IncidentPhase.MITIGATED):
        return None
    quiet = [moment(each) for each in (state.cleared_at, state.mitigated_at, state.raised_at) if each]
    hold = limits.flap_window_seconds if state.flapping else limits.hold_down_seconds
    return max(quiet) + timedelta(seconds=max(hold, limits.hold_down_seconds))


def passed(state: IncidentState, said: Said, limits: IncidentSettings) -> Decision:
    """What time makes of it: the hold-down is over."""
    due = resolves_at(state, limits)
    if due is None or said.at < due:
        return NOTHING
    held = timedelta(seconds=limits.hold_down_seconds)
    why = "cleared" if state.cleared_at else "mitigated"
    return resolved(state, said, f"{why}, and not raised again for {held.total_seconds():g} s")


# -- numbers


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from the first evidence; None: not yet."""

    detect_seconds: float
    mitigate_seconds: float | None
    resolve_seconds: float | None


def times(state: IncidentState) -> Times:
    """How long it took to notice it, to stop its effect, and to be sure that it is over."""
    began = moment(state.began_at)

    def since(at: str | None) -> float | None:
        return None if at is None else max(0.0, (moment(at) - began).total_seconds())

    return Times(since(state.opened_at) or 0.0, since(state.mitigated_at), since(state.resolved_at))


def ranked(state: IncidentState) -> tuple[bool, int, int, str]:
    """Sorts what matters most first: what is open before what has ended, by severity and phase, the oldest first."""
    return state.ended, -state.severity.rank, _ORDER.index(state.phase), state.opened_at


def _soon(state: IncidentState, at: datetime, limits: IncidentSettings) -> bool:
    return state.resolved_at is not None and at - moment(state.resolved_at) <= timedelta(seconds=limits.reopen_seconds)


def _heard(state: IncidentState, said: Said) -> dict[str, Any]:
    at = max(moment(state.updated_at), said.at)
    return {"seen": (*state.seen, said.id)[-SEEN_IDS:], "updated_at": stamp(at)}


def _entered(state: IncidentState, said: Said, what: str, detail: str | None) -> IncidentState:
    """One line more in the timeline; the first one, how it was opened, stays."""
    entry = TimelineEntry(at=stamp(said.at), what=what, by=said.by, detail=detail)
    line = (*state.timeline, entry)
    if len(line) > TIMELINE_ENTRIES:
        line = (line[0], *line[-(TIMELINE_ENTRIES - 1) :])
    return state.model_copy(update={"timeline": line})
