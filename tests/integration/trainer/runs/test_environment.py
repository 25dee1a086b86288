"""What a job that a trainer started finds in its environment: looked up by the job itself."""

import json
import os
from pathlib import Path

import pytest
from tests.integration.trainer.runs.lives import a_run, ask, life, until

from fleetcast.bus import Bus
from fleetcast.config import environment
from fleetcast.events.training import TRAINING_ENDED, TrainingPhase

pytestmark = pytest.mark.asyncio

MACHINE = {"PATH": os.environ["PATH"], "CUDA_HOME": "/cuda", "HF_TOKEN": "hf_abc", "https_proxy": "http://proxy:3128"}
SECRET = {
    "NATS_URL": "nats://user:secret@host",
    "NATS_PASSWORD": "secret",
    "FLEETCAST_BUS_TOKEN": "secret",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
    "CREDENTIALS_DIRECTORY": "/run/secret",
    "NOTIFY_SOCKET": "/run/secret/notify",
    "WATCHDOG_USEC": "secret",
}


async def seen_by_a_job(bus: Bus, folder: Path) -> dict[str, str]:
    told = folder / "environment.json"
    script = f"import json, os\njson.dump(dict(os.environ), open({str(told)!r}, 'w'))"
    await ask(bus, a_run("1", script, env={"BATCH": "8"}))
    async with life(bus, folder, environment=MACHINE | SECRET):
        run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
    assert run.phase is TrainingPhase.SUCCEEDED
    seen: dict[str, str] = json.loads(told.read_text())
    return seen


async def test_a_job_has_the_environment_of_its_machine_and_no_secret_of_the_daemon(bus: Bus, tmp_path: Path) -> None:
    seen = await seen_by_a_job(bus, tmp_path)
    assert not seen.keys() & SECRET.keys()
    assert not [name for name, value in seen.items() if "secret" in value]
    assert MACHINE.items() <= seen.items()
    assert (seen["BATCH"], seen["FLEETCAST_RUN_ID"]) == ("8", "run-1")
    assert seen["FLEETCAST_STORE_DATA"] == str(tmp_path / "n1")


@pytest.mark.soak
async def test_the_environment_of_a_job_shows_a_daemon_that_passes_everything_on(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "for_job", dict)
    assert (await seen_by_a_job(bus, tmp_path)).items() >= SECRET.items()
