"""What events ask for: requests for a rollback or a playbook, incidents that start one, and the end of runs, which the
incidents that they were for are told."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from fleetcast.bus import Bus, ConsumerSpec, Delivery, Reject
from fleetcast.bus.streams import EVENTS
from fleetcast.daemons.remedy.playbooks.keeper import Keeper
from fleetcast.daemons.remedy.playbooks.turns import Ask
from fleetcast.events.envelope import Event
from fleetcast.events.incidents import (
    IncidentOpened,
    IncidentPhase,
    IncidentState,
    ResourceType,
    RollbackRequested,
)
from fleetcast.events.names import find
from fleetcast.events.remedies import PlaybookRequested, PlaybookRunChanged, RunPhase, StepOutcome
from fleetcast.events.state import Cause
from fleetcast.registry.commands import stamp

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.remedy")

CONSUMER = "playbooks"
TELLING = "playbooks-told"
ROLLBACK = "model_rollback"
CONCURRENCY = 8
HANDED_ON_SECONDS = 3.0
"""A daemon that died with a request in hand holds it up for this time; one at work says so meanwhile."""

PHASES = {
    RunPhase.RUNNING: IncidentPhase.MITIGATING,
    RunPhase.SUCCEEDED: IncidentPhase.MITIGATED,
}
"""What an incident comes to by a run that is for it; by other ends it stays where it is."""


@dataclass(frozen=True, slots=True)
class Incidents:
    """What is asked of the incidents in the same daemon.

    Attributes:
        open: those that have not ended.
        note: adds to one of them (`incidents.Incidents.note`).
    """

    open: Callable[[], list[IncidentState]]
    note: Callable[..., Awaitable[object]]


class Intake:
    """Consumes events for a keeper. Any number of daemons share the work; a run's id is that of its request."""

    def __init__(self, bus: Bus, keeper: Keeper, incidents: Incidents) -> None:
        self._bus = bus
        self._keeper = keeper
        self._incidents = incidents
        self._source = f"/fleet/{bus.node}/{bus.daemon}"

    async def consume(self) -> None:
        """Take requests until cancelled."""
        spec = ConsumerSpec(
            EVENTS,
            tuple(
                subject
                for name in ("model.rollback.requested", "playbook.requested", "incident.opened")
                for subject in find(name).filters()
            ),
            durable=CONSUMER,
            concurrency=CONCURRENCY,
            ack_wait_seconds=HANDED_ON_SECONDS,
            description="what asks for a playbook",
        )
        await self._bus.consume_events(spec, self._take, reject_source=self._source, report_invalid=True)

    async def tell(self) -> None:
        """Tell incidents of the runs that are for them, until cancelled. Not within the run: a rollback waits for
        nobody's timeline."""
        spec = ConsumerSpec(
            EVENTS,
            find("playbook.run.changed").filters(),
            durable=TELLING,
            concurrency=1,
            max_ack_pending=1,
            ack_wait_seconds=HANDED_ON_SECONDS,
            description="runs of playbooks, for the timelines of incidents",
        )
        await self._bus.consume_events(spec, self._told, reject_source=self._source)

    async def _take(self, event: Event, delivery: Delivery) -> None:
        match event.payload:
            case RollbackRequested() as asked:
                await self._ask(rollback_ask(asked, event, delivery))
            case PlaybookRequested() as asked:
                await self._ask(playbook_ask(asked, event, delivery))
            case IncidentOpened() as opened:
                for ask in self._asks_of(opened, event, delivery):
                    await self._ask(ask)

    async def _ask(self, ask: Ask) -> None:
        if self._keeper.playbooks.find(ask.playbook) is None:
            raise Reject(
                f"there is no playbook {ask.playbook}",
                field="playbook",
                next_step=f"fleetcast playbooks    ({self._keeper.playbooks.close_to(ask.playbook)})",
            )
        await self._keeper.ask(ask)

    def _asks_of(self, opened: IncidentOpened, event: Event, delivery: Delivery) -> list[Ask]:
        """The playbooks that an incident starts by itself."""
        if opened.silenced or opened.source == "remedy":
            # Nobody wants to be told of it; or it is about a playbook that could not help, which no playbook helps.
            return []
        return [
            Ask(
                playbook=loaded.playbook.name,
                resource_type=opened.resource_type,
                resource_id=opened.resource_id,
                version=opened.version,
                incident=opened.incident,
                severity=opened.severity,
                reasons=(opened.title,),
                evidence={"trigger": opened.trigger, "source": opened.source},
                by=opened.source,
                by_event=True,
                cause=cause_of(event, delivery, opened.source),
                asked_at=stamp(delivery.time),
            )
            for loaded in self._keeper.playbooks.all.values()
            if any(rule.matches(opened) for rule in loaded.playbook.on)
        ]

    async def _told(self, event: Event, delivery: Delivery) -> None:
        said = event.payload
        if not isinstance(said, PlaybookRunChanged) or not worth_noting(said):
            return
        for incident in concerned(said, self._incidents.open()):
            await self._incidents.note(
                incident,
                "playbook",
                said.by,
                sentence(said),
                PHASES.get(said.phase),
                run=said.run,
                request=event.id,
                # Single steps are facts of their own already.
                told=said.phase is not RunPhase.RUNNING,
            )


def rollback_ask(asked: RollbackRequested, event: Event, delivery: Delivery) -> Ask:
    """What a request for a rollback asks for. What evidence says of approval holds, whoever says it."""
    return Ask(
        playbook=ROLLBACK,
        resource_type=ResourceType.MODEL,
        resource_id=asked.model,
        version=asked.version,
        to=asked.to,
        incident=asked.incident,
        severity=asked.severity,
        reasons=asked.reasons,
        evidence=asked.evidence,
        by=asked.requested_by,
        by_event=True,
        approval=asked.evidence.get("approval") == "required",
        cause=cause_of(event, delivery, asked.requested_by),
        asked_at=stamp(delivery.time),
    )


def playbook_ask(asked: PlaybookRequested, event: Event, delivery: Delivery) -> Ask:
    """What a request for a playbook asks for."""
    return Ask(
        playbook=asked.playbook,
        resource_type=asked.resource_type,
        resource_id=asked.resource_id,
        version=asked.version,
        incident=asked.incident,
        reasons=asked.reasons,
        evidence=asked.evidence,
        params=asked.params,
        by=asked.requested_by,
        by_event=True,
        approval=asked.evidence.get("approval") == "required",
        cause=cause_of(event, delivery, asked.requested_by),
        asked_at=stamp(delivery.time),
    )


def cause_of(event: Event, delivery: Delivery, by: str) -> Cause:
    return Cause(event=event.id, sequence=delivery.sequence, by=by, correlation=event.correlationid)


def worth_noting(said: PlaybookRunChanged) -> bool:
    """Whether a change of a run belongs into a timeline: that it begins, what came of each step, and its end."""
    if said.drill or said.phase is RunPhase.NOTHING:
        return False
    return said.begins or said.phase is not RunPhase.RUNNING or said.outcome is not StepOutcome.RUNNING


def concerned(said: PlaybookRunChanged, known: list[IncidentState]) -> list[str]:
    """The incidents that a run is for: the one that it names, or else the open ones about the same version."""
    if said.incident is not None:
        return [said.incident]
    return [
        each.incident
        for each in known
        if (each.resource_type, each.resource_id) == (said.resource_type, said.resource_id)
        and each.source != "remedy"
        and said.version in {None, each.version}
    ]


def sentence(said: PlaybookRunChanged) -> str:
    """A change of a run in one line of a timeline."""
    detail = f": {said.detail}" if said.detail else ""
    return f"{said.playbook} {said.run} {said.progress}{detail}"[:500]
