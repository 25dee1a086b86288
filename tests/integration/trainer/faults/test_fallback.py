"""A job that the ROCm runtime aborts as it does: a line, and SIGABRT from a thread. Real processes, a real server."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.integration.trainer.runs.lives import LIMIT_SECONDS, a_run, ask, life, until
from tests.unit.trainer.faults.builders import APERTURE

from fleetcast.bus import Bus
from fleetcast.bus.streams import TRAINING
from fleetcast.daemons.trainer.faults import slowing
from fleetcast.daemons.trainer.faults.fallback import LINE
from fleetcast.events.envelope import new_event
from fleetcast.events.runs import FaultClass, RunEpochLogged
from fleetcast.events.training import TRAINING_ENDED, Remedy, TrainingPhase, TrainingRunState

JOB = """
import os, sys, threading
if os.environ["FLEETCAST_CLAIM"] == "1":
    sys.stderr.write({words!r} + "\\n")
    sys.stderr.flush()
    thread = threading.Thread(target=os.abort)
    thread.start()
    thread.join()
"""
WAITS = """
else:
    import pathlib, time
    while not pathlib.Path({enough!r}).exists():
        time.sleep(0.01)
"""
SAYS = f"Callback: Queue 0x7f3c00000000 aborting with error : {APERTURE}: beyond the largest legal address. code: 0x29"


async def ended(bus: Bus, folder: Path, words: str) -> TrainingRunState:
    """A run whose first process says *words* and aborts, in a lane that allows the CPU and no other try."""
    lane = {"cpu_fallback": True, "retries": {FaultClass.HARDWARE: 0, FaultClass.UNKNOWN: 0}}
    await ask(bus, a_run("1", JOB.format(words=words), **lane))
    async with life(bus, folder):
        return await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)


@pytest.mark.asyncio
async def test_a_run_that_rocm_aborts_goes_on_on_the_cpu_says_so_in_its_log_and_is_recorded(
    bus: Bus, tmp_path: Path
) -> None:
    run = await ended(bus, tmp_path, SAYS)

    assert (run.phase, run.claim, run.cpu) == (TrainingPhase.SUCCEEDED, 2, True)
    first = run.attempts[0]
    assert (first.signature, first.remedy, first.fault_class) == (APERTURE, Remedy.CPU, FaultClass.HARDWARE)
    assert first.evidence["signal"] == "SIGABRT"
    said = (tmp_path / "n1" / "runs" / "run-1" / "stderr.log").read_text()
    assert said.index(SAYS) < said.index(LINE)
    facts = await bus.newest(TRAINING, ("fc.trn.fact.run.fallback.run-1.*",))
    assert len(facts) == 1


@pytest.mark.asyncio
async def test_a_job_that_aborts_for_another_reason_does_not_lose_its_gpu(bus: Bus, tmp_path: Path) -> None:
    run = await ended(bus, tmp_path, "terminate called after throwing an instance of 'std::runtime_error'")

    assert (run.phase, run.claim, run.cpu) == (TrainingPhase.FAILED, 1, False)
    assert run.attempts[0].signature == "SIGABRT"
    assert LINE not in (tmp_path / "n1" / "runs" / "run-1" / "stderr.log").read_text()


@pytest.mark.asyncio
async def test_the_line_stands_in_the_log_once_for_each_fallback_and_not_at_every_later_start(
    bus: Bus, tmp_path: Path
) -> None:
    fails_once = "elif os.environ['FLEETCAST_CLAIM'] == '2':\n    raise SystemExit(3)\n"
    lane = {"cpu_fallback": True, "retries": {FaultClass.HARDWARE: 0, FaultClass.UNKNOWN: 1}}
    await ask(bus, a_run("1", JOB.format(words=SAYS) + fails_once, **lane))
    async with life(bus, tmp_path):
        run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)

    assert (run.phase, run.claim, run.cpu) == (TrainingPhase.SUCCEEDED, 3, True)
    assert (tmp_path / "n1" / "runs" / "run-1" / "stderr.log").read_text().count(LINE) == 1


@pytest.mark.asyncio
async def test_the_incident_of_a_fallback_says_once_how_much_longer_a_step_takes_as_soon_as_epochs_tell(
    bus: Bus, tmp_path: Path
) -> None:
    enough = tmp_path / "enough"
    script = JOB.format(words=SAYS) + WAITS.format(enough=str(enough))
    await ask(bus, a_run("1", script, cpu_fallback=True, retries={FaultClass.HARDWARE: 0}))
    async with life(bus, tmp_path) as keeper:
        await until(bus, "run-1", lambda run: run.phase is TrainingPhase.DEGRADED)
        (owned,) = keeper.owned.values()
        await slowing.tell(owned)
        assert owned.run.attempts[-1].slower is None
        for claim, seconds in ((1, 0.5), (2, 10.0)):
            said = RunEpochLogged(run_id="run-1", node="n1", claim=claim, epoch=claim, step_seconds=seconds)
            await bus.publish(new_event(said, source="/test"))
        async with asyncio.timeout(LIMIT_SECONDS):
            while owned.run.attempts[-1].slower is None:  # the fallback's fact comes to the log a moment later
                await slowing.tell(owned)
                await asyncio.sleep(0.02)
        await slowing.tell(owned)
        enough.touch()
        run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)

    assert run.attempts[-1].slower == 20.0
    (fact,) = await bus.newest(TRAINING, ("fc.trn.fact.incident.raised.run-1.*",))
    raised = json.loads(fact.data)["data"]
    assert (raised["trigger"], raised["resource_id"], raised["severity"]) == ("run_fallback", "run-1", "medium")
    assert raised["context"]["slower"] == "a step took 10 s on cpu and 0.5 s on gpu: 20 times as long"
    assert raised["context"]["reasons"]
