"""`fleetcast checkpoints RUN`: what is listed, and pins."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.trainer.checkpoints.rig import Node, save

from fleetcast.bus import Service, connect, declare
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.daemons.trainer.checkpoints.commands import CHECKPOINTS_SUBJECT
from fleetcast.daemons.trainer.checkpoints.desk import CheckpointDesk

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Stage:
    """A node with a run of three checkpoints, and the command line."""

    url: str
    node: Node
    paths: list[Path]

    async def cli(self, *words: str) -> tuple[int | None, Any]:
        """Exit code and JSON of `fleetcast checkpoints`."""
        command = (sys.executable, "-m", "fleetcast", "checkpoints", *words, "--server", self.url, "--json")
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return process.returncode, json.loads(out)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    async with (
        nats_server(folder / "nats") as server,
        connect(fast_settings(server.url), node="a", daemon="trainer") as bus,
    ):
        await declare(bus, 1)
        node = Node("a", bus, folder / "a")
        answer = CheckpointDesk(node.checkpoints).answer
        service = await bus.serve(
            Service(name="trainer", version="0.0.1", description="t", endpoints={"pins": (CHECKPOINTS_SUBJECT, answer)})
        )
        state, watch, checkpoints = await node.started("listed", keep_every_seconds=None)
        paths = []
        for step in (10, 20, 30):
            paths.append(save(checkpoints / f"{step}.pt"))
            await node.announce(state, paths[-1], step=step, save_seconds=2.0)
            await watch.settle()
        yield Stage(server.url, node, paths)
        await service.stop()


async def test_checkpoints_are_listed_with_why_they_stay_and_how_often_to_save(stage: Stage) -> None:
    code, said = await stage.cli("listed")
    assert code == 0
    assert said["resumes_from"] == str(stage.paths[2])
    assert [(c["step"], c["kept_because"]) for c in said["checkpoints"]] == [
        (30, ["the newest"]),
        (20, ["one of the last 3"]),
        (10, ["one of the last 3"]),
    ]
    assert said["cadence"] == {"seconds": pytest.approx(586, abs=1), "bound_by": "failures", "save_seconds": 2.0}


async def test_pin_stays_with_the_checkpoint_and_ends(stage: Stage) -> None:
    code, _ = await stage.cli("listed", "--pin", "10.pt", "--reason", "compared with")
    assert code == 0
    (pinned,) = [c.pins for c in (await stage.node.run("listed")).checkpoints if c.step == 10]
    assert pinned[0].startswith("compared with (")
    assert (await stage.cli("listed", "--unpin", "10"))[0] == 0
    assert all(not c.pins for c in (await stage.node.run("listed")).checkpoints)


async def test_checkpoint_that_is_not_there_is_said_with_those_that_are(stage: Stage) -> None:
    code, said = await stage.cli("listed", "--unpin", "99")
    assert code == 3
    assert str(stage.paths[0]) in said["error"]["why"]
