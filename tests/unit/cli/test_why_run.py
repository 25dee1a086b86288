"""What `fleetcast why RUN` tells of a run that a lane started."""

from typing import Any

from tests.unit.trainer.faults.builders import APERTURE, NOW, after, attempt, checkpoint, lane, run

from fleetcast.cli.training.reasons import run_told
from fleetcast.daemons.trainer.claims.eligibility import NodeFacts
from fleetcast.events.gpus import Gpu
from fleetcast.events.training import Commit, Remedy, TrainingPhase
from fleetcast.registry.commands import stamp

WELL = Gpu(index=0, vendor="amd", proven_at=stamp(after(minutes=-5)))


def node(name: str, *gpus: Gpu) -> NodeFacts:
    return NodeFacts(name, gpus=gpus, limits={"gpu": 1, "cpu": 1})


def told(*nodes: NodeFacts, **fields: Any) -> list[str]:
    return run_told(run(definition=lane(cpu_fallback=True).kept(), **fields), nodes, NOW)


def test_a_run_that_waits_says_for_what_on_every_node() -> None:
    waits = {"phase": TrainingPhase.QUEUED, "owner": None, "claim": 0, "phase_detail": "waits for a node"}
    said = told(node("gpu-1", WELL.model_copy(update={"fault": "failed the probe"})), node("web-1"), **waits)

    assert said[0] == "run hex8_2p-1 of lane hex8_2p is queued: waits for a node"
    assert "gpu-1 may not: 0 of 1 GPUs fit (GPU 0: failed the probe)" in said
    assert "web-1 may not: it has no GPU" in said
    assert "gpu-1 may take it" in told(node("gpu-1", WELL), **waits)
    assert "no trainer was heard from: fleetcast run trainer" in told(**waits)


def test_a_run_on_the_cpu_says_what_each_claim_came_to_and_why_it_stays_there() -> None:
    claims = (
        attempt("gpu-1", APERTURE, 1, Remedy.CPU, outcome="hardware", detail="goes on on the CPU"),
        attempt("gpu-1", "", 2, slower=29.4, resumed_step=80).model_copy(update={"ended_at": None}),
    )
    fallen = {
        "phase": TrainingPhase.DEGRADED,
        "cpu": True,
        "device": "cpu",
        "degraded_at": stamp(after(minutes=-30)),
        "attempts": claims,
        "checkpoint": checkpoint(1),
    }
    said = told(node("gpu-1", WELL.model_copy(update={"fault": "quarantined"})), **fallen)

    assert said[1].startswith("claim 1 on gpu-1, 10:00:00")
    assert said[1].endswith(": hardware, goes on on the CPU")
    assert "from step 80, a step takes 29.4 times as long: under way" in said[2]
    assert said[3].startswith("after its next fault it goes on from step 21000, saved 11:59:00")
    assert said[4] == "it stays on the CPU: gpu-1: 0 of 1 GPUs fit (GPU 0: quarantined)"
    assert said[5] == "next: fleetcast logs hex8_2p-1 --follow"
    assert not any("stays on the CPU" in each for each in told(node("gpu-1", WELL), **fallen))


def test_a_run_that_has_ended_goes_on_from_nowhere() -> None:
    over = {"phase": TrainingPhase.FAILED, "ended_at": stamp(NOW), "attempts": (attempt("gpu-1", "exit 3"),)}
    said = told(**over)

    assert not any("after its next fault" in each for each in said)
    assert said[-1] == "next: fleetcast logs hex8_2p-1"


def test_a_run_that_succeeded_says_what_came_of_it_and_that_nothing_did() -> None:
    over = {"phase": TrainingPhase.SUCCEEDED, "ended_at": stamp(NOW), "attempts": (attempt("gpu-1", ""),)}
    promoted = Commit(claim=2, what="model.promoted hex8_2p@43", event="e", at=stamp(NOW))

    assert "accepted of it: model.promoted hex8_2p@43" in told(**over, commits=(promoted,))
    assert any("fleetcast why hex8_2p tells what was refused" in each for each in told(**over))
