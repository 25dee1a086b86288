"""`fleetcast up`: a fleet on one machine, found by other commands, ended without a trace of a process."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file
from tests.integration.cli.stand import Ended, ended, start


@dataclass(frozen=True)
class Up:
    """A running `fleetcast up --json`, and the document that it greeted with."""

    home: Path
    process: "subprocess.Popen[str]"
    greeting: dict[str, object]

    def cli(self, *arguments: str) -> Ended:
        """A command of the same user, in another terminal; nothing tells it which fleet is meant."""
        return ended(start(self.home, None, *arguments))


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    process = start(tmp_path, None, "up", "--nodes", "2", "--folder", "fleet", "--json")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, ended(process).err
        yield Up(tmp_path, process, json.loads(line))
    finally:
        if process.poll() is None:
            ended(process, signal.SIGINT)


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that was started for a fleet below *home*: they all have it as their home folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_other_commands_find_a_running_up_and_ctrl_c_ends_everything(up: Up) -> None:
    model = up.home / "fleet" / "publish" / "m.safetensors"
    save_file({"w": np.ones((64, 64), dtype=np.float32)}, model)
    promoted = up.cli("promote", "hex8", "1", str(model), "--wait", "--timeout", "60s", "--json")
    assert promoted.code == 0, promoted
    assert promoted.document["rollout"]["ready"] == ["node-1", "node-2"]

    shown = up.cli("status", "--json")
    assert (shown.code, shown.document["degraded"]) == (0, [])

    verified = up.cli("verify", "--json")
    assert (verified.code, len(verified.document["checked"])) == (0, 2)

    told = up.cli("why", "hex8", "--json").document["chain"]
    assert {"model.promoted", "artifact.available", "version.installed", "version.activated"} <= {
        link["type"] for link in told["links"]
    }
    lines = up.cli("logs", "--cid", promoted.document["event"], "--json").out.splitlines()
    assert {"node-1", "node-2"} <= {json.loads(line)["node"] for line in lines}

    second = up.cli("up", "--folder", "fleet", "--json")
    assert (second.code, second.document["error"]["code"]) == (1, "already_up")

    outside = up.home / "outside.bin"
    outside.write_bytes(b"weights")
    refused = up.cli("promote", "hex8", "2", str(outside), "--json")
    assert refused.document["error"]["code"] == "outside_publish_roots"

    assert len(processes_of(up.home)) >= 4, "up, nats-server and two nodes"
    assert ended(up.process, signal.SIGINT).code == 130
    assert processes_of(up.home) == []
    assert up.cli("status", "--json").code == 6


@pytest.mark.parametrize(("option", "text"), [("--policy", "[default]\nmode = 'atuo'\n"), ("--gates", "[defualt]\n")])
def test_a_mistake_in_what_it_is_to_decide_by_is_shown_before_anything_starts(
    tmp_path: Path, option: str, text: str
) -> None:
    (tmp_path / "rules.toml").write_text(text, encoding="utf-8")
    refused = ended(start(tmp_path, None, "up", "--folder", "fleet", option, "rules.toml", "--json"))

    assert (refused.code, refused.document["error"]["code"]) == (2, "config")
    assert "rules.toml:" in refused.document["error"]["why"]
    assert not (tmp_path / "fleet").exists()


def test_a_killed_up_takes_its_processes_along(up: Up) -> None:
    up.process.kill()
    up.process.communicate()
    deadline = time.monotonic() + 10
    while (left := processes_of(up.home)) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.2)
    assert left == []
