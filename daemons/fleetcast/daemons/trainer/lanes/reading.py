"""Lanes as they are shown, from their definitions and what the stream keeps; by whoever reads it."""

from collections.abc import Iterable
from datetime import datetime

from fleetcast.bus import Bus
from fleetcast.bus.streams import TRAINING
from fleetcast.daemons.trainer.lanes import bucket
from fleetcast.daemons.trainer.lanes.commands import LaneView, NodeVerdict
from fleetcast.daemons.trainer.lanes.loading import Lanes
from fleetcast.daemons.trainer.ledger import read
from fleetcast.events.state import Cause
from fleetcast.events.training import LaneState, TrainingRunState, lane_subject, training_subject
from fleetcast.registry.commands import stamp

UNDEFINED = "no lane file of this trainer defines it: it counts and starts nothing here"
UNANSWERED = "no trainer answers, and only a trainer's lane file says what is due: fleetcast run trainer on a node"
NOBODY = Cause(event="none", sequence=0, by="nobody", correlation="none")


async def states(bus: Bus) -> dict[str, LaneState]:
    """All ledgers, by lane.

    Raises:
        TransportFailed: the bus does not answer.
        RecordDamaged: one cannot be read.
    """
    found = [read(LaneState, entry) for entry in await bus.newest(TRAINING, (lane_subject("*"),))]
    return {state.lane: state for state in found}


async def run_of(bus: Bus, state: LaneState | None) -> TrainingRunState | None:
    """The run that a lane has under way; errors as `states`."""
    if state is None or state.run is None:
        return None
    entry = await bus.last(TRAINING, training_subject(state.run))
    return None if entry is None else read(TrainingRunState, entry)


async def views(bus: Bus, lanes: Lanes, now: datetime) -> tuple[LaneView, ...]:
    """All lanes, by name; errors as `states`."""
    kept = await states(bus)
    names = sorted({*kept, *lanes.all})
    return tuple([view(lanes, name, kept.get(name), await run_of(bus, kept.get(name)), now) for name in names])


def view(
    lanes: Lanes,
    lane: str,
    state: LaneState | None,
    run: TrainingRunState | None,
    now: datetime,
    nodes: Iterable[NodeVerdict] = (),
) -> LaneView:
    """One lane."""
    loaded = lanes.all.get(lane)
    if loaded is None:
        samples = bucket.volume(state) if state is not None else 0
        tokens = state.tokens if state is not None else 0.0
        return LaneView(
            lane=lane,
            defined=False,
            standing="undefined",
            samples=samples,
            tokens=tokens,
            reasons=(UNDEFINED,),
            state=state,
            run=run,
        )
    definition = loaded.definition
    known = state or bucket.opened(lane, now, NOBODY)
    due = bucket.due(known, definition, now)
    return LaneView(
        lane=lane,
        standing=bucket.standing(known, definition.bucket),
        samples=bucket.volume(known),
        required=definition.bucket.least_volume,
        tokens=known.tokens,
        needed=definition.bucket.required,
        due=due.yes,
        reasons=due.reasons,
        due_at=stamp(due.at) if due.at is not None else None,
        definition=definition.kept(),
        digest=definition.digest,
        file=str(loaded.file),
        state=state,
        run=run,
        nodes=tuple(nodes),
    )
