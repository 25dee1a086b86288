"""What becomes of a run's checkpoints in its record: pure, from one value to the next."""

from collections.abc import Callable, Mapping, Sequence

from fleetcast.daemons.trainer.checkpoints.retention import Judgement, Retention, judge
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.training import CheckpointRecord, TrainingRunState


def retention_of(definition: LaneDefinition) -> Retention:
    """How many checkpoints a lane keeps of a run."""
    policy = definition.checkpoints
    return Retention(
        last=policy.keep_last,
        best=policy.keep_best.mode if policy.keep_best is not None else None,
        every_seconds=policy.keep_every_seconds,
        quota_bytes=policy.quota_bytes,
    )


def metric_of(definition: LaneDefinition, metrics: Mapping[str, float]) -> float | None:
    """The number by which a lane knows its best checkpoint."""
    best = definition.checkpoints.keep_best
    return None if best is None else metrics.get(best.metric)


def is_same(a: CheckpointRecord, b: CheckpointRecord) -> bool:
    """Whether two records are of the same bytes under the same name."""
    return (a.node, a.path, a.size, a.changed_ns) == (b.node, b.path, b.size, b.changed_ns)


def find(run: TrainingRunState, path: str, node: str | None = None) -> CheckpointRecord | None:
    """The record of a path; *node*: where it lies, None: anywhere."""
    return next((c for c in run.checkpoints if c.path == path and node in {None, c.node}), None)


def with_committed(run: TrainingRunState, record: CheckpointRecord) -> tuple[CheckpointRecord, ...]:
    """A run's checkpoints with a new one, newest first. A file that took another's name took its place: what that one
    held is gone, unless other nodes hold it."""
    replaced = find(run, record.path, record.node)
    if replaced is not None and is_same(replaced, record):
        record = record.model_copy(
            update={
                "artifact": replaced.artifact,
                "version": replaced.version,
                "nodes": replaced.nodes,
                "pins": replaced.pins,
                "step": record.step if record.step is not None else replaced.step,
                "metric": record.metric if record.metric is not None else replaced.metric,
                "save_seconds": record.save_seconds if record.save_seconds is not None else replaced.save_seconds,
            }
        )
        return tuple(record if c is replaced else c for c in run.checkpoints)
    rest = [c for c in run.checkpoints if not (c.node == record.node and c.path == record.path)]
    # Of one node's the younger bytes are newer, in whatever order they were noticed; another node's are of the past.
    newer = [c for c in rest if c.node == record.node and c.changed_ns > record.changed_ns]
    return (*newer, record, *(c for c in rest if c not in newer))


def changed(
    run: TrainingRunState, which: CheckpointRecord, change: Callable[[CheckpointRecord], CheckpointRecord]
) -> tuple[CheckpointRecord, ...]:
    """A run's checkpoints with one of them changed; as they are where it is not among them any more."""
    return tuple(change(c) if is_same(c, which) else c for c in run.checkpoints)


def held_by(record: CheckpointRecord, node: str, version: str, artifact: str) -> CheckpointRecord:
    """The record once *node* holds its distribution too."""
    if record.version != version:
        return record
    nodes = record.nodes or (record.node,)
    return record.model_copy(
        update={"artifact": artifact, "nodes": nodes if node in nodes else (*nodes, node)},
    )


def held_here_only(record: CheckpointRecord) -> CheckpointRecord:
    """The record once its copies on other nodes were given back."""
    return record.model_copy(update={"nodes": (record.node,)})


def pinned(record: CheckpointRecord, why: str) -> CheckpointRecord:
    """The record with one more reason to keep it."""
    return record if why in record.pins else record.model_copy(update={"pins": (*record.pins, why)})


def unpinned(record: CheckpointRecord) -> CheckpointRecord:
    """The record without reasons of people to keep it."""
    return record.model_copy(update={"pins": ()})


def expendable(run: TrainingRunState, policy: Retention, *, others_bytes: int = 0) -> tuple[Judgement, ...]:
    """The checkpoints of a run that go. What another node wrote is judged with the rest, and goes with it: whoever owns
    the run decides for all of them, and each node deletes its own files."""
    return tuple(j for j in judge(run.checkpoints, policy, others_bytes=others_bytes) if not j.stays)


def outlived(runs: Sequence[TrainingRunState], definition: LaneDefinition) -> dict[str, tuple[CheckpointRecord, ...]]:
    """The checkpoints that go, by run, of a lane's runs that have ended: nobody goes on from those. The newest few runs
    keep their newest and their best, older ones what is pinned."""
    ended = _ended(runs)
    policy = Retention(last=1, best=retention_of(definition).best, every_seconds=None)
    gone: dict[str, tuple[CheckpointRecord, ...]] = {}
    for place, run in enumerate(ended):
        if place < definition.checkpoints.keep_last:
            going = tuple(j.record for j in judge(run.checkpoints, policy) if not j.stays)
        else:
            going = tuple(c for c in run.checkpoints if not c.pins)
        if going:
            gone[run.run] = going
    return gone


def long_over(runs: Sequence[TrainingRunState], definition: LaneDefinition) -> list[TrainingRunState]:
    """A lane's runs that ended before its newest few did, and of which nobody pinned anything."""
    return [r for r in _ended(runs)[definition.checkpoints.keep_last :] if not any(c.pins for c in r.checkpoints)]


def _ended(runs: Sequence[TrainingRunState]) -> list[TrainingRunState]:
    """Runs that have ended, the newest first."""
    return sorted((r for r in runs if r.ended_at is not None), key=lambda r: r.ended_at or "", reverse=True)


def without(run: TrainingRunState, gone: Sequence[CheckpointRecord]) -> TrainingRunState:
    """The run without some of its checkpoints; while it is under way never without the one that it resumes from."""
    held = run.checkpoint if run.ended_at is None else None
    kept = tuple(
        c for c in run.checkpoints if not any(is_same(c, g) for g in gone) or (held is not None and is_same(c, held))
    )
    pointer = run.checkpoint if held is not None or run.checkpoint in kept else None
    return run.model_copy(update={"checkpoints": kept, "checkpoint": pointer})


def copies_for(candidates: Sequence[str], record: CheckpointRecord, before: Sequence[str], copies: int) -> list[str]:
    """The nodes that a checkpoint is brought to: *copies* of them besides its own.

    Args:
        candidates: nodes that could take the run over, best first.
        before: nodes that the last one was brought to; they are asked again, so that one node holds the newest.
    """
    others = [node for node in candidates if node != record.node]
    return [*(n for n in before if n in others), *(n for n in others if n not in before)][:copies]
