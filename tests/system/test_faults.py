"""Something is killed, cut off or damaged in the middle; what must stay true does."""

import asyncio
import contextlib
import json
import pickle
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fleetcast.client.spool import SpoolWriter
from fleetcast.config.limits import LimitsSettings
from fleetcast.config.settings import BittorrentSettings, Settings, VerifySettings
from fleetcast.daemons.testing import Fleet, NodeProcess, fleet
from fleetcast.events.payloads import IntegrityFailed, TransferFailed

pytestmark = pytest.mark.asyncio

SLOW = 4 * 2**20
"""Bytes per second of nodes that something shall happen to in the middle."""


def slow(name: str, settings: Settings) -> Settings:
    """Receivers that take a few seconds for a transfer."""
    if name == "node-1":
        return settings
    return settings.model_copy(update={"limits": LimitsSettings(download_bytes_per_second=SLOW)})


def random_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def children(node: NodeProcess) -> list[psutil.Process]:
    assert node.process is not None
    return psutil.Process(node.process.pid).children(recursive=True)


def swarm_files(node: NodeProcess) -> list[Path]:
    return [p for p in (node.data / "swarm").rglob("*") if p.is_file()]


async def in_the_middle(f: Fleet, name: str, model: str, version: str) -> None:
    """Wait until a node reports between a tenth and nine tenths of a transfer."""
    async with asyncio.timeout(30):
        while True:
            status = (await f.statuses()).get(name)
            for entry in f.nodes[name].logged("transfer.first_piece"):
                if entry.get("version") == version:
                    return
            assert status is None or not any(t.version == version and t.state == "installed" for t in status.transfers)
            await asyncio.sleep(0.05)


async def test_a_node_that_was_down_catches_up_without_what_was_superseded(tmp_path: Path) -> None:
    async with fleet(tmp_path, nodes=3) as f:
        await f.promote("m", "1", f.publish("1.bin", b"1" * 9999))
        await f.until_served("m", "1")
        f.nodes["node-3"].kill()
        for version in ("2", "3", "4", "5"):
            await f.promote("m", version, f.publish(f"{version}.bin", version.encode() * 9999))
            await f.until_served("m", version, nodes=("node-1", "node-2"))
        f.nodes["node-3"].start()
        await f.until_ready("node-3")
        began = time.monotonic()
        await f.until_served("m", "5")

        folder = f.nodes["node-3"].data / "models/m"
        await f.until("what a rollback needs follows", (folder / "4").is_dir)
        assert time.monotonic() - began < 30
        assert not (folder / "2").exists()
        assert not (folder / "3").exists()


@pytest.mark.soak
async def test_a_daemon_killed_in_the_middle_of_a_transfer_finishes_it_after_its_restart(tmp_path: Path) -> None:
    data = random_bytes(12 * 2**20)
    async with fleet(tmp_path, nodes=2, settings=slow) as f:
        await f.promote("m", "1", f.publish("m.bin", data))
        await in_the_middle(f, "node-2", "m", "1")
        node = f.nodes["node-2"]
        orphans = children(node)
        node.kill()
        await f.until("its children end with it", lambda: not any(_alive(p) for p in orphans))
        assert not (node.data / "models/m/1").exists()
        node.start()
        await f.until_served("m", "1", seconds=40)

        assert (node.data / "models/m/current/m.bin").read_bytes() == data


@pytest.mark.soak
async def test_a_byte_flipped_in_a_half_finished_download_is_found_and_repaired(tmp_path: Path) -> None:
    data = random_bytes(12 * 2**20, seed=1)
    async with fleet(tmp_path, nodes=2, settings=slow) as f:
        await f.promote("m", "1", f.publish("m.bin", data))
        await in_the_middle(f, "node-2", "m", "1")
        node = f.nodes["node-2"]
        node.kill()
        (partial,) = swarm_files(node)
        flipped = _flip_written_byte(partial, data)
        node.start()
        await f.until_served("m", "1", seconds=40)

        assert partial.read_bytes()[flipped] == data[flipped]
        assert (node.data / "models/m/current/m.bin").read_bytes() == data


def _flip_written_byte(partial: Path, data: bytes) -> int:
    """Flip a byte that had arrived already; returns its offset."""
    have = partial.read_bytes()
    block = 16 * 1024
    offset = next(o for o in range(0, len(have), block) if have[o : o + block] == data[o : o + block]) + 5
    with partial.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([data[offset] ^ 0xFF]))
    return offset


async def test_a_killed_libtorrent_child_costs_a_restart_of_the_child_and_nothing_else(tmp_path: Path) -> None:
    data = random_bytes(12 * 2**20, seed=2)
    async with fleet(tmp_path, nodes=2, settings=slow) as f:
        await f.promote("m", "1", f.publish("m.bin", data))
        await in_the_middle(f, "node-2", "m", "1")
        node = f.nodes["node-2"]
        assert node.process is not None
        pid = node.process.pid
        for child in children(node):
            child.kill()
        await f.until_served("m", "1", seconds=40)

        assert node.process.pid == pid
        assert node.process.poll() is None
        assert (node.data / "models/m/current/m.bin").read_bytes() == data


async def test_a_damaged_stored_byte_is_named_and_repaired_from_peers(tmp_path: Path) -> None:
    data = random_bytes(3 * 2**20, seed=3)
    async with fleet(tmp_path, nodes=3) as f:
        await f.promote("m", "1", f.publish("m.bin", data))
        await f.until_served("m", "1")
        path = f.nodes["node-2"].data / "models/m/1/m.bin"
        _damage(path, 2**20)
        answers = await f.bus.request_many(
            "fc.svc.distributor.verify", b"{}", timeout_seconds=20, expect=3, settle_seconds=None
        )
        reports = {r["node"]: r for r in map(json.loads, answers)}

        wrong = {(n, c["path"]) for n, r in reports.items() for c in r["checked"] if not c["ok"]}
        assert wrong == {("node-2", str(path))}
        await f.until("repaired", lambda: path.exists() and path.read_bytes() == data)
        await f.until_served("m", "1")
        said = [e.payload for e in await f.events("fc.ev.integrity.failed.*")]
        assert [(p.node, p.model) for p in said if isinstance(p, IntegrityFailed)] == [("node-2", "m")]


def _damage(path: Path, offset: int) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    path.chmod(0o444)


@pytest.mark.soak
async def test_nats_restarted_in_the_middle_of_a_transfer_delays_nothing_but_the_report(tmp_path: Path) -> None:
    data = random_bytes(12 * 2**20, seed=4)
    async with fleet(tmp_path, nodes=2, settings=slow) as f:
        await f.promote("m", "1", f.publish("m.bin", data))
        await in_the_middle(f, "node-2", "m", "1")
        await asyncio.to_thread(f.server.kill)
        await asyncio.sleep(1)
        await f.server.start_async()
        await f.until_served("m", "1", seconds=40)
        await f.promote("m", "2", f.publish("2.bin", data[:1000]))
        await f.until_served("m", "2", seconds=40)


async def test_daemons_wait_for_a_server_that_is_not_up_yet(tmp_path: Path) -> None:
    async with fleet(tmp_path, nodes=2, start=False) as f:
        await asyncio.to_thread(f.server.kill)
        for node in f.nodes.values():
            node.start()
        await asyncio.sleep(2)
        assert all(n.process is not None and n.process.poll() is None for n in f.nodes.values())
        await f.server.start_async()
        await f.until_ready()
        await f.promote("m", "1", f.publish("m.bin", b"x" * 100))
        await f.until_served("m", "1")


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(8, id="8s"), pytest.param(90, id="90s", marks=(pytest.mark.soak, pytest.mark.timeout(300)))],
)
async def test_what_was_said_while_nats_was_unreachable_arrives_afterwards(tmp_path: Path, seconds: int) -> None:
    async with fleet(tmp_path, nodes=2) as f:
        await f.promote("m", "1", f.publish("m.bin", b"1" * 100))
        await f.until_served("m", "1")
        node = f.nodes["node-1"]
        event = {
            "specversion": "1.0",
            "id": "spooled-1",
            "source": "/fleet/node-1/job",
            "type": "model.promoted.v1",
            "data": {"model": "m", "version": "2", "node": "node-1", "path": str(f.publish("2.bin", b"2" * 100))},
        }
        f.server.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(lambda: SpoolWriter(node.data / "spool").append(json.dumps(event).encode()))
        await asyncio.sleep(seconds)
        f.server.send_signal(signal.SIGCONT)
        await f.until_served("m", "2", seconds=60)

        assert [len([e for e in await f.events("fc.ev.slot.ordered.m") if e.causationid == "spooled-1"])] == [1]
        assert all(n.process is not None and n.process.poll() is None for n in f.nodes.values())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no mount of a tmpfs here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


async def test_a_full_disk_fails_one_transfer_keeps_the_old_version_and_heals(tmp_path: Path, small_disk: Path) -> None:
    def settings(name: str, given: Settings) -> Settings:
        if name != "node-2":
            return given
        return given.model_copy(update={"store": given.store.model_copy(update={"data": small_disk / "data"})})

    async with fleet(tmp_path, nodes=2, settings=settings) as f:
        await f.promote("m", "1", f.publish("1.bin", random_bytes(2**20)))
        await f.until_served("m", "1")
        await f.promote("m", "2", f.publish("2.bin", random_bytes(12 * 2**20)))
        await f.until_served("m", "2", nodes=("node-1",))
        node = f.nodes["node-2"]
        await f.until("the transfer fails", lambda: node.logged("transfer.failed"))
        assert f.current("m")["node-2"] == "1"
        assert "no room" in str(node.logged("transfer.failed")[0]["reason"])
        await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        await f.until_served("m", "2", seconds=60)


async def test_a_taken_port_ends_the_daemon_with_the_setting_to_change(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        def settings(_: str, given: Settings) -> Settings:
            return given.model_copy(update={"bittorrent": BittorrentSettings(port=port)})

        async with fleet(tmp_path, nodes=1, settings=settings, start=False) as f:
            node = f.nodes["node-1"]
            node.start()
            assert node.process is not None
            code = await asyncio.to_thread(node.process.wait, 30)

            assert code == 1
            assert str(port) in node.tail()
            assert "[bittorrent] port" in node.tail()


async def test_a_stopped_daemon_leaves_no_process_and_says_so(tmp_path: Path) -> None:
    async with fleet(tmp_path, nodes=1) as f:
        node = f.nodes["node-1"]
        family = children(node)
        assert await asyncio.to_thread(node.stop) == 0
        assert not any(_alive(p) for p in family)
        assert (await f.statuses())["node-1"].state == "stopped"


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(("install.publish.after", "pointer.flip.between"), id="in between"),
        pytest.param(("install.publish.before", "essential.flip.after"), id="at the ends", marks=pytest.mark.soak),
    ],
)
async def test_killing_a_daemon_at_any_step_of_an_install_leaves_old_or_new(
    tmp_path: Path, steps: tuple[str, ...]
) -> None:
    """The same promise as the store's own kill matrix, with the whole daemon around it."""
    data = [random_bytes(2**20, seed=number) for number in range(len(steps) + 1)]
    async with fleet(tmp_path, nodes=2) as f:
        node = f.nodes["node-2"]
        await f.promote("m", "0", f.publish("m.bin", data[0]))
        await f.until_served("m", "0")
        for number, step in enumerate(steps, start=1):
            old, new = data[number - 1], data[number]
            node.stop()
            node.environment = {"FLEETCAST_FAILPOINTS": f"{step}=kill"}
            node.start()
            await f.promote("m", str(number), f.publish("m.bin", new))
            assert node.process is not None
            assert await asyncio.to_thread(node.process.wait, 30) == -signal.SIGKILL
            assert (node.data / "models/m/current/m.bin").read_bytes() in {old, new}
            node.environment = {}
            node.start()
            await f.until_served("m", str(number))

            assert (node.data / "models/m/previous/m.bin").read_bytes() == old


async def test_a_node_that_refuses_what_it_cannot_load_sets_it_aside_and_says_why(tmp_path: Path) -> None:
    def settings(name: str, given: Settings) -> Settings:
        strict = VerifySettings(pickle_policy="refuse")
        return given.model_copy(update={"verify": strict}) if name == "node-2" else given

    async with fleet(tmp_path, nodes=2, settings=settings) as f:
        await f.promote("m", "1", f.publish("m.pkl", pickle.dumps(list(range(1000)))))
        await f.until_served("m", "1", nodes=("node-1",))
        node = f.nodes["node-2"]
        await f.until("it refuses", lambda: node.logged("transfer.refused"))

        assert "pickle" in str(node.logged("transfer.refused")[0]["reason"])
        assert not swarm_files(node)
        assert not (node.data / "models/m/1").exists()
        assert any(p.is_file() for p in (node.data / "quarantine").rglob("*"))
        failed = [e.payload for e in await f.events("fc.ev.transfer.failed.node-2")]
        assert [p.model for p in failed if isinstance(p, TransferFailed)] == ["m"]


@pytest.mark.soak
async def test_an_origin_that_dies_in_the_middle_and_comes_back_costs_a_pause(tmp_path: Path) -> None:
    async with fleet(tmp_path, nodes=2, settings=slow) as f:
        data = random_bytes(8 * 2**20, seed=5)
        await f.promote("m", "1", f.publish("m.bin", data))
        await in_the_middle(f, "node-2", "m", "1")
        node = f.nodes["node-2"]
        f.nodes["node-1"].kill()
        assert f.current("m")["node-2"] is None
        f.nodes["node-1"].start()
        await f.until_served("m", "1", seconds=60)

        assert (node.data / "models/m/current/m.bin").read_bytes() == data
        assert not node.logged("transfer.broken")
