"""Values for tests of claims."""

from datetime import UTC, datetime
from typing import Any

from fleetcast.daemons.trainer.claims.eligibility import NodeFacts
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.gpus import Gpu
from fleetcast.events.state import Cause
from fleetcast.events.training import DataInput, TrainingRunState

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DATA = DataInput(lane="hex8", version="d1", artifact="a" * 64, samples=300)
GIB = 2**30


def lane(**changes: Any) -> LaneDefinition:
    return LaneDefinition(**{"name": "hex8", "model": "hex8", "command": ("train",), **changes})


def run(definition: LaneDefinition | None = None, **changes: Any) -> TrainingRunState:
    at = "2026-11-21T11:00:00.000Z"
    made = TrainingRunState(
        run="hex8-1",
        lane="hex8",
        model="hex8",
        data=(DATA,),
        definition=(definition or lane()).kept(),
        created_at=at,
        at=at,
        cause=Cause(event="e1", sequence=1, by="/test", correlation="e1"),
    )
    return made.model_copy(update=changes)


def gpu(index: int = 0, **changes: Any) -> Gpu:
    return Gpu(
        **{
            "index": index,
            "vendor": "nvidia",
            "arch": "sm_90",
            "memory_total": 80 * GIB,
            "memory_free": 80 * GIB,
            "driver": "550.54.15",
            **changes,
        }
    )


def node(name: str = "n1", **changes: Any) -> NodeFacts:
    """A node that may take any run of `lane()`."""
    facts = {
        "labels": {"gpu": "nvidia"},
        "artifacts": frozenset({DATA.artifact}),
        "gpus": (gpu(),),
        "limits": {"gpu": 1, "cpu": 1, "control": 4},
        "disk_free": 100 * GIB,
    }
    return NodeFacts(name, **{**facts, **changes})
