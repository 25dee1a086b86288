"""The nodes that train: what is worse with them than it should be, and what is kept of their faults."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError, NotFound
from fleetcast.bus.streams import TRAINING
from fleetcast.events.quarantine import NodeQuarantine, quarantine_subject
from fleetcast.events.training import TrainingPhase
from fleetcast.registry.book import read
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.picture.agreement import differing, told
from fleetcast.registry.picture.amounts import ago, moment
from fleetcast.registry.picture.nodes import NodeView


async def records(bus: Bus) -> dict[str, NodeQuarantine]:
    """What is kept of nodes that had a fault, by node; empty also where it cannot be read."""
    found = {}
    try:
        entries = await bus.newest(TRAINING, (quarantine_subject("*"),))
    except (BusError, NotFound):
        return {}
    for entry in entries:
        try:
            record = read(NodeQuarantine, entry)
        except RecordDamaged:
            continue
        found[record.node] = record
    return found


class TrainingNodes:
    """Trainers and the records of their nodes.

    Attributes:
        trainers: that were heard from, by node.
        kept: what is kept of nodes that had a fault, by node.
        now: when that is looked at.
    """

    def __init__(
        self, trainers: Sequence[NodeView], kept: Mapping[str, NodeQuarantine], now: datetime | None = None
    ) -> None:
        self.trainers = trainers
        self.kept = kept
        self.now = now or datetime.now(UTC)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is worse than it should be, one sentence each. A trainer that was stopped in order is not missed."""
        said = [
            f"the trainer on {view.name} is lost, last heard {ago(view.age_seconds)}{_left(view)}"
            for view in self.trainers
            if view.lost
        ]
        said += [
            f"run {run.run} of lane {run.lane} is degraded: on {run.device or 'the CPU'} of {view.name}"
            for view in self.trainers
            if view.alive
            for run in view.status.runs
            if run.phase == TrainingPhase.DEGRADED.value
        ]
        said += [
            f"{record.node}: {'its GPUs get' if record.gpu else 'it gets'} no training runs until {record.until}: "
            f"{record.signature or record.reason}"
            for record in self._quarantined()
        ]
        said += [
            f"{view.name}: GPU {gpu.index} cannot be used: {gpu.fault}"
            for view in self.trainers
            if view.alive and not self._is_quarantined(view.name)
            for gpu in view.status.gpus
            if gpu.fault
        ]
        return (*said, *(told(lane, copies) for lane, copies in differing(self._lanes()).items()))

    def _lanes(self) -> dict[str, dict[str, str]]:
        return {view.name: view.status.lanes for view in self.trainers if view.alive}

    def _quarantined(self) -> list[NodeQuarantine]:
        return [self.kept[node] for node in sorted(self.kept) if self._is_quarantined(node)]

    def _is_quarantined(self, node: str) -> bool:
        record = self.kept.get(node)
        return record is not None and record.until is not None and moment(record.until) > self.now

    def document(self) -> list[dict[str, Any]]:
        """As JSON, one entry for each trainer and for each node with a record."""
        by_node = {view.name: view for view in self.trainers}
        return [self._entry(node, by_node.get(node)) for node in sorted({*by_node, *self.kept})]

    def _entry(self, node: str, view: NodeView | None) -> dict[str, Any]:
        record = self.kept.get(node)
        last = record.last_fault if record is not None else None
        held = record if record is not None and self._is_quarantined(node) else None
        return {
            "node": node,
            "state": view.state if view is not None else None,
            "gpus": [gpu.model_dump(mode="json") for gpu in view.status.gpus] if view is not None else [],
            "arch_list": list(view.status.arch_list) if view is not None else [],
            "lanes": dict(view.status.lanes) if view is not None else {},
            "runs": [run.model_dump(mode="json") for run in view.status.runs] if view is not None else [],
            "last_fault": last.model_dump(mode="json") if last is not None else None,
            "quarantine": None
            if held is None
            else {"until": held.until, "gpu": held.gpu, "reason": held.reason, "signature": held.signature},
        }


def _left(view: NodeView) -> str:
    """What a trainer that is not heard from had in hand."""
    runs = ", ".join(run.run for run in view.status.runs)
    return f"; its runs go on without it or are taken by another node: {runs}" if runs else ""
