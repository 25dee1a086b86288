"""What `fleetcast why` tells of a lane and of a run: the ledger, the claims, and which nodes may take it."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from fleetcast.bus import Bus
from fleetcast.bus.errors import NotFound
from fleetcast.bus.streams import TRAINING
from fleetcast.cli.training.lane_tables import told
from fleetcast.cli.training.lanes import view_of
from fleetcast.cli.units import clock, moment
from fleetcast.daemons.trainer.claims.eligibility import NodeFacts, eligible, facts_of
from fleetcast.daemons.trainer.claims.rules import kept_away
from fleetcast.daemons.trainer.faults.returning import may_return
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.ledger import read
from fleetcast.daemons.trainer.moving import candidates
from fleetcast.events.training import TRAINING_ENDED, Attempt, TrainingPhase, TrainingRunState, training_subject
from fleetcast.registry.picture.nodes import NodeView

ATTEMPTS_SHOWN = 10
"""Newest claims of a run that are told; `runs show` has all of its faults."""


async def lane_facts(bus: Bus, lane: str) -> list[str]:
    """A lane's ledger in sentences; none: there is no lane of that name.

    Raises:
        TransportFailed: the bus does not answer.
    """
    view = await view_of(bus, lane)
    return told(view) if view is not None else []


async def run_of(bus: Bus, run: str) -> TrainingRunState | None:
    """What is kept of a run that a lane started; None: nothing.

    Raises:
        TransportFailed: the bus does not answer.
        RecordDamaged: it cannot be read.
    """
    try:
        entry = await bus.last(TRAINING, training_subject(run))
    except NotFound:
        return None
    return read(TrainingRunState, entry) if entry is not None else None


def nodes_of(trainers: Iterable[NodeView], distributors: Iterable[NodeView]) -> list[NodeFacts]:
    """The nodes that train, as trainers see them when they race for a run."""
    held = {view.name: view.status for view in distributors}
    silent = {True: (), False: ("trainer",)}
    return [facts_of(view.status, held.get(view.name), silent=silent[view.alive]) for view in trainers]


def run_told(run: TrainingRunState, nodes: Sequence[NodeFacts], now: datetime | None = None) -> list[str]:
    """A run in sentences: where it stands and why, what each claim came to, what it goes on from, and what it waits
    for: a node, or a GPU to return to."""
    at = now or datetime.now(UTC)
    where = f" on {run.owner}, claim {run.claim}" if run.owner else ""
    detail = f": {run.phase_detail}" if run.phase_detail else ""
    said = [f"run {run.run} of lane {run.lane} is {run.phase.value}{where}{detail}"]
    said += [_attempt(each, at) for each in run.attempts[-ATTEMPTS_SHOWN:]]
    said += _away(run, at)
    said += _from(run, at)
    if run.phase is TrainingPhase.SUCCEEDED:
        said.append(_came_of(run))
    if run.phase is TrainingPhase.QUEUED:
        said += _waits(run, nodes, at)
    if run.phase is TrainingPhase.DEGRADED:
        found = may_return(run, candidates(run, nodes, at), at)
        said += [f"it stays on the CPU: {each}" for each in found.reasons]
    following = " --follow" if run.owner is not None and run.ended_at is None else ""
    return [*said, *([f"next: fleetcast logs {run.run}{following}"] if run.attempts else [])]


def _attempt(attempt: Attempt, now: datetime) -> str:
    began = clock(moment(attempt.started_at), now)
    until = f" to {clock(moment(attempt.ended_at), now)}" if attempt.ended_at else ""
    on = f" ({attempt.device})" if attempt.device else ""
    step = f", from step {attempt.resumed_step}" if attempt.resumed_step is not None else ""
    slower = f", a step takes {attempt.slower:.3g} times as long" if attempt.slower is not None else ""
    came = f": {attempt.outcome}, {attempt.detail}" if attempt.outcome else ": under way"
    # Where a run is not tried again, that is what the detail says already.
    look = f"; {attempt.guidance}" if attempt.guidance and attempt.guidance not in attempt.detail else ""
    return f"claim {attempt.claim} on {attempt.node}{on}, {began}{until}{step}{slower}{came}{look}"


def _away(run: TrainingRunState, now: datetime) -> list[str]:
    """Which nodes people let it go to again, and from which it is kept."""
    said = [
        f"since {clock(moment(each.at), now)}, and not from {clock(moment(each.until), now)} on, it may go to "
        f"{each.node} again: {each.by}: {each.reason}"
        for each in run.allowed
    ]
    if run.phase not in TRAINING_ENDED:
        said += (
            f"it is kept away from {node} until {clock(moment(until), now)}; once that is repaired: "
            f"fleetcast runs allow {run.run} {node} --reason TEXT"
            for node, until in sorted(kept_away(run, now).items())
        )
    return said


def _from(run: TrainingRunState, now: datetime) -> list[str]:
    if run.ended_at is not None:
        return []
    if run.checkpoint is None:
        return ["it has no checkpoint: after its next fault it begins anew"]
    step = f"step {run.checkpoint.step}" if run.checkpoint.step is not None else f"epoch {run.checkpoint.epoch}"
    holders = ", ".join(run.checkpoint.nodes or (run.checkpoint.node,))
    saved = clock(moment(run.checkpoint.at), now)
    return [f"after its next fault it goes on from {step}, saved {saved}, held by {holders}"]


def _came_of(run: TrainingRunState) -> str:
    effects = ", ".join(dict.fromkeys(each.what for each in run.commits))
    nothing = f"no model and no data set of it was accepted; fleetcast why {run.model} tells what was refused"
    return f"accepted of it: {effects}" if effects else nothing


def _waits(run: TrainingRunState, nodes: Sequence[NodeFacts], now: datetime) -> list[str]:
    lane, said = LaneDefinition.of(run.definition), []
    if run.not_before is not None and moment(run.not_before) > now:
        said.append(f"it is not claimed before {clock(moment(run.not_before), now)}")
    for facts in nodes:
        found = eligible(lane, run, facts, now)
        said.append(f"{facts.node} may take it" if found.ok else f"{facts.node} may not: {found.reason}")
    return said or ["no trainer was heard from: fleetcast run trainer"]
