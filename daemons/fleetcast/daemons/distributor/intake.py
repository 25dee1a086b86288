"""Intake: one look at every event by one distributor of the fleet, so that nothing is refused in silence and nothing is
refused three hundred times: what does not parse, what names a node that does not exist, and checkpoints that a run's
former owner tells of."""

from typing import Final

import structlog

from fleetcast.bus import ConsumerSpec, Delivery, Reject, Retry
from fleetcast.bus.streams import EVENTS
from fleetcast.daemons.distributor.neighbours import Neighbours
from fleetcast.daemons.distributor.origin import SUBMISSIONS, OriginDesk, submission_subjects
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.rules import check_addressee
from fleetcast.events.envelope import Event
from fleetcast.events.runs import RunCheckpointSaved
from fleetcast.registry.fencing import Fence

log = structlog.get_logger("fleetcast.distributor.intake")

INTAKE: Final = ConsumerSpec(stream=EVENTS, subjects=("fc.ev.>",), durable="intake", start="all", concurrency=16)
"""How the distributors of a fleet share the look at all events."""
CHECKPOINT = "run.checkpoint.saved"
PATIENCE = 3
"""Looks at an event that names an unknown node before it is refused: its node may be starting right now."""
PATIENCE_SECONDS = 2.0
CLAIMS_REMEMBERED = 1000
"""Whose checkpoints were refused, and by which event: what else comes under the same claim has no effect, and is not
refused again."""


class IntakeDesk:
    """Checks every event of the fleet once."""

    def __init__(self, parts: Parts, neighbours: Neighbours) -> None:
        self._parts = parts
        self._neighbours = neighbours
        self._fence = Fence(parts.bus)
        self._refused: dict[tuple[str, int], str] = {}

    async def handle(self, event: Event, delivery: Delivery) -> None:
        """Refuse a submission to a node that nobody knows, and a checkpoint of a run that another claim holds.

        Raises:
            Retry: the node may be about to start.
            Reject: it is not.
        """
        if event.type.name == CHECKPOINT:
            await self._check_claim(event)
        if event.type.name not in SUBMISSIONS:
            return
        node = getattr(event.payload, "node", "")
        unknown = check_addressee(node, {*self._neighbours.nodes, self._parts.node})
        if unknown is None:
            return
        if delivery.attempt < PATIENCE:
            raise Retry(PATIENCE_SECONDS)
        if await self._neighbours.is_known(node):
            return
        raise Reject(unknown.reason, field="node", next_step=unknown.next_step)

    async def _check_claim(self, event: Event) -> None:
        stale = await self._fence.check(event)
        if stale is None:
            return
        said = event.payload
        assert isinstance(said, RunCheckpointSaved)
        claim = (said.run_id, said.claim or 0)
        # A stalled node saves on for hours: one letter says that it does, a thousand would hide all others. The event
        # of that letter is refused whenever it comes again: the letter may not have been written.
        if self._refused.setdefault(claim, event.id) == event.id:
            if len(self._refused) > CLAIMS_REMEMBERED:
                del self._refused[next(iter(self._refused))]
            raise Reject(stale.reason, field="claim", next_step=stale.next_step, winner=stale.winner)


async def consume_intake(parts: Parts, desk: IntakeDesk) -> None:
    """Share the look at all events with the other distributors, until cancelled."""
    await parts.bus.consume_events(INTAKE, desk.handle, reject_source=parts.source, report_invalid=True)


async def consume_submissions(parts: Parts, desk: OriginDesk) -> None:
    """Take what names this node, until cancelled."""
    spec = submissions_to(parts.node)
    await parts.bus.consume_events(spec, desk.handle, reject_source=parts.source, report_invalid=False)


def submissions_to(node: str) -> ConsumerSpec:
    """How a distributor reads what may name its node."""
    return ConsumerSpec(
        stream=EVENTS,
        subjects=submission_subjects(),
        durable=f"origin-{node}",
        start="all",
        concurrency=2,
        double_ack=True,
    )
