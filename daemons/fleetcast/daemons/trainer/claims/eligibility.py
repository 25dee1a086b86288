"""Which nodes may take a run, and why each other one may not: pure, from what nodes say of themselves.

The same function decides what a trainer claims and what `fleetcast why LANE` prints.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase

from fleetcast.daemons.trainer.faults.guidance import built_for
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition, Resources
from fleetcast.events.gpus import Gpu, RunOnNode
from fleetcast.events.state import NodeStatus
from fleetcast.events.training import TrainingRunState, WorkClass

GIB = 2**30
CHECKPOINT_SHARE, MEMORY_SHARE, IDLE_SHARE = 0.5, 0.3, 0.2
"""What the score is made of: not having to fetch what the run resumes from counts most."""
SIMULATED = "simulated"
"""Value of the label `gpu`, and vendor, of a node that only plays a GPU node."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node as far as runs are concerned.

    Attributes:
        labels: those of its distributor, with what was detected.
        artifacts: what it holds, proven.
        gpus: of its machine.
        runs: that it has in hand.
        limits: runs that it takes at once, by class.
        disk_free: bytes; None: not known.
        trains: whether a trainer runs there and was heard from.
        drained: it is out of service.
        quarantine: why it takes no runs, and until when; empty: it takes some.
        reclaim_deadline: when its machine is taken away.
        arch_list: architectures that its training library was built for; empty: not known.
    """

    node: str
    labels: Mapping[str, str] = field(default_factory=dict)
    artifacts: frozenset[str] = frozenset()
    gpus: tuple[Gpu, ...] = ()
    runs: tuple[RunOnNode, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    disk_free: int | None = None
    trains: bool = True
    drained: bool = False
    quarantine: str = ""
    reclaim_deadline: str | None = None
    arch_list: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Whether a node may take a run.

    Attributes:
        reason: why not; empty: it may.
        score: 0 to 1, how well it suits; the best is let go first.
        gpus: indices of the GPUs that it would compute on.
    """

    ok: bool
    reason: str = ""
    score: float = 0.0
    gpus: tuple[int, ...] = ()


def facts_of(trainer: NodeStatus | None, distributor: NodeStatus | None, *, silent: Collection[str] = ()) -> NodeFacts:
    """A node from the heartbeats of its two daemons; *silent*: daemons of it that should have been heard from by now.

    Raises:
        ValueError: there is neither.
    """
    known = trainer or distributor
    if known is None:
        raise ValueError("a node is made from a heartbeat")
    held = () if distributor is None else distributor.models
    return NodeFacts(
        node=known.node,
        labels={**(trainer.labels if trainer else {}), **(distributor.labels if distributor else {})},
        artifacts=frozenset(version.artifact for line in held for version in line.installed),
        gpus=trainer.gpus if trainer else (),
        runs=trainer.runs if trainer else (),
        limits=trainer.limits if trainer else {},
        disk_free=trainer.disk_free if trainer else None,
        trains=trainer is not None and "trainer" not in silent,
        drained=distributor is not None and distributor.drained,
        quarantine=trainer.quarantine if trainer else "",
        reclaim_deadline=trainer.reclaim_deadline if trainer else None,
        arch_list=trainer.arch_list if trainer else (),
    )


def eligible(lane: LaneDefinition, run: TrainingRunState | None, node: NodeFacts, now: datetime) -> Eligibility:
    """Whether *node* may take *run* of *lane*; None: whichever run comes next."""
    for look in _LOOKS:
        if reason := look(lane, run, node, now):
            return Eligibility(False, reason)
    chosen, reason = choose_gpus(lane, run, node)
    if reason:
        return Eligibility(False, reason)
    return Eligibility(True, score=_score(run, node, chosen), gpus=tuple(gpu.index for gpu in chosen))


def choose_gpus(lane: LaneDefinition, run: TrainingRunState | None, node: NodeFacts) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that a run would get, those with the most free memory first; and why there are not enough of them."""
    wanted = 0 if run is not None and run.cpu else lane.gpus
    if not wanted:
        return (), ""
    if not node.gpus:
        return (), "it has no GPU"
    busy = {index for each in node.runs for index in each.gpus}
    fitting, reasons = [], []
    for gpu in node.gpus:
        reason = _unfit(lane.resources, gpu, node.arch_list) or ("it is in use" if gpu.index in busy else "")
        if reason:
            reasons.append(f"GPU {gpu.index}: {reason}")
        else:
            fitting.append(gpu)
    if len(fitting) < wanted:
        return (), f"{len(fitting)} of {wanted} GPUs fit ({'; '.join(reasons) or f'it has {len(node.gpus)}'})"
    fitting.sort(key=lambda gpu: (-(gpu.memory_free or 0), gpu.index))
    return tuple(fitting[:wanted]), ""


def gpus_for(lane: LaneDefinition, run: TrainingRunState, node: NodeFacts) -> tuple[int, ...] | None:
    """Indices of the GPUs for a run that *node* has claimed already, and that computes on none yet; None: there are not
    enough of them now."""
    others = tuple(each for each in node.runs if each.run != run.run)
    chosen, reason = choose_gpus(lane, run, replace(node, runs=others))
    return None if reason else tuple(gpu.index for gpu in chosen)


def class_on(run: TrainingRunState | None, lane: LaneDefinition) -> WorkClass:
    """The class whose limit a run counts against: a degraded one takes the place of a CPU run."""
    return WorkClass.CPU if run is not None and run.cpu else lane.work_class


def _present(_lane: LaneDefinition, _run: TrainingRunState | None, node: NodeFacts, _now: datetime) -> str:
    if not node.trains:
        return "no trainer runs there"
    if node.drained:
        return "it is out of service"
    if node.quarantine:
        return f"quarantined: {node.quarantine}"
    return f"its machine is taken away at {node.reclaim_deadline}" if node.reclaim_deadline else ""


def _labels(lane: LaneDefinition, _run: TrainingRunState | None, node: NodeFacts, _now: datetime) -> str:
    for name, pattern in lane.resources.labels.items():
        found = node.labels.get(name)
        if found is None or not fnmatchcase(found, pattern):
            return f"label {name} is {found or 'missing'}, asked for: {pattern}"
    return ""


def _excluded(_lane: LaneDefinition, run: TrainingRunState | None, node: NodeFacts, now: datetime) -> str:
    until = None if run is None else run.excluded.get(node.node)
    if until is None or datetime.fromisoformat(until) <= now:
        return ""
    return f"the run is kept away from it until {until}"


def _room(lane: LaneDefinition, run: TrainingRunState | None, node: NodeFacts, _now: datetime) -> str:
    of = class_on(run, lane)
    limit = node.limits.get(of.value, 0)
    has = sum(each.work_class == of.value for each in node.runs)
    return f"it has {has} of {limit} runs of class {of.value}" if has >= limit else ""


def _data(_lane: LaneDefinition, run: TrainingRunState | None, node: NodeFacts, _now: datetime) -> str:
    missing = [each for each in (run.data if run is not None else ()) if each.artifact not in node.artifacts]
    return f"it does not hold data set {missing[0].lane}@{missing[0].version}" if missing else ""


def _disk(lane: LaneDefinition, _run: TrainingRunState | None, node: NodeFacts, _now: datetime) -> str:
    wanted = lane.resources.disk_bytes
    if node.disk_free is None or node.disk_free >= wanted:
        return ""
    return f"{node.disk_free / GIB:.1f} GiB free on its disk, asked for: {wanted / GIB:.1f}"


_Look = Callable[[LaneDefinition, TrainingRunState | None, NodeFacts, datetime], str]
_LOOKS: tuple[_Look, ...] = (_present, _labels, _excluded, _room, _data, _disk)
"""In this order: the reason that is told is the first, and what a person can change least comes first."""


def _unfit(asked: Resources, gpu: Gpu, arch_list: tuple[str, ...]) -> str:
    """Why a GPU will not do; empty: it will."""
    if gpu.fault:
        return gpu.fault
    if asked.vendor is not None and gpu.vendor != asked.vendor:
        return f"it is of vendor {gpu.vendor}, asked for: {asked.vendor}"
    if asked.arch and gpu.arch not in asked.arch:
        return f"it is {gpu.arch or 'of unknown architecture'}, asked for: {', '.join(asked.arch)}"
    if arch_list and gpu.arch and not built_for(gpu.arch, arch_list):
        return f"{gpu.arch} is none of those that the library was built for ({', '.join(arch_list)})"
    if asked.driver_min is not None and _numbers(gpu.driver) < _numbers(asked.driver_min):
        return f"driver {gpu.driver or 'unknown'} is older than {asked.driver_min}"
    if asked.memory_free_bytes and (gpu.memory_free or 0) < asked.memory_free_bytes:
        return f"{(gpu.memory_free or 0) / GIB:.1f} GiB free, asked for: {asked.memory_free_bytes / GIB:.1f}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _score(run: TrainingRunState | None, node: NodeFacts, chosen: tuple[Gpu, ...]) -> float:
    checkpoint = run.checkpoint if run is not None else None
    near = checkpoint is None or node.node in {checkpoint.node, *checkpoint.nodes}
    free = [gpu.memory_free / gpu.memory_total for gpu in chosen if gpu.memory_total and gpu.memory_free is not None]
    share = sum(free) / len(free) if free else 1.0
    return round(CHECKPOINT_SHARE * near + MEMORY_SHARE * share + IDLE_SHARE / (1 + len(node.runs)), 4)
