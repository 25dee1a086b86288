"""Commands of a job that a lane started speak for its run, as the client does."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleetcast.cli.entry import run


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job's environment, and a file that it made."""
    for name, value in {"NODE_ID": "gpu-1", "RUN_ID": "hex8-1", "CLAIM": "2", "STORE_DATA": str(tmp_path)}.items():
        monkeypatch.setenv(f"FLEETCAST_{name}", value)
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "m.bin"
    made.write_bytes(b"weights")
    return made


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What a command would publish."""
    assert run([*words, "--dry-run", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["data"]
    return found


@pytest.mark.parametrize("command", ["promote", "register"])
def test_what_a_job_s_command_submits_says_its_run_and_its_claim(
    job: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    found = said(capsys, command, "hex8", "43", str(job))
    assert (found["run_id"], found["claim"]) == ("hex8-1", 2)


def test_what_a_job_s_command_emits_says_its_claim_of_its_own_run_alone(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = ("emit", "run.checkpoint_saved", "epoch=1", f"path={job}", "size=7")
    assert said(capsys, *saved)["claim"] == 2
    other = said(capsys, *saved, "run_id=hex8-9")
    assert (other["run_id"], other.get("claim")) == ("hex8-9", None)
    # What speaks for no run says none.
    assert "claim" not in said(capsys, "emit", "lane.triggered", "lane=hex8", "reason=new")


def test_outside_lanes_nothing_is_added(
    job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLEETCAST_CLAIM")
    found = said(capsys, "promote", "hex8", "43", str(job))
    assert (found.get("run_id"), found.get("claim")) == (None, None)
