"""`fleetcast demo` as its user runs it: what it says, what it proves, and that nothing is left of it."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

SECONDS = 110
RUNGS = {"bittorrent", "aria2", "rsync"}
STEPS = [
    "start nats-server, three nodes and the daemons that serve them",
    "make a model and a data set",
    "promote version 1",
    "promote version 2",
    "kill a node in the middle of version 3",
    "start it again",
    "damage a stored byte",
    "export a data set",
    "gates refuse a weak version and pass a good one",
    "try the next one as a canary",
    "its errors rise, and it is taken back",
    "read what was decided, and why",
    "stop",
    "leave no process",
    "leave no folder",
]
BROKEN = """
import sys
from fleetcast.cli.demo import steps, story
from fleetcast.cli.demo.evidence import check
from fleetcast.cli.entry import run

async def broken(stage):
    check(False, "the earth is not flat")

story.STEPS = (steps.STEPS[0], ("prove the impossible", broken))
sys.exit(run(["demo", "--json"]))
"""


def start(folder: Path, *command: str) -> "subprocess.Popen[str]":
    """Begin a demo whose temporary folder is below *folder*, which also marks its processes."""
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_nothing_is_left(folder: Path) -> None:
    """No file below *folder*, and no process that was started for it."""
    assert list(folder.iterdir()) == []
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process.cmdline())
    assert left == []


@pytest.mark.timeout(180)
def test_the_demo_proves_the_whole_story_and_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = start(tmp_path, "-m", "fleetcast", "demo", "--json")
    out, err = demo.communicate(timeout=170)
    assert_nothing_is_left(tmp_path)
    told = json.loads(out)
    assert demo.returncode == 0, err
    assert told["ok"] is True
    assert "watch it: http://127.0.0.1:" in err
    assert told["seconds"] > 0
    assert [node["node"] for node in told["nodes"]] == ["node-1", "node-2", "node-3"]
    assert [step["name"] for step in told["steps"]] == STEPS
    assert all(step["ok"] and step["seconds"] >= 0 and step["detail"] for step in told["steps"])
    assert_installs(told["installs"])


def assert_installs(installs: list[dict[str, Any]]) -> None:
    """Versions of two models and a data set on three nodes, the same bytes everywhere, every check passed."""
    wanted = {("hex8_2p", "1"), ("hex8_2p", "2"), ("hex8_2p", "3"), ("hex8_selfplay", "gen-1")}
    wanted |= {("judged", "2"), ("judged", "3")}
    nodes = {"node-1", "node-2", "node-3"}
    # What gates refused is on the nodes too, sooner or later: it is distributed, and served by none.
    found = {(i["model"], i["version"], i["node"]) for i in installs} - {("judged", "1", n) for n in nodes}
    assert found == {(*w, n) for w in wanted for n in nodes}
    for model, version in wanted:
        same = [i for i in installs if (i["model"], i["version"]) == (model, version)]
        assert len({i["sha256"] for i in same}) == 1
        assert len({i["bytes"] for i in same}) == 1
        # Which rung of the ladder brought it depends on how busy this machine is.
        fetched = [i["transport"].split("+") for i in same if i["node"] != "node-1"]
        assert all(rung in RUNGS for rungs in fetched for rung in rungs)
    assert {i["bytes"] for i in installs if i["model"] == "hex8_2p"} == {67_110_344}
    for install in installs:
        assert install["checks"].keys() == {"size", "sha256", "format"}
        assert install["checks"]["size"] == install["checks"]["format"] == "ok"
        assert install["checks"]["sha256"] in {"ok", "by pieces root", "confirmed"}


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize(
    ("number", "code", "at"),
    [
        pytest.param(signal.SIGINT, 130, f"[3/{len(STEPS) - 3}]", marks=pytest.mark.soak),
        pytest.param(signal.SIGTERM, 143, "waiting for the slot order", marks=pytest.mark.soak),
    ],
)
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals, code: int, at: str) -> None:
    demo = start(tmp_path, "-m", "fleetcast", "demo", "--json")
    assert demo.stderr is not None
    assert any(at in line for line in demo.stderr)
    demo.send_signal(number)
    # A second Ctrl-C, of somebody who is in a hurry, leaves nothing behind either.
    demo.send_signal(number)
    out, _ = demo.communicate(timeout=SECONDS - 20)
    assert demo.returncode == code
    assert json.loads(out)["error"]["code"] in {"interrupted", "terminated"}
    assert_nothing_is_left(tmp_path)


@pytest.mark.timeout(SECONDS)
def test_a_demo_that_fails_names_the_step_shows_the_logs_and_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = start(tmp_path, "-c", BROKEN)
    out, err = demo.communicate(timeout=SECONDS - 20)
    assert_nothing_is_left(tmp_path)
    assert demo.returncode == 1
    told = json.loads(out)
    assert told["ok"] is False
    assert [step["name"] for step in told["steps"] if not step["ok"]] == ["prove the impossible"]
    assert told["error"]["message"] == "the earth is not flat"
    assert "--- the end of node-1.distributor.log" in err
    assert "the demo failed at: prove the impossible" in err
