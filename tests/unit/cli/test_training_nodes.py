"""What status says of nodes that train."""

import io
from datetime import timedelta
from typing import Any

from rich.console import Console
from tests.unit.cli.builders import NOW, node

from fleetcast.cli.training.nodes import drawn, lines
from fleetcast.events.gpus import Gpu, RunOnNode
from fleetcast.events.quarantine import FaultOnNode, NodeQuarantine
from fleetcast.events.runs import FaultClass
from fleetcast.events.training import Remedy
from fleetcast.registry.picture.nodes import NodeView
from fleetcast.registry.picture.training import TrainingNodes

CARD = Gpu(
    index=0,
    vendor="amd",
    model="Instinct MI210",
    arch="gfx90a",
    memory_total=64 * 2**30,
    memory_free=60 * 2**30,
    driver="6.8.5",
    temperature=41.0,
    proven_at=NOW.isoformat(),
)
RUN = RunOnNode(run="hex8_2p-1", lane="hex8_2p", claim=3, work_class="gpu", phase="degraded", device="cpu")


def trainer(name: str = "gpu-1", *, lost: bool = False, **more: Any) -> NodeView:
    return NodeView(node(name).model_copy(update={"daemon": "trainer", **more}), 1.0, lost)


def record(hours: float | None = 1.0, *, gpu: bool = True) -> NodeQuarantine:
    fault = FaultOnNode(
        run="hex8_2p-1",
        claim=2,
        fault_class=FaultClass.HARDWARE,
        signature="HSA_STATUS_ERROR_MEMORY_APERTURE_VIOLATION",
        remedy=Remedy.CPU,
        fell_back="cpu",
        at=(NOW - timedelta(minutes=5)).isoformat(),
    )
    until = None if hours is None else (NOW + timedelta(hours=hours)).isoformat()
    return NodeQuarantine(
        node="gpu-1", until=until, gpu=gpu, reason="aborted", signature="HSA_X", last_fault=fault, at=NOW.isoformat()
    )


def shown(nodes: TrainingNodes) -> str:
    console = Console(width=220, record=True, file=io.StringIO())
    gpus = drawn(nodes)
    assert gpus is not None
    console.print(gpus, *lines(nodes))
    return console.export_text()


def test_a_node_is_shown_with_its_gpus_its_last_fault_and_what_runs_on_the_cpu() -> None:
    text = shown(TrainingNodes([trainer(gpus=(CARD,), runs=(RUN,))], {"gpu-1": record(None)}, NOW))

    for words in (
        "gpu-1",
        "0: Instinct MI210 gfx90a",
        "60.0 GiB of 64.0 GiB",
        "6.8.5",
        "proven, 41 °C",
        "HSA_STATUS_ERROR_MEMORY_APERTURE_VIOLATION (hardware)",
        "fell back to cpu",
        "hex8_2p-1 degraded on cpu",
    ):
        assert words in text


def test_a_degraded_run_a_quarantine_and_a_gpu_that_cannot_be_used_are_problems() -> None:
    broken = CARD.model_copy(update={"fault": "NVML: GPU is lost"})
    said = TrainingNodes([trainer(gpus=(broken,), runs=(RUN,))], {}, NOW).problems
    held = TrainingNodes([trainer(gpus=(broken,))], {"gpu-1": record()}, NOW).problems
    whole = TrainingNodes([], {"gpu-1": record(gpu=False)}, NOW).problems

    assert said == (
        "run hex8_2p-1 of lane hex8_2p is degraded: on cpu of gpu-1",
        "gpu-1: GPU 0 cannot be used: NVML: GPU is lost",
    )
    assert len(held) == 1
    assert "its GPUs get no training runs until" in held[0]
    assert "gpu-1: it gets no training runs until" in whole[0]


def test_what_is_over_is_no_problem() -> None:
    assert TrainingNodes([trainer(gpus=(CARD,))], {"gpu-1": record(-1.0)}, NOW).problems == ()
    stopped = trainer(runs=(), state="stopped")
    assert TrainingNodes([stopped], {"gpu-1": record(None)}, NOW).problems == ()


def test_a_trainer_that_fell_silent_is_a_problem_that_names_its_runs_and_its_gpus_are_not_called_proven() -> None:
    nodes = TrainingNodes([trainer(gpus=(CARD,), runs=(RUN,), lost=True)], {}, NOW)

    (said,) = nodes.problems
    assert said.startswith("the trainer on gpu-1 is lost, last heard 1 s ago; its runs go on without it")
    assert said.endswith(": hex8_2p-1")
    assert "trainer lost" in shown(nodes)
    assert "proven" not in shown(nodes)


def test_a_flag_is_shown_and_is_no_problem() -> None:
    flagged = CARD.model_copy(update={"warning": "HSA_OVERRIDE_GFX_VERSION=10.3.0 makes the GPU pass for another one"})
    nodes = TrainingNodes([trainer(gpus=(flagged,))], {}, NOW)

    assert nodes.problems == ()
    assert "HSA_OVERRIDE_GFX_VERSION=10.3.0" in shown(nodes)


def test_where_nobody_trains_nothing_is_drawn_and_records_are_told_all_the_same() -> None:
    nodes = TrainingNodes([], {"gpu-1": record()}, NOW)

    assert drawn(nodes) is None
    (entry,) = nodes.document()
    assert (entry["node"], entry["gpus"], entry["quarantine"]["gpu"]) == ("gpu-1", [], True)
    assert entry["last_fault"]["fell_back"] == "cpu"


def test_a_trainer_without_a_gpu_has_a_line_too() -> None:
    assert "none" in shown(TrainingNodes([trainer()], {}, NOW))


def test_trainers_with_other_lanes_are_a_problem_as_long_as_they_run() -> None:
    one, two = trainer(lanes={"hex8": "aaaa"}), trainer("gpu-2", lanes={"hex8": "bbbb"})
    gone = trainer("gpu-2", lost=True, lanes={"hex8": "bbbb"})

    assert TrainingNodes([one, two], {}, NOW).problems == (
        "lane hex8 differs between nodes: aaaa on gpu-1; bbbb on gpu-2",
    )
    assert not any("differs" in each for each in TrainingNodes([one, gone], {}, NOW).problems)
    assert TrainingNodes([one], {}, NOW).document()[0]["lanes"] == {"hex8": "aaaa"}
