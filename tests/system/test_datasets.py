"""Data sets over a real fleet: GPU nodes first, counts that are true, and exports that nobody announced."""

import asyncio
import io
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from fleetcast.config.exports import ExportFolder, ExportSettings
from fleetcast.config.settings import Settings
from fleetcast.daemons.testing import Fleet, fleet
from fleetcast.events.payloads import EventRejected, ExportCompleted

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECONDS = 90.0
LANES = ("found", "late", "shared", "broken")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """`node-3` has a GPU; every node looks for exports of some lanes in a folder of its own."""
    top = tmp_path_factory.mktemp("three")

    def equipped(name: str, settings: Settings) -> Settings:
        home = top / "publish" / name
        for lane in LANES:
            (home / lane).mkdir(parents=True)
        folders = tuple(ExportFolder(lane=lane, folder=home / lane) for lane in LANES)
        labels = {"gpu": "nvidia" if name == "node-3" else "none"}
        return settings.model_copy(
            update={
                "node": settings.node.model_copy(update={"labels": labels}),
                "exports": ExportSettings(folders=folders, poll_seconds=0.5),
                "distributor": settings.distributor.model_copy(update={"gpu_head_start_seconds": SECONDS}),
            }
        )

    async with fleet(top, nodes=3, settings=equipped) as f:
        yield f


def samples(count: int, seed: int = 0) -> bytes:
    random = np.random.default_rng(seed)
    written = io.BytesIO()
    np.savez(written, states=random.random((count, 16), dtype=np.float32), values=np.arange(count))
    return written.getvalue()


def lay(f: Fleet, node: str, lane: str, name: str, data: bytes) -> Path:
    """An export as a careful producer writes it: under another name, then renamed."""
    path = f.folder / "publish" / node / lane / name
    spare = path.with_suffix(".tmp")
    spare.write_bytes(data)
    spare.rename(path)
    return path


async def export(f: Fleet, lane: str, path: Path, new: int, total: int, node: str = "node-1") -> int:
    body = {"path": str(path), "node": node, "samples_new": new, "samples_total": total}
    return await f.say(f"fc.ev.export.completed.{lane}", body)


async def exports(f: Fleet, lane: str) -> list[ExportCompleted]:
    events = await f.events(f"fc.ev.export.completed.{lane}")
    return [e.payload for e in events if isinstance(e.payload, ExportCompleted)]


def holding(f: Fleet, lane: str) -> set[str]:
    """Nodes on which the newest data set of a lane is installed and pointed to."""
    return {n.name for n in f.nodes.values() if list((n.data / "datasets" / lane).glob("current/*"))}


async def until_everywhere(f: Fleet, lane: str, count: int = 3) -> None:
    await f.until(f"{lane} is on {count} nodes", lambda: len(holding(f, lane)) == count, SECONDS)


async def until_said(f: Fleet, lane: str, count: int) -> list[ExportCompleted]:
    deadline = time.monotonic() + SECONDS
    while len(found := await exports(f, lane)) < count:
        assert time.monotonic() < deadline, f"{lane}: {found}\n{f.tails()}"
        await asyncio.sleep(0.1)
    return found


async def several_looks(f: Fleet, node: str, lane: str) -> None:
    """Wait until a node has looked at a lane's folder a few times more: it finds a file that was laid for that."""
    marker = lay(f, node, lane, f"marker-{time.monotonic_ns()}.npz", b"no archive")
    await f.until(
        "the marker was judged",
        lambda: any(str(marker) == e.get("path") for e in f.nodes[node].logged("export.passed_over")),
        SECONDS,
    )


async def rejection(f: Fleet, lane: str) -> EventRejected:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for event in await f.events("fc.ev.event.rejected.*"):
            if isinstance(event.payload, EventRejected) and event.payload.subject.endswith(f".{lane}"):
                return event.payload
        await asyncio.sleep(0.1)
    raise AssertionError(f"nothing of {lane} was rejected\n{f.tails()}")


async def test_nodes_without_a_gpu_start_once_the_gpu_nodes_have_the_data_set(three: Fleet) -> None:
    path = three.publish("first.npz", samples(20_000))

    await export(three, "first", path, 20_000, 20_000)
    await until_everywhere(three, "first")

    waited = [e for e in three.nodes["node-2"].logged("transfer.waiting") if e["model"] == "first"]
    assert len(waited) == 1
    assert "node-3" in str(waited[0]["reason"])
    assert not [e for e in three.nodes["node-3"].logged("transfer.waiting") if e["model"] == "first"]
    began = {n: _first(three, n, "transfer.started", "first") for n in ("node-2", "node-3")}
    assert began["node-3"] < began["node-2"]
    assert _first(three, "node-3", "version.installed", "first") < began["node-2"]


def _first(f: Fleet, node: str, event: str, lane: str) -> str:
    return min(str(e["timestamp"]) for e in f.nodes[node].logged(event) if e.get("model") == lane)


async def test_heartbeats_say_who_has_a_gpu(three: Fleet) -> None:
    statuses = await three.statuses()
    assert (statuses["node-3"].labels["gpu"], statuses["node-3"].labels["gpu_vendor"]) == ("nvidia", "nvidia")
    assert statuses["node-1"].labels["gpu"] == "none"
    assert "gpu_vendor" not in statuses["node-1"].labels


async def test_counts_that_the_file_denies_are_refused_with_the_right_ones(three: Fleet) -> None:
    await export(three, "miscounted", three.publish("miscounted.npz", samples(300)), 10, 400)

    refused = await rejection(three, "miscounted")

    assert refused.field == "samples_total"
    assert "samples_total=300" in refused.next_step
    assert not holding(three, "miscounted")


async def test_an_export_that_nobody_announced_is_said_once_and_distributed(three: Fleet) -> None:
    path = lay(three, "node-2", "found", "gen-1.npz", samples(100, 1))
    (found,) = await until_said(three, "found", 1)
    await until_everywhere(three, "found")

    assert (found.path, found.node, found.detected) == (str(path), "node-2", True)
    assert (found.samples_new, found.samples_total) == (100, 100)
    lay(three, "node-2", "found", "gen-1.npz", samples(130, 1))
    grown = (await until_said(three, "found", 2))[-1]
    assert (grown.samples_new, grown.samples_total) == (30, 130)


async def test_a_found_export_is_not_said_again_after_a_restart(three: Fleet) -> None:
    before = len(await exports(three, "found"))
    assert before
    node = three.nodes["node-2"]
    for forgets in (False, True):
        node.kill()
        if forgets:
            (node.data / "exports.json").unlink()
        node.start()
        await three.until_ready("node-2")
        await several_looks(three, "node-2", "found")
    assert len(await exports(three, "found")) == before


async def test_two_nodes_that_find_the_same_bytes_say_it_once(three: Fleet) -> None:
    data = samples(80, 3)
    for node in ("node-1", "node-2"):
        lay(three, node, "shared", "gen-1.npz", data)
    await until_everywhere(three, "shared")
    for node in ("node-1", "node-2"):
        await several_looks(three, node, "shared")
    assert len(await exports(three, "shared")) == 1


async def test_an_export_that_its_producer_announces_as_well_is_one_data_set(three: Fleet) -> None:
    early = lay(three, "node-1", "late", "early.npz", samples(50, 4))
    await export(three, "late", early, 50, 50)
    await several_looks(three, "node-1", "late")
    assert [e.detected for e in await exports(three, "late")] == [None]

    after = lay(three, "node-1", "late", "after.npz", samples(60, 5))
    await until_said(three, "late", 2)
    await until_everywhere(three, "late")
    await export(three, "late", after, 60, 60)
    await three.until(
        "the announcement is told from the finding",
        lambda: any(e.get("event") for e in three.nodes["node-1"].logged("export.repeated")),
        SECONDS,
    )
    assert len(await three.events("fc.ev.artifact.available.late")) == 2


async def test_what_is_no_export_is_passed_over_and_said_once(three: Fleet) -> None:
    folder = three.folder / "publish" / "node-1" / "broken"
    outside = three.folder / "outside.npz"
    outside.write_bytes(samples(5))
    (folder / "link.npz").symlink_to(outside)
    (folder / "half.npz.part").write_bytes(b"half")
    lay(three, "node-1", "broken", "torn.npz", samples(500)[:-40])
    for _ in range(2):
        await several_looks(three, "node-1", "broken")

    said = [Path(str(e["path"])).name for e in three.nodes["node-1"].logged("export.passed_over")]
    assert [said.count(name) for name in ("link.npz", "half.npz.part", "torn.npz")] == [1, 1, 1]
    assert not await exports(three, "broken")


async def test_gpu_nodes_that_are_gone_hold_nobody_up(three: Fleet) -> None:
    await asyncio.to_thread(three.nodes["node-3"].stop)

    await export(three, "orphaned", three.publish("orphaned.npz", samples(2000, 9)), 2000, 2000)

    # Half of the head start: who waited for a node that ended would still be waiting.
    rest = {"node-1", "node-2"}
    await three.until("the others have it", lambda: holding(three, "orphaned") == rest, SECONDS / 2)
