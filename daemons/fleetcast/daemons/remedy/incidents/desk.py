"""The shell around incidents: events in, requests in, heartbeats in; time passes. Whoever composes it runs `run` and
answers `fc.svc.remedy.incidents` by `answer`."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from pydantic import ValidationError

from fleetcast.bus import Bus, BusState, ConsumerSpec, Delivery, Entry, InSync
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import EVENTS, NODES_BUCKET, REMEDY
from fleetcast.config.incidents import IncidentSettings
from fleetcast.daemons.remedy.incidents import reading
from fleetcast.daemons.remedy.incidents.attendance import Attendance, Lost
from fleetcast.daemons.remedy.incidents.commands import REQUEST, Query
from fleetcast.daemons.remedy.incidents.incidents import Incidents
from fleetcast.daemons.remedy.incidents.noticing import news_of, subjects
from fleetcast.daemons.remedy.incidents.rules import Said
from fleetcast.daemons.remedy.ledger import Antecedent, RemedyLedger
from fleetcast.daemons.remedy.stream_time import StreamClock
from fleetcast.daemons.runtime.requests import read_request, refusals
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.incidents import (
    AboutResource,
    IncidentCleared,
    IncidentRaised,
    IncidentState,
    ResourceType,
    Severity,
    SilenceState,
    incident_key,
)
from fleetcast.events.payloads import Payload
from fleetcast.events.state import NodeStatus
from fleetcast.registry.commands import stamp
from fleetcast.registry.errors import RecordDamaged

log = structlog.get_logger("fleetcast.remedy")

CONSUMER = "incidents"
HEARTBEATS = f"$KV.{NODES_BUCKET}.*.distributor"
NODE_LOST = "node_lost"
HANDED_ON_SECONDS = 5.0
"""A desk that died with an event in hand holds up all later ones for this time; one at work says so meanwhile."""


class IncidentDesk:
    """Keeps incidents, beside any number of other desks.

    Attributes:
        incidents: what the rest of the daemon notes in.
        clock: the server's time.
    """

    def __init__(
        self,
        bus: Bus,
        ledger: RemedyLedger,
        settings: IncidentSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = StreamClock(bus, monotonic=monotonic)
        self.incidents = Incidents(ledger, settings, self.clock.now)
        self._bus = bus
        self._settings = settings
        self._monotonic = monotonic
        self._attendance = Attendance(lost_after_seconds=settings.node_lost_seconds)
        self._states: dict[str, IncidentState] = {}
        self._silences: dict[str, SilenceState] = {}
        self._source = f"/fleet/{bus.node}/{bus.daemon}"
        self.known = asyncio.Event()
        """Set once all incidents and silences that there are have been read."""

    @property
    def open(self) -> list[IncidentState]:
        """The incidents that have not ended, as far as they were heard of."""
        return [each for each in self._states.values() if not each.ended]

    def sentence(self) -> str:
        """How many are open, for people."""
        count = len(self.open)
        return f"{count} open incident{'' if count == 1 else 's'}" if count else "no open incident"

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.clock.run(), name="incidents-clock")
            tasks.create_task(self._follow(), name="incidents-view")
            tasks.create_task(self._attend(), name="incidents-nodes")
            tasks.create_task(self._consume(), name="incidents-events")
            tasks.create_task(self._look(), name="incidents-time")

    # -- requests

    async def answer(self, body: bytes) -> bytes:
        """The answer to a request, as JSON.

        Raises:
            ServiceError: 400: it is none; 500: what is stored cannot be read; 503: not now, ask again.
        """
        request = read_request(REQUEST.validate_json, body)
        with refusals():
            answer = await self.incidents.handle(request)
        if not isinstance(request, Query):
            log.info("incidents.answered", ask=request.ask, outcome=answer.outcome, message=answer.message)
        return answer.model_dump_json(by_alias=True).encode()

    # -- events

    async def _consume(self) -> None:
        # One at a time over all desks: what was said first is decided first, because whether something is over
        # depends on what was said last.
        spec = ConsumerSpec(
            EVENTS,
            subjects(),
            durable=CONSUMER,
            concurrency=1,
            max_ack_pending=1,
            ack_wait_seconds=HANDED_ON_SECONDS,
            description="what is wrong in the fleet, and what is not any more",
        )
        await self._bus.consume_events(spec, self._take, reject_source=self._source)

    async def _take(self, event: Event, delivery: Delivery) -> None:
        self.clock.seen(delivery.time)
        said = Said(
            id=event.id,
            correlation=event.correlationid,
            at=delivery.time,
            by=event.source,
            sequence=delivery.sequence,
        )
        for news in news_of(event, said):
            await self.incidents.take(news)

    # -- what is there

    async def _follow(self) -> None:
        async for entry in self._bus.watch(REMEDY, (reading.NEWEST, reading.SILENCES)):
            if isinstance(entry, InSync):
                self.known.set()
                continue
            self.clock.seen(entry.time)
            if entry.subject.startswith(reading.SILENCES.removesuffix("*")):
                self._silences.update((each.silence, each) for each in reading.readable((entry,), SilenceState))
            else:
                self._states.update((entry.subject, each) for each in reading.readable((entry,), IncidentState))

    async def _attend(self) -> None:
        async for entry in self._bus.watch(f"KV_{NODES_BUCKET}", (HEARTBEATS,)):
            if isinstance(entry, Entry) and entry.data:
                self._hear(entry)

    def _hear(self, entry: Entry) -> None:
        try:
            status = NodeStatus.model_validate_json(entry.data)
        except ValidationError:
            log.warning("heartbeat.unreadable", subject=entry.subject)
            return
        self.clock.seen(entry.time)
        self._attendance.hear(status.node, status.state, entry.sequence, entry.time, self._monotonic())

    # -- time

    async def _look(self) -> None:
        await self.known.wait()
        while True:
            await asyncio.sleep(self._settings.look_seconds)
            connected = self._bus.state is BusState.READY
            self._attendance.listens(connected, self._monotonic())
            if connected:
                await self._guarded(self.look)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (BusError, RecordDamaged) as e:
            log.warning("incidents.again", reason=str(e))

    async def look(self) -> None:
        """Do what time alone brings about: resolve, silence, and notice nodes that fell silent or came back."""
        silences = list(self._silences.values())
        for state in self.open:
            await self.incidents.look(state, silences)
        now = self._monotonic()
        for lost in self._attendance.lost(now):
            await self._say_lost(lost)
        for state in self.open:
            if state.trigger == NODE_LOST and state.cleared_at is None:
                await self._say_back(state, now)

    async def _say_lost(self, lost: Lost) -> None:
        about = _node_lost(lost.node)
        event = self._event(self._lost_fact(lost), lost.node, lost.sequence)
        known = self._states.get(reading.NEWEST.removesuffix("*") + incident_key(about))
        if known is None or event.id not in known.seen:
            await self._bus.publish(event)

    def _lost_fact(self, lost: Lost) -> IncidentRaised:
        silent = (self.clock.now() - lost.since).total_seconds()
        return IncidentRaised(
            **_node_lost(lost.node).model_dump(exclude_none=True),
            severity=Severity.HIGH,
            title=f"{lost.node} is lost",
            description=f"{lost.node} fell silent without having stopped",
            began_at=stamp(lost.since),
            context={
                "reasons": [f"no heartbeat for {silent:.0f} s, limit {self._settings.node_lost_seconds:g} s"],
                "node": lost.node,
                "heartbeat": lost.sequence,
            },
        )

    async def _say_back(self, state: IncidentState, now: float) -> None:
        heard = self._attendance.present(state.resource_id, now)
        if heard is None or heard.sequence == state.context.get("heartbeat"):
            return
        reason = "it stopped in order" if heard.stopped else f"heard again at {stamp(heard.stored_at)}"
        about = _node_lost(state.resource_id)
        cleared = IncidentCleared(**about.model_dump(exclude_none=True), reason=f"{state.resource_id}: {reason}")
        await self._bus.publish(self._event(cleared, state.incident, state.sequence))

    def _event(self, payload: Payload, about: str, number: int) -> Event:
        """An event with an id that every desk derives alike, so that the stream keeps one of them."""
        origin = f"{NODES_BUCKET}/{about}/{number}"
        return new_event(payload, source=self._source, cause=Antecedent(origin, origin), time=self.clock.now())


def _node_lost(node: str) -> AboutResource:
    return AboutResource(source="remedy", resource_type=ResourceType.NODE, resource_id=node, trigger=NODE_LOST)
