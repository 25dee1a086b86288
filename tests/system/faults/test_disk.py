"""The disk of a receiver fills up."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.faults.stage import MIB, SIZE, Change, both, random_bytes, stage, throttled

from fleetcast.config.settings import Settings

pytestmark = pytest.mark.asyncio
DISK = SIZE + 24 * MIB


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


def on_small_disk(folder: Path, victim: str = "node-2") -> Change:
    def change(name: str, settings: Settings) -> Settings:
        if name != victim:
            return settings
        return settings.model_copy(update={"store": settings.store.model_copy(update={"data": folder / "data"})})

    return both(throttled(8 * MIB), change)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(0.05, id="5%", marks=pytest.mark.soak),
        pytest.param(0.4, id="40%"),
        pytest.param(0.8, id="80%", marks=pytest.mark.soak),
        pytest.param(0.95, id="95%", marks=pytest.mark.soak),
    ],
)
async def test_a_disk_that_fills_up_in_the_middle_fails_that_transfer_and_heals_by_itself(
    tmp_path: Path, small_disk: Path, part: float, bound: float
) -> None:
    async with stage(tmp_path, nodes=3, settings=on_small_disk(small_disk)) as s:
        await s.promote("m", "1", size=MIB)
        await s.until_served()
        await s.promote("m", "2")
        await s.until_fetched(part, "node-2")
        filler = small_disk / "filler"
        with s.without_source("node-2"):
            await asyncio.to_thread(fill, filler)
            node = s.node("node-2")
            await s.fleet.until("the transfer fails", lambda: node.logged("transfer.failed"))
            assert s.fleet.current("m")["node-2"] == "1"
            assert node.process is not None
            assert node.process.poll() is None
            await s.until_served("node-1", "node-3")
            filler.unlink()
            await s.until_served("node-2", seconds=90)
        await s.check_aftermath(limit_seconds=bound)


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
