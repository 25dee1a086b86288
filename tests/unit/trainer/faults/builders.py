"""Values that tests of faults are made from."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.supervision.spec import Exit
from fleetcast.events.runs import FaultClass
from fleetcast.events.state import Cause
from fleetcast.events.training import Attempt, CheckpointRecord, Remedy, TrainingPhase, TrainingRunState
from fleetcast.registry.commands import stamp

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
APERTURE = "HSA_STATUS_ERROR_MEMORY_APERTURE_VIOLATION"
ABORTED = (
    "epoch 3: loss 0.41",
    f":0:rocdevice.cpp :2726: 12345: Callback: Queue 0x7f3c00000000 aborting with error : {APERTURE}: code: 0x29",
    "Aborted (core dumped)",
)


def after(**times: float) -> datetime:
    return NOW + timedelta(**times)


def ended(*stderr: str, code: int | None = 1, signal: int | None = None, reason: Any = "ended", **more: Any) -> Exit:
    return Exit(None if signal else code, signal, 12.5, tuple(stderr), reason, **more)


def lane(**more: Any) -> LaneDefinition:
    return LaneDefinition.model_validate({"name": "hex8_2p", "command": ["python", "train.py"], **more})


def attempt(node: str, signature: str, claim: int = 1, remedy: Remedy = Remedy.ELSEWHERE, **more: Any) -> Attempt:
    return Attempt(
        claim=claim,
        node=node,
        started_at=stamp(after(hours=-2)),
        ended_at=stamp(after(hours=-1)),
        fault_class=FaultClass.HARDWARE,
        signature=signature,
        remedy=remedy,
        **more,
    )


def checkpoint(minutes_ago: float, step: int = 21000) -> CheckpointRecord:
    return CheckpointRecord(path="/c/step.pt", node="gpu-1", step=step, at=stamp(after(minutes=-minutes_ago)))


def run(**more: Any) -> TrainingRunState:
    given: dict[str, Any] = {
        "run": "hex8_2p-1",
        "lane": "hex8_2p",
        "model": "hex8_2p",
        "phase": TrainingPhase.RUNNING,
        "claim": 2,
        "owner": "gpu-1",
        "device": "rocm:0",
        "created_at": stamp(NOW),
        "at": stamp(NOW),
        "cause": Cause(event="e", sequence=1, by="/fleet/n1/job", correlation="c"),
    }
    return TrainingRunState(**given | more)
