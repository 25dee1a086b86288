"""The end of a process becomes a record, facts and what comes next."""

import signal
from pathlib import Path

from tests.unit.trainer.faults.builders import ABORTED, APERTURE, NOW, checkpoint, ended, lane, run

from fleetcast.daemons.trainer.faults import fallback
from fleetcast.daemons.trainer.faults.guidance import found
from fleetcast.daemons.trainer.faults.judging import Judgement, judge
from fleetcast.daemons.trainer.supervision.output import Log
from fleetcast.events.envelope import new_event
from fleetcast.events.gpus import Gpu
from fleetcast.events.runs import RunFaultRecorded
from fleetcast.events.training import Remedy, RunFellBack

CARD = Gpu(index=0, vendor="amd", arch="gfx1012")


def judged(others: int | None, *, cpu: bool = True) -> Judgement:
    env = {"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}
    return judge(
        run(checkpoint=checkpoint(3)),
        lane(cpu_fallback=cpu),
        ended(*ABORTED, signal=signal.SIGABRT),
        node="gpu-1",
        found=found(env, [CARD], ["gfx1030"]),
        others=others,
        now=NOW,
    )


def test_a_fallback_carries_when_why_evidence_what_was_done_and_both_devices() -> None:
    made = judged(others=0)

    fault, fell = made.facts
    assert isinstance(fault, RunFaultRecorded)
    assert isinstance(fell, RunFellBack)
    assert (fell.timestamp, fell.from_device, fell.to_device) == ("2026-11-21T12:00:00.000Z", "rocm:0", "cpu")
    assert APERTURE in fell.reason
    assert fell.evidence["signal"] == "SIGABRT"
    assert fell.evidence["node"] == "gpu-1"
    assert fell.evidence["found"]["HSA_OVERRIDE_GFX_VERSION"] == "10.3.0"
    assert "step 21000" in fell.remedial_action
    for words in ("HSA_OVERRIDE_GFX_VERSION=10.3.0", "HIP_VISIBLE_DEVICES is not set", "gfx1030", "gfx1012"):
        assert words in fell.guidance
    assert made.again is not None
    assert (made.again.cpu, made.again.away_from) == (True, None)
    assert made.ended.remedy is Remedy.CPU
    assert made.on_node.fell_back == "cpu"


def test_a_fault_that_moves_the_run_tells_of_no_fallback() -> None:
    made = judged(others=2)

    assert [type(each) for each in made.facts] == [RunFaultRecorded]
    assert made.again is not None
    assert (made.again.cpu, made.again.away_from) == (False, "gpu-1")
    assert made.on_node.fell_back == ""


def test_an_end_that_is_final_has_nothing_that_comes_next() -> None:
    made = judge(run(), lane(), ended("ValueError: x"), node="gpu-1", now=NOW)

    assert made.again is None
    assert made.ended.outcome == "code"


def test_whatever_a_job_prints_the_facts_can_be_sent() -> None:
    for tail in (("\x00\x1b[31m" * 500,), ("ValueError: " + "x\ty" * 3000,), ("\ufffd" * 900,), ("",), ()):
        made = judge(run(), lane(), ended(*tail), node="gpu-1", now=NOW)
        for each in made.facts:
            data, _ = new_event(each, source="/fleet/gpu-1/trainer").encode()
            assert len(data) < 20_000


def test_the_log_of_the_run_says_that_it_goes_on_without_a_gpu(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "hex8_2p-1"
    fallback.announce(folder, "hex8_2p-1", claim=3, reason="aperture\nviolation")
    Log(folder / "stderr.log", 1 << 20).write(b"epoch 4\n")

    said = (folder / "stderr.log").read_text().splitlines()
    assert "CPU fallback ready; continuing training without GPU acceleration." in said[0]
    assert said[0].endswith("Claim 3; aperture violation")
    assert said[1] == "epoch 4"


def test_a_log_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    fallback.announce(tmp_path / "runs" / "r", "r", claim=1, reason="x")
