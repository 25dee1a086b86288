"""Folders of ended runs go from a node, their record first; nothing goes that a record, a process or a person holds."""

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.integration.trainer.runs.lives import a_run, now

from fleetcast.bus import Bus, ServiceError
from fleetcast.bus.errors import BusError
from fleetcast.bus.server import LocalServer
from fleetcast.daemons.trainer.checkpoints.keeper import Checkpoints
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.folders.commands import FoldersReport
from fleetcast.daemons.trainer.folders.pruning import IsBusy, Pruner
from fleetcast.daemons.trainer.folders.rules import Policy
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.daemons.trainer.starting import Place
from fleetcast.daemons.trainer.supervision.spec import RunSpec
from fleetcast.daemons.trainer.supervision.supervisors import is_alive, supervisor_here
from fleetcast.events.training import CheckpointRecord, TrainingPhase
from fleetcast.registry.commands import stamp

pytestmark = pytest.mark.asyncio
OVER = Policy(0.0)


async def idle(_run: str) -> bool:
    return False


class Node:
    """The node n1 with folders of runs, and what is recorded of them."""

    def __init__(self, bus: Bus, folder: Path) -> None:
        self.place = Place("n1", folder / "n1", {})
        self.store = RunStore(TrainingLedger(bus), node="n1")
        self.checkpoints = Checkpoints(bus, self.store, self.place.data, node="n1")

    def pruner(self, policy: Policy, is_busy: IsBusy = idle) -> Pruner:
        return Pruner(self.place, self.store, self.checkpoints, policy=policy, now=now, is_busy=is_busy)

    def fill(self, run: str) -> Path:
        """A folder as a run leaves it; the path of its checkpoint."""
        checkpoint = self.place.folder(run) / "checkpoints" / "1.npz"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_bytes(b"x" * 20_000)
        (self.place.folder(run) / "stdout.log").write_text("epoch 1\n")
        return checkpoint

    async def ended(self, number: str, *, pins: Sequence[str] = (), saved: bool = True, **changes: Any) -> str:
        """A run that ended a day ago."""
        at = stamp(now() - timedelta(days=1))
        run = a_run(number, "")
        record = CheckpointRecord(path=str(self.fill(run.run)), node="n1", at=at, size=20_000, pins=tuple(pins))
        fields = {
            "phase": TrainingPhase.SUCCEEDED,
            "ended_at": at,
            "checkpoint": record if saved else None,
            "checkpoints": (record,) if saved else (),
        }
        await self.store.save(None, run.model_copy(update=fields | changes))
        return run.run

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.place.runs.glob("run-*"))


@pytest.fixture
def node(bus: Bus, tmp_path: Path) -> Node:
    return Node(bus, tmp_path)


def names(said: Sequence[Any]) -> list[str]:
    return [each.run for each in said]


async def test_what_ended_goes_with_its_checkpoints_out_of_the_record_and_is_logged(node: Node) -> None:
    old = await node.ended("1", lane="hex8")
    await node.ended("2", lane="hex8")
    await node.ended("3", phase=TrainingPhase.RUNNING, ended_at=None, owner="n2")
    await asyncio.to_thread(node.fill, "run-4")
    with capture_logs() as logs:
        report = await node.pruner(Policy(3600.0)).prune()
    assert names(report.removed) == [old]
    assert await asyncio.to_thread(node.folders) == ["run-2", "run-3", "run-4"]
    kept = await node.store.find(old)
    assert kept is not None
    assert (kept.run.checkpoints, kept.run.checkpoint) == ((), None)
    assert [(each["event"], each.get("run")) for each in logs if "run.folder" in each["event"]] == [
        ("run.folder_without_record", None),
        ("run.folder_removed", old),
    ]
    assert {each.run: each.why for each in report.kept}["run-3"] == "running"


async def test_a_dry_run_says_what_would_go_and_removes_nothing(node: Node) -> None:
    await node.ended("1", saved=False)
    await node.ended("2", pins=["for the paper"])
    said = FoldersReport.model_validate_json(await node.pruner(OVER).answer(b'{"dry_run": true}'))
    assert names(said.removed) == ["run-1"]
    assert [(each.run, each.why) for each in said.kept] == [("run-2", "a checkpoint is pinned: for the paper")]
    assert await asyncio.to_thread(node.folders) == ["run-1", "run-2"]
    body = json.dumps({"actor": "ann", "reason": "disk"}).encode()
    with capture_logs() as logs:
        done = FoldersReport.model_validate_json(await node.pruner(OVER).answer(body))
    assert names(done.removed) == ["run-1"]
    assert await asyncio.to_thread(node.folders) == ["run-2"]
    assert logs[-1]["reason"].endswith("; ann: disk")
    with pytest.raises(ServiceError):
        await node.pruner(OVER).answer(b'{"dry_run": 7}')


async def test_too_many_bytes_let_the_oldest_go(node: Node) -> None:
    ages = {"1": 3, "2": 5, "3": 4}
    for number, days in ages.items():
        await node.ended(number, saved=False, ended_at=stamp(now() - timedelta(days=days)))
    one = (await node.pruner(Policy(1e9)).judge())[0].folder.bytes
    report = await node.pruner(Policy(1e9, 2 * one)).prune()
    assert names(report.removed) == ["run-2"]
    assert await asyncio.to_thread(node.folders) == ["run-1", "run-3"]


async def test_what_a_process_still_uses_stays_whatever_the_record_says(node: Node) -> None:
    run = await node.ended("1", saved=False)
    folder, supervisor = node.place.folder(run), supervisor_here("process")
    command = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
    handle = await supervisor.start(RunSpec(run, 1, command, "", {}, str(folder)))

    async def is_busy(name: str) -> bool:
        return await is_alive(supervisor, node.place.folder(name))

    pruner = node.pruner(OVER, is_busy)
    report = await pruner.prune()
    assert [(each.run, each.why) for each in report.kept] == [(run, "in use")]
    await handle.stop(0.0)
    assert names((await pruner.prune()).removed) == [run]


async def test_a_checkpoint_that_is_pinned_at_the_last_moment_keeps_its_folder(node: Node) -> None:
    run = await node.ended("1")
    await node.ended("2", lane="lane-1")
    kept = await node.store.find(run)
    assert kept is not None

    async def pinned_meanwhile(_run: str) -> bool:
        await node.checkpoints.pin(run, kept.run.checkpoints[0].path, "mine")
        return False

    report = await node.pruner(OVER, pinned_meanwhile).prune()
    assert report.removed == ()
    assert await asyncio.to_thread(node.folders) == ["run-1", "run-2"]


async def test_without_the_records_nothing_goes(served: tuple[LocalServer, Bus], node: Node) -> None:
    await node.ended("1", saved=False)
    await served[0].stop_async()
    with pytest.raises(BusError):
        await node.pruner(OVER).prune()
    assert await asyncio.to_thread(node.folders) == ["run-1"]
    await served[0].start_async()
    await served[1].wire.wait_connected(60.0)
    assert names((await node.pruner(OVER).prune()).removed) == ["run-1"]


@pytest.mark.soak
async def test_broken_variant_a_pruner_that_does_not_ask_what_runs_deletes_under_a_process(node: Node) -> None:
    run = await node.ended("1", saved=False)
    folder, supervisor = node.place.folder(run), supervisor_here("process")
    command = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
    handle = await supervisor.start(RunSpec(run, 1, command, "", {}, str(folder)))
    assert names((await node.pruner(OVER).prune()).removed) == [run]
    assert handle.alive()
    await handle.stop(0.0)
