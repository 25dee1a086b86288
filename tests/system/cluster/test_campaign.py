"""Every fault once on three servers with networks and disks of their own; `./fleetcast bench cluster` is the long form.

docs/reliability.md says what each fault is and what was measured.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.system.cluster import inside
from tests.system.cluster.kills import kill_loop
from tests.system.cluster.machines import CHECKOUT, site

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What a brief campaign saw."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.system.cluster.brief"], cwd=CHECKOUT, capture_output=True, text=True, timeout=540
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    if "left_out" in found:
        pytest.skip(found["left_out"])
    return found


def whole(part: dict[str, Any]) -> bool:
    """Whether events were acknowledged, and none of them is missing or there twice."""
    return bool(part["acked"] > 0 and part["acked_lost"] == 0 and part["doubled"] == 0)


def test_killed_servers_and_workers_lose_nothing_and_every_event_has_its_effect_once(seen: dict[str, Any]) -> None:
    assert whole(seen["kill"]), seen["kill"]
    assert seen["kill"]["unhandled"] == 0


def test_a_server_that_is_cut_off_says_yes_to_nothing_while_the_others_go_on(seen: dict[str, Any]) -> None:
    assert whole(seen["partition"]), seen["partition"]
    assert seen["partition"]["minority_said_yes"] == 0
    assert seen["partition"]["minority_refused"] > 0


def test_a_full_disk_of_one_server_is_noticed_and_no_publisher_is_lied_to(seen: dict[str, Any]) -> None:
    assert whole(seen["disk"]), seen["disk"]
    assert seen["disk"]["noticed_seconds"] is not None


def test_writes_that_hang_are_noticed_although_the_server_says_that_it_is_healthy(seen: dict[str, Any]) -> None:
    assert seen["wedge"]["bus_seconds"] < 30
    # Whoever had believed the server, or the connection, would have noticed nothing.
    assert seen["wedge"]["server_healthy"] > 0
    assert seen["wedge"]["client_connected"] > 0


def test_a_power_cut_of_all_servers_at_once_loses_nothing_that_was_acknowledged(seen: dict[str, Any]) -> None:
    assert whole(seen["power"]), seen["power"]


def bench(*options: str, timeout: float = 540) -> dict[str, Any]:
    """The figures of a run of the benchmark."""
    words = [sys.executable, "-m", "tests.benchmarks.cluster", "--json", *options]
    ran = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, timeout=timeout)
    document = json.loads(ran.stdout)
    assert document["conditions"].get("left_out") is None or pytest.skip("needs root")
    return {name: figure["value"] for name, figure in document["figures"].items()}


@pytest.mark.soak
def test_servers_that_do_not_sync_are_caught_by_the_power_cut() -> None:
    figures = bench("--only", "power", "--seconds", "1")

    assert figures["acked_lost_power"] == 0
    assert figures["control_run_lost"] > 0


@pytest.mark.soak
@pytest.mark.asyncio
@pytest.mark.parametrize(("variant", "fault"), [({"how": "hastily"}, "unhandled"), ({"trusting": True}, "lost")])
async def test_workers_and_publishers_that_do_it_wrong_are_caught(
    tmp_path: Path, variant: dict[str, Any], fault: str
) -> None:
    """Acknowledged before it is done; and counted as stored when it was only sent."""
    async with site(tmp_path, apart=False) as made:
        found = await kill_loop(made, random.Random(1), 0, least=3, rest_seconds=20, **variant)

    assert getattr(found.tally, fault)


@pytest.mark.soak
def test_an_interrupted_campaign_leaves_nothing_behind() -> None:
    if why_not := inside.why_not():
        pytest.skip(why_not)
    words = [sys.executable, "-m", "tests.benchmarks.cluster", "--only", "power"]
    with subprocess.Popen(words, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "power" in running.stderr.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(10)
        running.send_signal(signal.SIGTERM)
        assert running.wait(120) == 130
    folders = f"fleetcast-cluster-{running.pid}-"
    assert folders not in subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout
    assert not list(Path(tempfile.gettempdir()).glob(f"{folders}*"))
    assert not list(Path("/run/netns").glob(f"fcc{running.pid}*"))
