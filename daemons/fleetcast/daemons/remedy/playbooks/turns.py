"""From what is asked to a run, and whose turn it is: one run per resource at a time, and none that the breaker stops.
Pure: values in, values to be written in one batch out."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from fleetcast.daemons.remedy.playbooks import rules
from fleetcast.daemons.remedy.playbooks.breaker import Breaker
from fleetcast.daemons.remedy.playbooks.definition import Playbook
from fleetcast.events.ids import derived_id
from fleetcast.events.incidents import ResourceType, Severity
from fleetcast.events.remedies import (
    RUN_ENDED,
    FleetRuns,
    PlaybookRunState,
    ResourceRuns,
    RunNote,
    RunPhase,
)
from fleetcast.events.state import Cause, SlotState
from fleetcast.registry.commands import stamp

REMEMBERED: Final = 20
REMEMBERED_OF_FLEET: Final = 200
MOST_WAITING: Final = 10
_ID_LENGTH: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What somebody asks for, whichever way it came.

    Attributes:
        by_event: the breaker holds for it; what a person says to a daemon directly is not stopped.
        approval: somebody has to agree first.
        asked_at: when it was stored, by the server's clock.
    """

    playbook: str
    resource_type: ResourceType = ResourceType.MODEL
    resource_id: str
    version: str | None = None
    to: str | None = None
    incident: str | None = None
    severity: Severity = Severity.HIGH
    reasons: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    by: str
    by_event: bool
    approval: bool = False
    drill: bool = False
    cause: Cause
    asked_at: str

    @property
    def run(self) -> str:
        """Id of its run: the same for the same request, however often it is delivered."""
        return f"pb-{derived_id(self.cause.event, 'playbook.run', self.playbook)[:_ID_LENGTH].lower()}"


@dataclass(frozen=True, slots=True)
class Books:
    """What is written together with a run.

    Attributes:
        resource: the runs about its resource.
        fleet: what the breaker counts.
        superseded: a run that waited for somebody to agree, and gives way.
    """

    resource: ResourceRuns
    fleet: FleetRuns
    superseded: PlaybookRunState | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a run's beginning depends on.

    Attributes:
        breaker: the limits in force.
        slot: of the model, as it is ordered now; None: there is none.
        request_age_seconds: at which nobody wants it any more.
    """

    breaker: Breaker
    slot: SlotState | None
    request_age_seconds: float


def made(ask: Ask, playbook: Playbook, now: datetime) -> PlaybookRunState:
    """The run that a request asks for, before anything is decided about it."""
    approval = playbook.approval == "always" or (playbook.approval == "asked" and ask.approval)
    return PlaybookRunState(
        run=ask.run,
        playbook=playbook.name,
        digest=playbook.digest,
        description=playbook.description,
        resource_type=ask.resource_type,
        resource_id=ask.resource_id,
        model=ask.resource_id if ask.resource_type is ResourceType.MODEL else None,
        version=ask.version,
        to=ask.to,
        incident=ask.incident,
        severity=ask.severity,
        reasons=ask.reasons,
        evidence=ask.evidence,
        params={**playbook.params, **ask.params},
        automatic=ask.by_event and not approval,
        breaker=playbook.breaker,
        only_if_served=playbook.only_if_served,
        drill=ask.drill,
        by=ask.by,
        asked_at=ask.asked_at,
        at=stamp(now),
        steps=playbook.records(approval=approval),
        cause=ask.cause,
    )


def opened(
    run: PlaybookRunState, books: Books, busy: PlaybookRunState | None, on: Conditions, owner: str, now: datetime
) -> tuple[PlaybookRunState, Books]:
    """A new run: it begins, waits for its turn, or ends at once.

    Args:
        busy: the run that is carried out about the resource.
        owner: who carries it out, if it begins.
    """
    age = rules.seconds_since(run.asked_at, now)
    if age > on.request_age_seconds:
        why = f"asked {age / 3600:.1f} h ago, and nobody took it: ask again if it is still wanted"
        return _at_once(run, books, RunPhase.REFUSED, why, now)
    if busy is not None and _same(run, busy):
        return _at_once(run, books, RunPhase.NOTHING, f"{busy.run} is at it already", now)
    if busy is None:
        return turn(run, books, on, owner, now)
    if busy.phase is RunPhase.APPROVAL and busy.playbook == run.playbook:
        # Somebody wants it now: nobody has to agree to the other one any more.
        given_way = rules.ended(busy, RunPhase.CANCELLED, f"{run.run} of {run.by} takes its place", now)
        return turn(run, replace(left(given_way, books), superseded=given_way), on, owner, now)
    if len(books.resource.waiting) >= MOST_WAITING:
        why = f"{len(books.resource.waiting)} runs about {run.resource_id} wait already"
        return _at_once(run, books, RunPhase.REFUSED, why, now)
    waiting = (*books.resource.waiting, run.run)
    told = run.model_copy(update={"phase_detail": f"waits for the end of {busy.run}"})
    return told, replace(books, resource=books.resource.model_copy(update={"waiting": waiting}))


def turn(
    run: PlaybookRunState, books: Books, on: Conditions, owner: str, now: datetime
) -> tuple[PlaybookRunState, Books]:
    """A run whose turn it is: it begins, or there is a reason against it."""
    if run.only_if_served and run.version is not None and not is_served(on.slot, run.version):
        why = f"{run.resource_id}@{run.version} is not served any more; {_serves(on.slot)}: nothing to do"
        return _at_once(run, books, RunPhase.NOTHING, why, now)
    if run.breaker and run.automatic and not run.drill:
        why = on.breaker.objection(books.resource, books.fleet, now)
        if why:
            return _at_once(run, books, RunPhase.REFUSED, why, now)
    begun = rules.advanced(run.model_copy(update={"phase": RunPhase.RUNNING, "owner": owner, "phase_detail": ""}), now)
    note = _note(begun, now)
    resource = books.resource.model_copy(
        update={
            "running": run.run,
            "waiting": tuple(each for each in books.resource.waiting if each != run.run),
            "recent": (note, *_others(books.resource.recent, run.run))[:REMEMBERED],
        }
    )
    fleet = books.fleet
    if run.breaker and not run.drill:
        fleet = FleetRuns(recent=(note, *_others(fleet.recent, run.run))[:REMEMBERED_OF_FLEET])
    return begun, replace(books, resource=resource, fleet=fleet)


def left(run: PlaybookRunState, books: Books) -> Books:
    """What is kept once a run has ended: the next one that waits has its turn."""
    resource = books.resource
    notes = tuple(n.model_copy(update={"phase": run.phase}) if n.run == run.run else n for n in resource.recent)
    waiting = tuple(each for each in resource.waiting if each != run.run)
    update: dict[str, Any] = {"recent": notes, "waiting": waiting}
    if resource.running == run.run:
        update |= {"running": waiting[0] if waiting else None, "waiting": waiting[1:]}
    fleet = FleetRuns(
        recent=tuple(n.model_copy(update={"phase": run.phase}) if n.run == run.run else n for n in books.fleet.recent)
    )
    return replace(books, resource=resource.model_copy(update=update), fleet=fleet)


def is_served(slot: SlotState | None, version: str) -> bool:
    """Whether a slot has nodes serve a version now."""
    return slot is not None and any(e is not None and e.version == version for e in (slot.production, slot.canary))


def _at_once(
    run: PlaybookRunState, books: Books, phase: RunPhase, why: str, now: datetime
) -> tuple[PlaybookRunState, Books]:
    """A run that ends before its first step."""
    over = rules.ended(run, phase, why, now)
    after = left(over, books)
    recent = (_note(over, now), *_others(after.resource.recent, run.run))[:REMEMBERED]
    return over, replace(after, resource=after.resource.model_copy(update={"recent": recent}))


def _same(run: PlaybookRunState, busy: PlaybookRunState) -> bool:
    """Whether a run would do what another one does already."""
    if busy.phase in RUN_ENDED or (busy.phase is RunPhase.APPROVAL and not _asks(run)):
        return False
    return (run.playbook, run.version, run.to, run.params) == (busy.playbook, busy.version, busy.to, busy.params)


def _asks(run: PlaybookRunState) -> bool:
    return bool(run.steps) and run.steps[0].action == "approval"


def _note(run: PlaybookRunState, now: datetime) -> RunNote:
    return RunNote(
        run=run.run,
        playbook=run.playbook,
        resource_id=run.resource_id,
        at=stamp(now),
        automatic=run.automatic and run.breaker and not run.drill,
        phase=run.phase,
    )


def _others(notes: tuple[RunNote, ...], run: str) -> tuple[RunNote, ...]:
    return tuple(note for note in notes if note.run != run)


def _serves(slot: SlotState | None) -> str:
    if slot is None or slot.production is None:
        return "nothing is served"
    beside = f", canary {slot.canary.version}" if slot.canary else ""
    return f"{slot.production.version} is{beside}"
