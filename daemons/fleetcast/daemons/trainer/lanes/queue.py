"""From a due lane to a run that waits for a node, and the job in `FC_WORK` that says so. The run's id says what it is,
so that no two trainers make two of them."""

import hashlib
from datetime import datetime
from typing import Final

from fleetcast.bus import Bus
from fleetcast.bus.errors import SubjectFull
from fleetcast.daemons.trainer.claims.jobs import Job
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.ids import canonical_json
from fleetcast.events.state import Cause
from fleetcast.events.training import CountedExport, DataInput, TrainingRunState, work_subject
from fleetcast.registry.commands import stamp

LANE_LETTERS: Final = 21
"""Of the lane in a run's id: with a dash and 20 digits, 42 of the 48 that an id may have."""
DIGITS: Final = 20


def run_id(definition: LaneDefinition, artifact: str, asked_for: str = "") -> str:
    """The id of the run of a lane over a data set: the same lane, bytes, code and command give the same id, for ever.
    *asked_for*: id of the request, when a person wants another one over the same data."""
    says = {
        "lane": definition.name,
        "artifact": artifact,
        "fingerprint": definition.fingerprint,
        "asked_for": asked_for,
    }
    return f"{definition.name[:LANE_LETTERS]}-{hashlib.sha256(canonical_json(says)).hexdigest()[:DIGITS]}"


def new_run(
    definition: LaneDefinition, data: CountedExport, now: datetime, cause: Cause, *, asked_for: str = ""
) -> TrainingRunState:
    """The record of a run that waits for a node."""
    return TrainingRunState(
        run=run_id(definition, data.artifact, asked_for),
        lane=definition.name,
        model=definition.model,
        work_class=definition.work_class,
        n=1,
        phase_detail="waits for a node",
        data=(DataInput(lane=definition.name, version=data.version, artifact=data.artifact, samples=data.total),),
        definition=definition.kept(),
        priority=definition.priority,
        created_at=stamp(now),
        at=stamp(now),
        cause=cause,
    )


async def put(bus: Bus, run: TrainingRunState) -> bool:
    """Have a run's job waiting; False: one of its lane waits already, and one is enough. The message has no id of its
    own: the server would take a job that got lost within the last half hour for a repetition.

    Raises:
        BusUnavailable: it could not be stored; the next comparison of lanes and jobs puts it there.
    """
    job = Job(run=run.run, lane=run.lane).model_dump_json().encode()
    try:
        await bus.publish_raw(work_subject(run.work_class, run.lane), job)
    except SubjectFull:
        return False
    return True
