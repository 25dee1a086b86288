"""`fleetcast demo --full`: new data, one run, its node dies, it goes on elsewhere, all serve what it made. And that the
demo notices when one of these is not so."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleetcast.cli.demo.circle import LANE, STEPS, write_lanes
from fleetcast.cli.local.layout import Layout
from fleetcast.daemons.trainer.lanes.loading import load_all

SECONDS = 400
SHORT = """
import sys
from fleetcast.cli.demo import circle, steps, story
from fleetcast.cli.entry import run
story.STEPS = steps.STEPS[:1]
BROKEN
sys.exit(run(["demo", "--full", "--json"]))
"""
BROKEN = {
    # What is not brought elsewhere dies with its node.
    "copies": (
        'circle.LANE = circle.LANE.replace("copies = 1", "copies = 0")',
        "kill that node in the middle of the run",
    ),
    # Without a state to go on from the other node begins anew.
    "memory": (
        (
            'words = \'"env", "-u", "FLEETCAST_CHECKPOINT", {python},\'\n'
            "circle.LANE = circle.LANE.replace('{python},', words)"
        ),
        "it goes on elsewhere, from its checkpoint",
    ),
}


def told(folder: Path, *command: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=SECONDS - 20,
    )
    assert list(folder.iterdir()) == [], "it leaves nothing behind"
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["ok"] is (done.returncode == 0), done.stderr
    return document


def test_lane_of_the_demo_is_one_that_trainers_read(tmp_path: Path) -> None:
    layout = Layout(tmp_path / 'a "quoted" folder')
    lane = load_all(write_lanes(layout)).find("hex8_circle")
    assert lane is not None
    assert lane.command[0] == sys.executable
    assert str(layout.publish) in lane.command
    assert lane.resources.labels == {"gpu": "simulated"}
    assert "copies = 1" in LANE, "what a variant below takes away"


@pytest.mark.soak
@pytest.mark.timeout(SECONDS)
def test_the_whole_circle_is_shown_by_one_command(tmp_path: Path) -> None:
    document = told(tmp_path, "-m", "fleetcast", "demo", "--full", "--json")
    assert document["ok"], document.get("error")
    names = [step["name"] for step in document["steps"]]
    assert [name for name, _ in STEPS] == names[-3 - len(STEPS) : -3]
    served = {(each["model"], each["node"]) for each in document["installs"]}
    assert {("hex8_circle", f"node-{number}") for number in (1, 2, 3)} <= served


@pytest.mark.soak
@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize(("code", "step"), BROKEN.values(), ids=BROKEN.keys())
def test_circle_that_is_broken_is_noticed_where_it_breaks(tmp_path: Path, code: str, step: str) -> None:
    document = told(tmp_path, "-c", SHORT.replace("BROKEN", code))
    failed = [each["name"] for each in document["steps"] if not each["ok"]]
    assert failed[0] == step, document
