"""The disk of a receiver fills up."""

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.faults.rsync_source import by_rsync, needs_rsync, rsync_source
from tests.system.faults.stage import MIB, RATE, SIZE, Change, Stage, both, carried_by, random_bytes, stage, throttled
from tests.system.faults.test_mirrors import needs_aria2c
from tests.system.faults.variants import broken

from fleetcast.config.settings import Settings

pytestmark = pytest.mark.asyncio
DISK = SIZE + 24 * MIB
VICTIM = "node-2"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that holds the old version and the new one, and little else."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if subprocess.run(mounting, capture_output=True).returncode != 0:
        pytest.skip("no mount of a tmpfs here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


@contextlib.contextmanager
def carried(transport: str, folder: Path) -> Iterator[Change]:
    """Settings that let one transport alone carry everything, at RATE."""
    if transport == "rsync":
        with rsync_source(folder, "node-1") as endpoint:
            yield by_rsync(endpoint)
    else:
        alone = carried_by("aria2") if transport == "aria2" else carried_by("bittorrent", "aria2", "rsync")
        yield both(alone, throttled(RATE))


def on_small_disk(folder: Path) -> Change:
    def change(name: str, settings: Settings) -> Settings:
        if name != VICTIM:
            return settings
        return settings.model_copy(update={"store": settings.store.model_copy(update={"data": folder / "data"})})

    return change


async def fill_the_disk_at(s: Stage, part: float, filler: Path) -> list[str]:
    """Let the disk fill up when *part* of a model is there; returns why the transfer failed."""
    await s.promote("m", "1", size=MIB)
    await s.until_served()
    await s.promote("m", "2")
    await s.until_fetched(part, VICTIM)
    await asyncio.to_thread(fill, filler)
    node = s.node(VICTIM)
    await s.fleet.until("the transfer fails", lambda: node.logged("transfer.failed"))
    return [str(failed["reason"]) for failed in node.logged("transfer.failed")]


@pytest.mark.parametrize(
    ("transport", "part"),
    [
        pytest.param("bittorrent", 0.05, id="bittorrent-5%", marks=pytest.mark.soak),
        pytest.param("bittorrent", 0.4, id="bittorrent-40%"),
        pytest.param("bittorrent", 0.8, id="bittorrent-80%", marks=pytest.mark.soak),
        pytest.param("bittorrent", 0.95, id="bittorrent-95%", marks=pytest.mark.soak),
        pytest.param("aria2", 0.4, id="aria2-40%", marks=[needs_aria2c, pytest.mark.soak]),
        pytest.param("aria2", 0.9, id="aria2-90%", marks=[needs_aria2c, pytest.mark.soak]),
        pytest.param("rsync", 0.4, id="rsync-40%", marks=[needs_rsync, pytest.mark.soak]),
        pytest.param("rsync", 0.9, id="rsync-90%", marks=[needs_rsync, pytest.mark.soak]),
    ],
)
async def test_a_disk_that_fills_up_in_the_middle_fails_that_transfer_and_heals_by_itself(
    tmp_path: Path, small_disk: Path, transport: str, part: float, bound: float
) -> None:
    with carried(transport, tmp_path) as settings:
        async with stage(tmp_path, nodes=3, settings=both(settings, on_small_disk(small_disk))) as s:
            node, filler = s.node(VICTIM), small_disk / "filler"
            with s.without_source(VICTIM):
                reasons = await fill_the_disk_at(s, part, filler)
                assert "No space left on device" in reasons[0]
                assert not node.logged("ladder.moved"), "another transport was tried in vain"
                assert not list((node.data / "staging").iterdir())
                assert s.fleet.current("m")[VICTIM] == "1"
                assert node.process is not None
                assert node.process.poll() is None
                await s.until_served("node-1", "node-3")
                filler.unlink()
                await s.until_served(VICTIM, seconds=90)
            await s.check_aftermath(limit_seconds=bound)


@needs_aria2c
@pytest.mark.soak
async def test_a_node_that_takes_a_full_disk_for_bad_sources_would_be_caught(tmp_path: Path, small_disk: Path) -> None:
    """The broken variant: it climbs the ladder in vain."""
    with carried("bittorrent", tmp_path) as settings:
        vain = broken("climbs in vain", VICTIM)
        async with stage(tmp_path, nodes=2, settings=both(settings, on_small_disk(small_disk)), environment=vain) as s:
            await fill_the_disk_at(s, 0.4, small_disk / "filler")
            assert s.node(VICTIM).logged("ladder.moved")


def fill(path: Path) -> None:
    """Take all space that is left."""
    block = random_bytes(64 * 1024, seed=1)
    with path.open("wb", buffering=0) as file:
        for size in (64 * 1024, 4096, 1):
            try:
                while True:
                    file.write(block[:size])
            except OSError:
                continue
