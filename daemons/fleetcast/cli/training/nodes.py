"""What status says of the nodes that train: their GPUs, their newest fault, and what runs on the CPU instead."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError, NotFound
from fleetcast.bus.streams import TRAINING
from fleetcast.cli.narrate import printable
from fleetcast.cli.table import table
from fleetcast.cli.units import ago, moment, size
from fleetcast.daemons.trainer.lanes.agreement import differing, told
from fleetcast.events.gpus import Gpu
from fleetcast.events.quarantine import NodeQuarantine, quarantine_subject
from fleetcast.events.training import TrainingPhase
from fleetcast.registry.book import read
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.picture.nodes import NodeView

_MARK = "-"


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
    """Trainers and the records of their nodes, drawn and told."""

    def __init__(
        self, trainers: Sequence[NodeView], kept: Mapping[str, NodeQuarantine], now: datetime | None = None
    ) -> None:
        self._trainers = trainers
        self._kept = kept
        self._now = now or datetime.now(UTC)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is worse than it should be, one sentence each. A trainer that was stopped in order is not missed."""
        said = [
            f"the trainer on {view.name} is lost, last heard {ago(view.age_seconds)}{_left(view)}"
            for view in self._trainers
            if view.lost
        ]
        said += [
            f"run {run.run} of lane {run.lane} is degraded: on {run.device or 'the CPU'} of {view.name}"
            for view in self._trainers
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
            for view in self._trainers
            if view.alive and not self._is_quarantined(view.name)
            for gpu in view.status.gpus
            if gpu.fault
        ]
        return (*said, *(told(lane, copies) for lane, copies in differing(self._lanes()).items()))

    def _lanes(self) -> dict[str, dict[str, str]]:
        return {view.name: view.status.lanes for view in self._trainers if view.alive}

    def _quarantined(self) -> list[NodeQuarantine]:
        return [self._kept[node] for node in sorted(self._kept) if self._is_quarantined(node)]

    def _is_quarantined(self, node: str) -> bool:
        record = self._kept.get(node)
        return record is not None and record.until is not None and moment(record.until) > self._now

    def drawn(self) -> RenderableType | None:
        """A line per GPU; None: nobody trains here."""
        if not self._trainers:
            return None
        rows: list[Sequence[object]] = []
        for view in self._trainers:
            rest = (self._fault(view.name), self._runs(view))
            gpus: Iterable[Gpu | None] = view.status.gpus or (None,)
            for number, gpu in enumerate(gpus):
                rows.append((view.name, *_gpu(gpu, view), *(rest if number == 0 else ("", ""))))
        return table(("GPUS", "GPU", "FREE", "DRIVER", "STATE", "LAST FAULT", "RUNS"), rows)

    def _fault(self, node: str) -> str:
        record = self._kept.get(node)
        last = record.last_fault if record is not None else None
        if last is None:
            return _MARK
        when = ago(max(0.0, (self._now - moment(last.at)).total_seconds()))
        fell = f", fell back to {last.fell_back}" if last.fell_back else ""
        return printable(f"{last.signature} ({last.fault_class.value}), {when}{fell}")

    def _runs(self, view: NodeView) -> str:
        said = (f"{run.run} {run.phase}{f' on {run.device}' if run.device else ''}" for run in view.status.runs)
        last = "" if view.alive or not view.status.runs else "when last heard: "
        return printable(last + ", ".join(said)) or _MARK

    def lines(self) -> list[Text]:
        """What is flagged, one line each."""
        flagged = {
            f"{view.name}: {gpu.warning}"
            for view in self._trainers
            if view.alive
            for gpu in view.status.gpus
            if gpu.warning
        }
        return [Text(printable(each), style="yellow") for each in sorted(flagged)]

    def document(self) -> list[dict[str, Any]]:
        """As JSON, one entry for each trainer and for each node with a record."""
        by_node = {view.name: view for view in self._trainers}
        return [self._entry(node, by_node.get(node)) for node in sorted({*by_node, *self._kept})]

    def _entry(self, node: str, view: NodeView | None) -> dict[str, Any]:
        record = self._kept.get(node)
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


def _gpu(gpu: Gpu | None, view: NodeView) -> tuple[object, ...]:
    away = "" if view.alive else f"trainer {view.state}"
    if gpu is None:
        return ("none", _MARK, _MARK, away or _MARK)
    free = _MARK
    if gpu.memory_free is not None and gpu.memory_total is not None:
        free = f"{size(gpu.memory_free)} of {size(gpu.memory_total)}"
    what = " ".join(filter(None, (f"{gpu.index}:", gpu.vendor if not gpu.model else gpu.model, gpu.arch)))
    state = away or gpu.fault or ("proven" if gpu.proven_at else "not probed")
    heat = f", {gpu.temperature:.0f} °C" if gpu.temperature is not None else ""
    return (printable(what), free, printable(gpu.driver) or _MARK, printable(state) + heat)
