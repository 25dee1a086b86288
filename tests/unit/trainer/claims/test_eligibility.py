"""Which node may take a run, and the reason that each other one is told."""

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.trainer.claims.values import GIB, NOW, gpu, lane, node, run

from fleetcast.daemons.testing import heartbeat
from fleetcast.daemons.trainer.claims.eligibility import eligible, facts_of
from fleetcast.daemons.trainer.lanes.definition import Resources
from fleetcast.events.gpus import RunOnNode
from fleetcast.events.training import CheckpointRecord, WorkClass
from fleetcast.registry.commands import stamp


def on(run_id: str = "other-1", work_class: str = "gpu", gpus: tuple[int, ...] = (0,)) -> RunOnNode:
    return RunOnNode(run=run_id, lane="other", claim=1, work_class=work_class, phase="running", gpus=gpus)


def test_a_node_that_has_everything_takes_the_run_on_its_gpu() -> None:
    found = eligible(lane(), run(), node(), NOW)
    assert found.ok
    assert found.gpus == (0,)
    assert found.score == 1.0


@pytest.mark.parametrize(
    ("asked", "facts", "reason"),
    [
        ({}, {"trains": False}, "no trainer runs there"),
        ({}, {"drained": True}, "out of service"),
        ({}, {"quarantine": "Xid 79 until 13:00"}, "quarantined: Xid 79 until 13:00"),
        ({}, {"reclaim_deadline": "2026-11-21T12:02:00Z"}, "taken away at 2026-11-21T12:02:00Z"),
        ({"labels": {"rack": "r[12]"}}, {"labels": {"rack": "r3"}}, "label rack is r3, asked for: r[12]"),
        ({"labels": {"rack": "r1"}}, {}, "label rack is missing"),
        ({}, {"artifacts": frozenset()}, "does not hold data set hex8@d1"),
        ({"disk_bytes": 200 * GIB}, {}, "100.0 GiB free on its disk, asked for: 200.0"),
        ({}, {"gpus": ()}, "it has no GPU"),
        ({"vendor": "amd"}, {}, "it is of vendor nvidia, asked for: amd"),
        ({"arch": ("gfx90a",)}, {}, "it is sm_90, asked for: gfx90a"),
        ({}, {"arch_list": ("sm_70", "sm_80")}, "sm_90 is none of those that the library was built for"),
        ({"driver_min": "560.28"}, {}, "driver 550.54.15 is older than 560.28"),
        ({"gpus": 2}, {}, "1 of 2 GPUs fit (it has 1)"),
        ({}, {"gpus": (gpu(fault="failed the probe"),)}, "GPU 0: failed the probe"),
    ],
)
def test_what_a_node_lacks_is_the_reason_that_it_is_told(asked: Any, facts: Any, reason: str) -> None:
    found = eligible(lane(resources=Resources(**asked)), run(), node(**facts), NOW)
    assert not found.ok
    assert reason in found.reason


def test_memory_is_judged_by_what_is_free_now_and_not_by_what_the_card_has() -> None:
    wanted = lane(resources=Resources(memory_free_bytes=24 * GIB))
    found = eligible(wanted, run(), node(gpus=(gpu(memory_free=GIB),)), NOW)
    assert "1.0 GiB free, asked for: 24.0" in found.reason
    assert eligible(wanted, run(), node(gpus=(gpu(memory_free=GIB), gpu(1))), NOW).gpus == (1,)


def test_two_lanes_never_share_one_gpu() -> None:
    busy = node(runs=(on(),), limits={"gpu": 2})
    assert "GPU 0: it is in use" in eligible(lane(), run(), busy, NOW).reason
    assert eligible(lane(), run(), node(gpus=(gpu(), gpu(1)), runs=(on(),), limits={"gpu": 2}), NOW).gpus == (1,)


def test_a_class_that_is_full_takes_no_more_and_another_class_does() -> None:
    full = node(runs=(on(gpus=()),))
    assert "it has 1 of 1 runs of class gpu" in eligible(lane(), run(), full, NOW).reason
    small = lane(work_class=WorkClass.CPU)
    assert eligible(small, run(small), full, NOW).ok


def test_a_run_on_the_cpu_needs_no_gpu_and_takes_the_place_of_a_cpu_run() -> None:
    bare = node(gpus=(), limits={"gpu": 0, "cpu": 1})
    assert eligible(lane(), run(cpu=True), bare, NOW).ok
    taken = node(gpus=(), limits={"cpu": 1}, runs=(on(work_class="cpu", gpus=()),))
    assert "1 of 1 runs of class cpu" in eligible(lane(), run(cpu=True), taken, NOW).reason


def test_a_run_is_kept_away_from_a_node_until_the_moment_and_not_longer() -> None:
    until = stamp(NOW + timedelta(minutes=1))
    away = run(excluded={"n1": until})
    assert f"kept away from it until {until}" in eligible(lane(), away, node(), NOW).reason
    assert eligible(lane(), away, node(), NOW + timedelta(minutes=1)).ok
    assert eligible(lane(), away, node("n2"), NOW).ok


def test_the_node_that_holds_the_checkpoint_is_let_go_first() -> None:
    saved = CheckpointRecord(path="/c", node="n1", at="2026-11-21T11:30:00Z", nodes=("n1", "n2"))
    resumed = run(checkpoint=saved)
    scores = [eligible(lane(), resumed, node(name), NOW).score for name in ("n1", "n2", "n3")]
    assert scores[0] == scores[1] > scores[2]


def test_a_node_whose_trainer_fell_silent_trains_nothing() -> None:
    status = heartbeat("n1", at="", daemon="trainer", labels={"gpu": "nvidia"}, limits={"gpu": 1})
    assert facts_of(status, None).trains
    assert not facts_of(status, None, silent=("trainer",)).trains
    assert not facts_of(None, status).trains
