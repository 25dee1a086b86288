"""Which folders of runs stay on a node: pure.

Never goes the folder of a run that has not ended by its record, of which a process is left, of which somebody pinned a
checkpoint, or which has the newest checkpoint of its lane here: people go on from that one. All others stay for a time
from their end; and when ended runs take more room than they may, the one that ended first goes first.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fleetcast.events.training import TRAINING_ENDED, CheckpointRecord, TrainingRunState
from fleetcast.registry.commands import stamp


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder as it was found.

    Attributes:
        run: its name.
        bytes: that it takes of the disk.
        changed_at: when something in it was changed last, by the node's own clock.
    """

    run: str
    path: Path
    bytes: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Policy:
    """How long, and how much.

    Attributes:
        seconds: from the end of a run, or from the last change of a folder of which nothing is recorded.
        bytes: that folders of ended runs may take; None: no limit.
    """

    seconds: float
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to become of a folder.

    Attributes:
        why: it stays, or goes.
        ended_at: when its run ended; None: it has not, or nothing is recorded of it.
        recorded: whether there is a record of its run.
        spare: it may go before its time, for want of room.
    """

    folder: Folder
    goes: bool
    why: str
    ended_at: datetime | None = None
    recorded: bool = True
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known besides the folders.

    Attributes:
        node: whose folders they are.
        runs: records, by run.
        busy: runs of which something still runs here, or is seen to.
        now: by the server's clock, as the records; here: by the node's own, as the folders.
    """

    node: str
    runs: Mapping[str, TrainingRunState]
    busy: Set[str]
    now: datetime
    here: datetime


def judge(folders: Sequence[Folder], of: Situation, policy: Policy) -> tuple[Verdict, ...]:
    """A verdict on every folder, by name."""
    newest = _newest_of_lanes(folders, of)
    judged = [_by_itself(each, of, policy, newest) for each in sorted(folders, key=lambda f: f.run)]
    return tuple(judged if policy.bytes is None else _within(judged, policy.bytes))


def pinned(run: TrainingRunState, node: str) -> tuple[str, ...]:
    """Why somebody wants checkpoints of a run kept, as far as they lie on *node*."""
    return tuple(why for c in run.checkpoints if node in {c.node, *c.nodes} for why in c.pins)


def lying_in(run: TrainingRunState, folder: Path, node: str) -> tuple[CheckpointRecord, ...]:
    """The checkpoints of a run's record that go with its folder on *node*."""
    return tuple(c for c in run.checkpoints if c.node == node and Path(c.path).is_relative_to(folder))


def _by_itself(folder: Folder, of: Situation, policy: Policy, newest: Set[str]) -> Verdict:
    run = of.runs.get(folder.run)
    if folder.run in of.busy:
        return Verdict(folder, False, "in use", recorded=run is not None)
    if run is None:
        until = folder.changed_at + timedelta(seconds=policy.seconds)
        why = f"nothing is recorded of it; unchanged since {stamp(folder.changed_at)}"
        return Verdict(folder, of.here >= until, why, recorded=False)
    if run.phase not in TRAINING_ENDED:
        return Verdict(folder, False, f"{run.phase.value}")
    ended = datetime.fromisoformat(run.ended_at or run.at)
    if pins := pinned(run, of.node):
        return Verdict(folder, False, f"a checkpoint is pinned: {'; '.join(pins)}", ended)
    if folder.run in newest:
        return Verdict(folder, False, f"the newest checkpoint of {run.lane} here", ended)
    until = ended + timedelta(seconds=policy.seconds)
    if of.now >= until:
        return Verdict(folder, True, f"{run.phase.value} at {stamp(ended)}", ended)
    return Verdict(folder, False, f"{run.phase.value}, kept until {stamp(until)}", ended, spare=True)


def _newest_of_lanes(folders: Sequence[Folder], of: Situation) -> frozenset[str]:
    """The run with the newest checkpoint of each lane, among those whose folders have one."""
    newest: dict[str, tuple[str, str]] = {}
    for folder in folders:
        run = of.runs.get(folder.run)
        if run is None:
            continue
        for checkpoint in lying_in(run, folder.path, of.node):
            newest[run.lane] = max(newest.get(run.lane, ("", "")), (checkpoint.at, run.run))
    return frozenset(run for _, run in newest.values())


def _within(judged: Sequence[Verdict], limit: int) -> list[Verdict]:
    """Let those go that ended first until the others take no more than *limit*; what must stay counts as well."""
    used = sum(v.folder.bytes for v in judged if v.ended_at is not None and not v.goes)
    found = {v.folder.run: v for v in judged}
    for verdict in sorted((v for v in judged if v.spare), key=lambda v: (v.ended_at, v.folder.run)):
        if used <= limit:
            break
        why = f"ended runs take {used} bytes of {limit}; of those that may go it ended first"
        found[verdict.folder.run] = Verdict(verdict.folder, True, why, verdict.ended_at)
        used -= verdict.folder.bytes
    return list(found.values())
