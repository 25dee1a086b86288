"""When a run that fell back to the CPU goes back to a GPU."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.trainer.faults.builders import APERTURE, NOW, after, attempt, checkpoint, run

from fleetcast.daemons.trainer.faults.returning import MOST_RETURNS, Candidate, may_return
from fleetcast.daemons.trainer.faults.ward import candidate
from fleetcast.events.gpus import Gpu
from fleetcast.events.training import Remedy, TrainingPhase, TrainingRunState
from fleetcast.registry.commands import stamp

WELL = Candidate("gpu-2", probe=True, probed_at=after(minutes=-5))


def degraded(**more: Any) -> TrainingRunState:
    given = {
        "phase": TrainingPhase.DEGRADED,
        "cpu": True,
        "degraded_at": stamp(after(minutes=-30)),
        "checkpoint": checkpoint(1),
        "attempts": (attempt("gpu-1", APERTURE, remedy=Remedy.CPU),),
    }
    return run(**given | more)


def test_it_returns_to_a_gpu_that_fits_and_was_proven_since_the_fault() -> None:
    made = may_return(degraded(), [replace(WELL, node="gpu-3", reason="it has no GPU"), WELL], NOW)

    assert (made.ok, made.node) == (True, "gpu-2")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reason": "quarantined until 13:00"}, "quarantined"),
        ({"problems": ("HSA_OVERRIDE_GFX_VERSION=10.3.0 makes the GPU pass for another one",)}, "HSA_OVERRIDE"),
        ({"probe": None, "probed_at": None}, "not probed"),
        ({"probe": False}, "failed the probe"),
        ({"probed_at": after(hours=-2)}, "not probed since the fault"),
    ],
)
def test_a_gpu_against_which_anything_speaks_is_left_alone(changes: dict[str, Any], said: str) -> None:
    made = may_return(degraded(), [replace(WELL, **changes)], NOW)

    assert not made.ok
    assert said in made.reasons[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"degraded_at": stamp(after(minutes=-9))}, "less than 10 minutes"),
        ({"checkpoint": None}, "no checkpoint"),
        ({"checkpoint": checkpoint(5)}, "too old"),
        ({"checkpoint": checkpoint(40)}, "too old"),
        ({"phase": TrainingPhase.RUNNING}, "not degraded"),
        (
            {"attempts": tuple(attempt("g", "s", n, Remedy.CPU) for n in range(1, MOST_RETURNS + 2))},
            f"fell back {MOST_RETURNS + 1} times",
        ),
    ],
)
def test_a_run_that_would_lose_work_or_has_moved_too_often_stays(changes: dict[str, Any], said: str) -> None:
    made = may_return(degraded(**changes), [WELL], NOW)

    assert not made.ok
    assert said in made.reasons[0]


def test_the_least_proven_gpu_of_a_node_counts() -> None:
    gpus = [Gpu(index=n, vendor="amd", proven_at=stamp(after(minutes=-n))) for n in (1, 9)]

    assert candidate("n", "", gpus).probed_at == after(minutes=-9)
    assert candidate("n", "", [*gpus, Gpu(index=3, vendor="amd")]).probe is None
    assert candidate("n", "", []).probe is None
