"""Training lanes and the runs that they start: what is told of them, and what is kept of them.

Kept in `FC_TRAINING`, each by compare-and-swap, with the facts in the same atomic batch. A run's `claim` is its fencing
number: it grows each time a node takes the run, and whatever a stalled former owner says carries an older one.
"""

from enum import StrEnum
from typing import Any, Final

from pydantic import Field

from fleetcast.events.content import Stored
from fleetcast.events.ids import FilePath, Name, Sha256, Version
from fleetcast.events.lifecycle import Count, Text, Words
from fleetcast.events.payloads import Moment, Payload
from fleetcast.events.runs import Claim, FaultClass, RunFact
from fleetcast.events.state import Cause


class WorkClass(StrEnum):
    """Queues of jobs, each with its own consumers and limits."""

    GPU = "gpu"
    CPU = "cpu"
    CONTROL = "control"


class TrainingPhase(StrEnum):
    """Where a training run stands.

    `queued`: a job waits for a node; `claimed`: a node has it and prepares; `running`: its process runs; `degraded`:
    it runs with less than it was to have, on the CPU; the rest are its ends.
    """

    QUEUED = "queued"
    CLAIMED = "claimed"
    RUNNING = "running"
    DEGRADED = "degraded"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRAINING_ENDED: Final = frozenset({TrainingPhase.SUCCEEDED, TrainingPhase.FAILED, TrainingPhase.CANCELLED})
"""Phases that no run leaves."""
TRAINING_OWNED: Final = frozenset({TrainingPhase.CLAIMED, TrainingPhase.RUNNING, TrainingPhase.DEGRADED})
"""Phases in which a node owns the run."""


class Remedy(StrEnum):
    """What is done about a fault: again on the same node, on another one, on the CPU, or never."""

    HERE = "here"
    ELSEWHERE = "elsewhere"
    CPU = "cpu"
    NEVER = "never"


# -- what is told


class LaneTriggered(Payload):
    """Somebody asks a lane for a run now, whatever its bucket holds.

    Attributes:
        reason: why.
        requested_by: a person, or the daemon that asks.
    """

    lane: Name
    reason: Words
    requested_by: Text = "operator"


class LaneChanged(Payload):
    """A lane's ledger changed: samples came, a run was asked for, it was paused or resumed.

    Attributes:
        what: `samples`, `run_queued`, `run_ended`, `paused`, `resumed`, `triggered`, `withdrawn`, `export_begun`.
        tokens: samples in its bucket afterwards; below zero: debt.
        required: samples that a run needs.
        run: that was queued or has ended.
        detail: in one line.
    """

    lane: Name
    what: Text
    tokens: float = Field(allow_inf_nan=False)
    required: int = Field(ge=0)
    run: Name | None = None
    detail: str = ""
    by: str = ""


class RunMoved(RunFact):
    """A run that a lane started came to its next phase.

    Attributes:
        model: the line of versions that it makes.
        claim: under which; None: nobody has claimed it yet.
        device: what it computes on.
        detail: why, in one line.
    """

    lane: Name
    model: Name | None = None
    phase: TrainingPhase
    attempt: int = Field(default=0, ge=0)
    device: Text | None = None
    detail: str = ""


class RunFellBack(RunFact):
    """A run goes on with less than it had: after a GPU fault on the CPU.

    Attributes:
        timestamp: when.
        reason: what happened, for a person.
        evidence: exit status, signal, matched signature, last lines of stderr.
        remedial_action: what was done.
        guidance: what to look at, with the values found here.
        from_device, to_device: what it computed on, and what it computes on now.
    """

    lane: Name
    timestamp: Moment
    reason: Words
    evidence: dict[str, Any] = {}
    remedial_action: Words
    guidance: str = ""
    from_device: Text
    to_device: Text


class RunReturned(RunFact):
    """A run that had fallen back computes on a GPU again.

    Attributes:
        degraded_seconds: that it was degraded for.
    """

    lane: Name
    from_device: Text
    to_device: Text
    degraded_seconds: float = Field(ge=0, allow_inf_nan=False)


class RunNodeAllowed(RunFact):
    """A person lets a run go to a node again that it was kept away from after a fault there.

    Attributes:
        node: that node.
        claim: the run's newest; None: nobody had claimed it.
        until: when it would have been let there by itself.
        reason: why, in the person's words.
    """

    lane: Name
    until: Moment
    reason: Words
    by: Text


class NodeQuarantined(Payload):
    """A node gets no training runs for a while, or gets them again.

    Attributes:
        quarantined: False: it is over.
        gpu: it is about its GPUs: runs on the CPU go on there.
        until: when it ends by itself.
        fault_class, signature: what it is for.
        run: that met the fault.
    """

    node: Name
    quarantined: bool = True
    gpu: bool = False
    reason: Words
    until: Moment | None = None
    fault_class: FaultClass | None = None
    signature: Text | None = None
    run: Name | None = None
    by: str = ""


class ReclaimNotice(Payload):
    """The node's machine is about to be taken away.

    Attributes:
        deadline: when.
        source: who said so: `aws.spot`, `aws.rebalance`, `aws.maintenance`, `gcp.preempted`, or a person.
        certain: False: it may not happen (a rebalance recommendation).
        detail: the notice as it was given.
    """

    node: Name
    deadline: Moment
    source: Text
    certain: bool = True
    detail: str = ""


# -- what is kept


class CountedExport(Stored):
    """An export that a lane's bucket has counted; a data set counts once, by its artifact.

    Attributes:
        samples: that were new in it; total: that it holds.
        added: what it added to the bucket, after the cap.
        at: when the registry named it the lane's newest.
        node: that exported it.
        withdrawn: somebody took it back: nothing trains on it, and what it added was taken out again.
    """

    artifact: Sha256
    version: Version
    samples: Count
    total: Count = 0
    added: float = 0.0
    at: Moment
    node: Name | None = None
    withdrawn: bool = False


class LanePause(Stored):
    """Somebody stopped a lane from starting runs, or asked it for one; `request`: id of what they asked."""

    reason: str
    by: str
    at: Moment
    request: str = ""


class RunEnd(Stored):
    """How the last run of a lane ended: `detail` says why, in one line."""

    run: Name
    phase: TrainingPhase
    detail: str = ""
    at: Moment


class LaneState(Stored):
    """A lane's ledger.

    Attributes:
        n: how often it was written; tells its facts apart.
        tokens: samples in the bucket; a run spends what it needs, and what it took too much is debt (below zero).
        samples_in, samples_spent, samples_capped: over the lane's life; capped: what the full bucket did not take.
        exports: the newest 200 that were counted, newest first.
        latest: the newest data set, which the next run takes; used: artifact of the one that the last run took.
        through: sequence in `FC_REGISTRY` up to which data sets were counted.
        data_at: when the newest samples came; the quiet period counts from it; data_cause: what brought the newest
            data set: a run over it follows from that.
        opened_at: when the ledger began; the first maximum interval counts from it.
        started_at: when the newest run was queued; exported_at: when the lane's export command was last begun.
        run: the one that is under way; at most one per lane.
        runs: how many there were; ended: the last one that is over.
        forced: somebody asked for a run now.
        paused: None: it may start runs.
    """

    schema_: int = Field(default=1, alias="schema")
    lane: Name
    n: int = 0
    tokens: float = 0.0
    samples_in: int = 0
    samples_spent: int = 0
    samples_capped: int = 0
    exports: tuple[CountedExport, ...] = ()
    latest: CountedExport | None = None
    used: Sha256 | None = None
    through: int = 0
    data_at: Moment | None = None
    data_cause: Cause | None = None
    opened_at: Moment | None = None
    started_at: Moment | None = None
    exported_at: Moment | None = None
    run: Name | None = None
    runs: int = 0
    ended: RunEnd | None = None
    forced: LanePause | None = None
    paused: LanePause | None = None
    at: Moment
    cause: Cause


class CheckpointRecord(Stored):
    """A durable checkpoint of a run.

    Attributes:
        path: of the file or folder on `node`, absolute.
        step, epoch: of the training.
        claim: under which it was committed.
        metric: value of the lane's metric, by which the best is kept; None: none was said.
        save_seconds: that the save took; None: not known.
        artifact: of its distribution, where other nodes hold it too.
        version: of its distribution, in the line of data sets `ckpt-<run>`.
        nodes: that hold it, `node` first.
        pins: why it may not be deleted.
        changed_ns: when its newest file was written, nanoseconds of the node's clock; tells it from another one of the
            same name.
    """

    path: FilePath
    node: Name
    step: Count | None = None
    epoch: Count = 0
    claim: int = 0
    size: int = 0
    sha256: Sha256 | None = None
    at: Moment
    metric: float | None = None
    save_seconds: float | None = None
    artifact: Sha256 | None = None
    version: Version | None = None
    nodes: tuple[Name, ...] = ()
    pins: tuple[str, ...] = ()
    changed_ns: int = 0


class Attempt(Stored):
    """One claim of a run, from its start to its end.

    Attributes:
        outcome: `succeeded`, a fault class, `lost` (its node went silent), `reclaimed`, `cancelled`; None: under way.
        remedy: what was decided about its fault.
        evidence: exit status, signal, matched signature, last lines of stderr.
        guidance: of a fault: what to look at.
        slower: of a claim on the CPU: how many times as long a step takes as on the GPU before; None: not known.
    """

    claim: Claim
    node: Name
    device: str = ""
    started_at: Moment
    ended_at: Moment | None = None
    outcome: str | None = None
    fault_class: FaultClass | None = None
    signature: str = ""
    remedy: Remedy | None = None
    detail: str = ""
    guidance: str = ""
    evidence: dict[str, Any] = {}
    resumed_step: int | None = None
    slower: float | None = None


class Commit(Stored):
    """An effect that the run had under its claim: an export, a promotion, something asked of the registry.

    Attributes:
        brief: it is asked again within seconds or never: only the newest of these are kept.
    """

    claim: Claim
    what: str
    event: str
    at: Moment
    brief: bool = False


class DataInput(Stored):
    """A data set that a run reads."""

    lane: Name
    version: Version
    artifact: Sha256
    samples: int = 0


class Cancellation(Stored):
    """Somebody ended a run before it was done.

    Attributes:
        request: id of what they asked.
        now: its process gets no time to end by itself.
    """

    reason: str
    by: str
    at: Moment
    request: str = ""
    now: bool = False


class NodeAllowed(Stored):
    """Somebody let a run go to a node again from which it was kept.

    Attributes:
        until: when that would have ended by itself.
        request: id of what they asked.
    """

    node: Name
    until: Moment
    reason: str
    by: str
    at: Moment
    request: str = ""


class TrainingRunState(Stored):
    """A training run that a lane started.

    Attributes:
        run: its id, made from lane, data, code and configuration: the same job cannot be created twice.
        work_class: queue that its job is in.
        n: how often it was written; tells its facts apart.
        phase_detail: why it is there.
        claim: number of the newest claim; 0: nobody took it yet. Only the owner of this claim may act for the run.
        owner: node of the claim; owner_pid: its trainer's process, for people.
        device: what it computes on.
        data: what it trains on.
        definition: the lane as it was when the run was created, whole.
        priority: greater ones go first.
        attempts: newest 50, oldest first.
        faults: how many of each class it has had; the retry budgets count them.
        excluded: nodes that it is not to be given again, and until when; allowed: those that people have let it go to
            before that, newest 20, oldest first.
        not_before: it is not claimed earlier.
        cpu: it is to go on on the CPU.
        checkpoint: what it resumes from; checkpoints: those kept, newest first.
        commits: effects that it had.
        reclaims, saves: notices of reclaim that it got, and saves that were fired in time for them.
        degraded_at: since when it is on the CPU.
        cancelled: by whom, and why; None: it was not.
    """

    schema_: int = Field(default=1, alias="schema")
    run: Name
    lane: Name
    model: Name
    work_class: WorkClass = WorkClass.GPU
    n: int = 0
    phase: TrainingPhase = TrainingPhase.QUEUED
    phase_detail: str = ""
    claim: int = 0
    owner: Name | None = None
    owner_pid: int = 0
    device: str = ""
    data: tuple[DataInput, ...] = ()
    definition: dict[str, Any] = {}
    priority: int = 0
    attempts: tuple[Attempt, ...] = ()
    faults: dict[str, int] = {}
    excluded: dict[str, str] = {}
    allowed: tuple[NodeAllowed, ...] = ()
    not_before: Moment | None = None
    cpu: bool = False
    checkpoint: CheckpointRecord | None = None
    checkpoints: tuple[CheckpointRecord, ...] = ()
    commits: tuple[Commit, ...] = ()
    reclaims: int = 0
    saves: int = 0
    step: int | None = None
    degraded_at: Moment | None = None
    cancelled: Cancellation | None = None
    created_at: Moment
    at: Moment
    ended_at: Moment | None = None
    cause: Cause


LANE_STATE: Final = "fc.trn.state.lane."
TRAINING_STATE: Final = "fc.trn.state.run."
LANES_SUBJECT: Final = "fc.svc.trainer.lanes"
RUNS_SUBJECT: Final = "fc.svc.trainer.runs"


def lane_subject(lane: str) -> str:
    """Where a lane's ledger is kept; `*` makes a filter."""
    return f"{LANE_STATE}{lane}"


def training_subject(run: str) -> str:
    """Where a training run is kept; `*` makes a filter."""
    return f"{TRAINING_STATE}{run}"


def work_subject(work_class: WorkClass, lane: str) -> str:
    """Where a lane's job waits: one at a time per class and lane."""
    return f"fc.work.{work_class.value}.{lane}"


def lease_name(run: str) -> str:
    """The lease by which the owner of a run is known to be alive."""
    return f"run.{run}"


def logs_subject(node: str) -> str:
    """Where a node's trainer is asked for the logs of runs that it has or had."""
    return f"fc.svc.trainer.{node}.logs"


def folders_subject(node: str) -> str:
    """Where a node's trainer is asked to remove what nobody needs of runs that have ended."""
    return f"fc.svc.trainer.{node}.folders"
