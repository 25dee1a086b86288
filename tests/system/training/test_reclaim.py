"""A machine is taken away under a run: the run saves, leaves in time, and goes on elsewhere with its step counter; real
distributors and trainers, and a job that speaks through the client."""

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.integration.trainer.checkpoints.rig import until

from fleetcast.bus.streams import TRAINING
from fleetcast.config.settings import Settings
from fleetcast.config.trainer import TrainerSettings
from fleetcast.daemons.testing import Fleet, TrainerProcess, fleet
from fleetcast.events.training import TrainingPhase, TrainingRunState, training_subject

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]

JOB = """
import json, pathlib, time
from fleetcast.client import run

with run() as r:
    step = json.loads(pathlib.Path(r.resume_from).read_text())["step"] if r.resume_from else 0
    r.resumed(step=step)
    folder = pathlib.Path(r.checkpoint_dir)

    def save():
        spare = folder / f".step-{step}.json"
        spare.write_text(json.dumps({"step": step}))
        spare.rename(folder / f"step-{step}.json")
        r.checkpoint(folder / f"step-{step}.json", epoch=0)

    while not (pathlib.Path(__file__).parent / "enough").exists():
        r.step_began()
        time.sleep(0.01)
        step += 1
        r.step_ended()
        if r.stop_requested:
            save()
            raise SystemExit(0)
        if step % 20 == 0:
            save()
    r.promote(pathlib.Path(__file__).parent / "publish" / "model.bin", version="1")
"""


@asynccontextmanager
async def training(folder: Path) -> AsyncIterator[tuple[Fleet, dict[str, TrainerProcess]]]:
    """Two nodes that train one lane on their CPUs."""
    (folder / "job.py").write_text(JOB)
    lanes = folder / "lanes.toml"
    lanes.write_text(
        f"""
[lane.hex8]
work_class = "cpu"
command = ["{sys.executable}", "{folder / "job.py"}"]
grace_seconds = 10
bucket = {{ required = 10 }}
"""
    )

    def with_lanes(_name: str, settings: Settings) -> Settings:
        return settings.model_copy(update={"trainer": TrainerSettings(lanes=lanes, supervision="process")})

    async with fleet(folder, nodes=2, settings=with_lanes) as running:
        trainers = {name: TrainerProcess(name, node.folder, node.settings) for name, node in running.nodes.items()}
        try:
            for trainer in trainers.values():
                trainer.start()
            for trainer in trainers.values():
                await trainer.until_ready()
            yield running, trainers
        finally:
            (folder / "enough").touch()
            for trainer in trainers.values():
                trainer.kill()


async def _run(running: Fleet) -> TrainingRunState | None:
    entries = await running.bus.newest(TRAINING, (training_subject("*"),))
    return TrainingRunState.model_validate_json(entries[0].data) if entries else None


async def _saved(running: Fleet) -> TrainingRunState | None:
    run = await _run(running)
    return run if run is not None and run.checkpoint is not None and run.phase is TrainingPhase.RUNNING else None


async def _over(running: Fleet) -> TrainingRunState | None:
    run = await _run(running)
    return run if run is not None and run.ended_at is not None and run.commits else None


@pytest.mark.soak
async def test_run_whose_machine_is_taken_away_goes_on_elsewhere_where_it_stood(tmp_path: Path) -> None:
    async with training(tmp_path) as (running, _):
        data = io.BytesIO()
        np.savez(data, x=np.zeros((20, 4), np.float32), y=np.zeros(20, np.int64))
        path = running.publish("hex8.npz", data.getvalue())
        body = {"path": str(path), "node": "node-1", "samples_new": 20, "samples_total": 20}
        await running.say("fc.ev.export.completed.hex8", body)
        before = await until("it runs and has saved", lambda: _saved(running))
        assert before.owner is not None
        assert before.checkpoint is not None
        assert before.checkpoint.step is not None
        drill = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fleetcast", "drill", "reclaim", before.owner, "--in", "20s"),
            *("--server", running.server.url, "--json"),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await drill.communicate()
        said = json.loads(out)
        assert drill.returncode == 0, said
        steps = {step["step"]: step["seconds"] for step in said["runs"][0]["steps"]}
        assert list(steps) == ["saved", "released", "claimed", "runs again"]
        assert steps["released"] < 20, "the machine would be gone"
        again = await until("it runs again", lambda: _saved(running))
        running.publish("model.bin", b"a model")
        (tmp_path / "enough").touch()
        run = await until("it ended, and its promotion was accepted", lambda: _over(running))
    assert run.phase is TrainingPhase.SUCCEEDED
    assert again.owner not in {None, before.owner}
    assert [attempt.outcome for attempt in run.attempts] == ["reclaimed", "succeeded"]
    first, second = run.attempts
    assert second.resumed_step is not None
    assert run.step is not None
    assert before.checkpoint.step < second.resumed_step <= run.step, "what it saved at the end is what it goes on from"
    assert (run.reclaims, run.saves) == (1, 1)
    assert run.faults == {}, "a preemption is nobody's fault"
    assert [(commit.claim, commit.what) for commit in run.commits] == [(second.claim, "model.promoted hex8@1")]
    assert first.node != second.node
