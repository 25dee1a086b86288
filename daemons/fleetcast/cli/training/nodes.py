"""How nodes that train are drawn: their GPUs, their newest fault, and what runs on the CPU instead."""

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.text import Text

from fleetcast.cli.narrate import printable
from fleetcast.cli.table import table
from fleetcast.cli.units import ago, moment, size
from fleetcast.events.gpus import Gpu
from fleetcast.registry.picture.nodes import NodeView
from fleetcast.registry.picture.training import TrainingNodes

_MARK = "-"


def drawn(nodes: TrainingNodes) -> RenderableType | None:
    """A line per GPU; None: nobody trains here."""
    if not nodes.trainers:
        return None
    rows: list[Sequence[object]] = []
    for view in nodes.trainers:
        rest = (_fault(nodes, view.name), _runs(view))
        gpus: Iterable[Gpu | None] = view.status.gpus or (None,)
        for number, gpu in enumerate(gpus):
            rows.append((view.name, *_gpu(gpu, view), *(rest if number == 0 else ("", ""))))
    return table(("GPUS", "GPU", "FREE", "DRIVER", "STATE", "LAST FAULT", "RUNS"), rows)


def _fault(nodes: TrainingNodes, node: str) -> str:
    record = nodes.kept.get(node)
    last = record.last_fault if record is not None else None
    if last is None:
        return _MARK
    when = ago(max(0.0, (nodes.now - moment(last.at)).total_seconds()))
    fell = f", fell back to {last.fell_back}" if last.fell_back else ""
    return printable(f"{last.signature} ({last.fault_class.value}), {when}{fell}")


def _runs(view: NodeView) -> str:
    said = (f"{run.run} {run.phase}{f' on {run.device}' if run.device else ''}" for run in view.status.runs)
    last = "" if view.alive or not view.status.runs else "when last heard: "
    return printable(last + ", ".join(said)) or _MARK


def lines(nodes: TrainingNodes) -> list[Text]:
    """What is flagged, one line each."""
    flagged = {
        f"{view.name}: {gpu.warning}"
        for view in nodes.trainers
        if view.alive
        for gpu in view.status.gpus
        if gpu.warning
    }
    return [Text(printable(each), style="yellow") for each in sorted(flagged)]


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
