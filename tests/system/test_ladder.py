"""Real distributors: what carries a transfer is stopped in the middle, and the ladder brings the rest."""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fleetcast.config.settings import Settings
from fleetcast.daemons.testing import Fleet, NodeProcess, fleet
from fleetcast.events.payloads import TransferMoved, TransferStarted, TransferVerified

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(shutil.which("aria2c") is None, reason="aria2c is not installed: apt install aria2"),
]

SIZE = 16 * 2**20
RATE = 4 * 2**20
"""Bytes per second that the origin sends: a transfer takes several seconds, whatever the machine does."""


def throttled(name: str, settings: Settings) -> Settings:
    """The swarm first, then HTTP; the origin sends slowly."""
    order = settings.ladder.model_copy(update={"order": ("bittorrent", "aria2", "rsync")})
    sends = RATE if name == "node-1" else 0
    limits = settings.limits.model_copy(update={"upload_bytes_per_second": sends})
    return settings.model_copy(update={"ladder": order, "limits": limits})


def swarm_process(node: NodeProcess) -> psutil.Process:
    """The child that carries BitTorrent transfers of a node."""
    assert node.process is not None
    below = psutil.Process(node.process.pid).children(recursive=True)
    return next(p for p in below if any("bittorrent.child" in word for word in p.cmdline()))


async def until_begun(f: Fleet, node: NodeProcess) -> None:
    await f.until(f"{node.name} has a first piece", lambda: node.logged("transfer.first_piece"))


async def verified(f: Fleet, name: str) -> TransferVerified:
    """What a node said once it had everything."""
    async with asyncio.timeout(30):
        while True:
            for event in await f.events(f"fc.ev.transfer.verified.{name}"):
                if isinstance(event.payload, TransferVerified):
                    return event.payload
            await asyncio.sleep(0.05)


async def moved(f: Fleet, name: str) -> list[TransferMoved]:
    events = await f.events(f"fc.ev.transfer.moved.{name}")
    return [e.payload for e in events if isinstance(e.payload, TransferMoved)]


def why(f: Fleet, what: str) -> str:
    """What `fleetcast why` prints."""
    command = [sys.executable, "-m", "fleetcast", "why", what, "--config", str(f.nodes["node-1"].config)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("number", [pytest.param(signal.SIGKILL, marks=pytest.mark.soak), signal.SIGSTOP])
async def test_http_brings_the_rest_when_the_swarm_process_is_killed_or_hangs(
    tmp_path: Path, number: signal.Signals
) -> None:
    data = random.Random(1).randbytes(SIZE)
    async with fleet(tmp_path, nodes=3, settings=throttled) as f:
        await f.promote("m", "1", f.publish("m.bin", data))
        node = f.nodes["node-2"]
        await until_begun(f, node)
        os.kill(swarm_process(node).pid, number)
        await f.until_served("m", "1", seconds=90)

        assert (node.data / "models/m/current/m.bin").read_bytes() == data
        fact = await verified(f, "node-2")
        assert fact.transport == "bittorrent+aria2"
        assert sum(fact.bytes_by_source.values()) <= 1.1 * SIZE
        (move,) = await moved(f, "node-2")
        assert (move.from_transport, move.transport) == ("bittorrent", "aria2")
        assert move.bytes_kept > 0
        assert not await moved(f, "node-3")
        told = await asyncio.to_thread(why, f, "m")
        assert "bittorrent first: [ladder] order says so" in told
        assert "node-2 moves m@1 from bittorrent to aria2, keeps" in told
        assert "node-2 has proven m@1 by bittorrent, then aria2" in told


async def test_a_node_without_aria2c_says_so_in_one_line_and_takes_the_next_rung(tmp_path: Path) -> None:
    """node-2 finds no program at all, and would fetch a file of this size by HTTP."""

    def by_size(name: str, settings: Settings) -> Settings:
        ladder = settings.ladder.model_copy(update={"aria2_from_bytes": 0})
        return settings.model_copy(update={"ladder": ladder})

    empty = tmp_path / "empty"
    empty.mkdir()
    async with fleet(tmp_path / "fleet", nodes=2, settings=by_size, start=False) as f:
        f.nodes["node-2"].environment = {"PATH": str(empty)}
        for node in f.nodes.values():
            node.start()
        await f.until_ready()
        await f.promote("m", "1", f.publish("m.bin", random.Random(2).randbytes(2**20)))
        await f.until_served("m", "1", seconds=60)

        missing = [e for e in f.nodes["node-2"].logged("transport.unavailable") if e["transport"] == "aria2"]
        assert [str(e["reason"]).startswith("aria2c is not installed: apt") for e in missing] == [True]
        assert (await verified(f, "node-2")).transport == "bittorrent"
        (started,) = [
            e.payload for e in await f.events("fc.ev.transfer.started.node-2") if isinstance(e.payload, TransferStarted)
        ]
        assert started.reason is not None
        assert started.reason.startswith("bittorrent first, although")
        assert "without aria2: aria2c is not installed" in started.reason


@pytest.mark.soak
async def test_a_transfer_that_was_superseded_stops_and_what_a_rollback_needs_follows(tmp_path: Path) -> None:
    async with fleet(tmp_path, nodes=2, settings=throttled) as f:
        node = f.nodes["node-2"]
        await f.promote("m", "1", f.publish("1.bin", random.Random(3).randbytes(SIZE)))
        await until_begun(f, node)
        await f.promote("m", "2", f.publish("2.bin", random.Random(4).randbytes(2**20)))
        await f.until_served("m", "2", seconds=60)

        assert node.logged("transfer.superseded")
        assert not (node.data / "models/m/1").exists()
        await f.until("the version before it is here as well", (node.data / "models/m/1").is_dir, 60)
        facts = [e.payload for e in await f.events("fc.ev.transfer.*.node-2")]
        stopped = [p for p in facts if isinstance(p, TransferStarted) and p.version == "1"]
        assert len(stopped) == 2


async def test_transfers_shows_every_rung_and_why_they_have_their_order(tmp_path: Path) -> None:
    async with fleet(tmp_path, nodes=2, settings=throttled) as f:
        await f.promote("m", "1", f.publish("m.bin", random.Random(5).randbytes(2**20)))
        await f.until_served("m", "1", seconds=60)
        config = str(f.nodes["node-1"].config)
        command = [sys.executable, "-m", "fleetcast", "transfers", "--all", "--json", "--config", config]
        shown = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        (transfer,) = json.loads(shown.stdout)["transfers"]

        assert transfer["choice"] == "bittorrent first: [ladder] order says so"
        assert {r["transport"]: r["state"] for r in transfer["rungs"]} == {
            "bittorrent": "done",
            "aria2": "waiting",
            "rsync": "skipped",
        }
