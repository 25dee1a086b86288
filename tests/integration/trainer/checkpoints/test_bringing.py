"""A checkpoint comes to another node by the fleet's own distribution, whole and with all its names, asked for or ahead
of need; two real distributors carry it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.trainer.checkpoints.rig import Node, save, save_sharded, tree, until

from fleetcast.bus import Service, connect, declare
from fleetcast.bus.testing import fast_settings
from fleetcast.daemons.testing import Fleet, fleet
from fleetcast.daemons.trainer.checkpoints import places
from fleetcast.daemons.trainer.checkpoints.commands import CHECKPOINTS_SUBJECT
from fleetcast.daemons.trainer.checkpoints.courier import NotBrought, bring_subject
from fleetcast.daemons.trainer.checkpoints.desk import CheckpointDesk
from fleetcast.events.training import ReclaimNotice
from fleetcast.registry.commands import stamp

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Stage:
    """Two nodes with distributors; the trainers' checkpoints are this process's."""

    fleet: Fleet
    a: Node
    b: Node

    def installed(self, run: str) -> list[Path]:
        """What the second node has of a run's checkpoints."""
        return sorted((self.b.data / "datasets" / places.line_of(run)).glob("*/*.checkpoint"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(fleet(tmp_path_factory.mktemp("fleet"), nodes=2))
        nodes = []
        for name, process in running.nodes.items():
            bus = await stack.enter_async_context(
                connect(fast_settings(running.server.url), node=name, daemon="trainer")
            )
            await declare(bus, 1)
            node = Node(name, bus, process.data)
            answer = CheckpointDesk(node.checkpoints).answer
            service = Service(
                name="trainer",
                version="0.0.1",
                description="test",
                endpoints={"bring": (bring_subject(name), answer), "pins": (CHECKPOINTS_SUBJECT, answer)},
                group="trainer",
            )
            stack.push_async_callback((await bus.serve(service)).stop)
            nodes.append(node)
        yield Stage(running, *nodes)


@pytest.mark.parametrize("form", ["file", "sharded"])
async def test_checkpoint_is_brought_to_the_node_that_goes_on_with_all_its_names(stage: Stage, form: str) -> None:
    a, b = stage.a, stage.b
    _, watch, folder = await a.started(f"ask-{form}", copies=0)
    path = save(folder / "9.pt", b"w" * 300_000) if form == "file" else save_sharded(folder / "9")
    await watch.settle()
    state = await b.claim(f"ask-{form}")
    resume = await b.checkpoints.resume(state)
    assert resume.path is not None
    assert resume.path.is_relative_to(b.data)
    assert resume.path.name == path.name
    assert tree(resume.path) == tree(path)


async def test_newest_checkpoint_is_on_another_node_before_its_own_is_lost(stage: Stage) -> None:
    a, b = stage.a, stage.b
    await b.beat()
    _, watch, folder = await a.started("ahead", copies=1)
    task = asyncio.create_task(watch.run())
    try:
        path = save(folder / "9.pt", b"v" * 200_000)
        run = await until("a copy is noted", lambda: _copied(a, "ahead"))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert run.checkpoint.nodes == ("node-1", "node-2")
    whole = tree(path)
    path.unlink()  # the machine is gone, and what was on it
    state = await b.claim("ahead")
    resume = await b.checkpoints.resume(state)
    assert resume.path is not None
    assert tree(resume.path) == whole
    left = places.parcels_folder(a.data) / f"{run.checkpoint.version}.checkpoint"
    assert not left.exists(), "what the distributor has taken is not kept twice"


async def test_copies_that_a_newer_one_made_needless_are_given_back(stage: Stage) -> None:
    a, b = stage.a, stage.b
    await b.beat()
    _, watch, folder = await a.started("newer", copies=1)
    task = asyncio.create_task(watch.run())
    try:
        save(folder / "1.pt", b"1" * 1000)
        first = (await until("first copy", lambda: _copied(a, "newer"))).checkpoint
        second = save(folder / "2.pt", b"2" * 1000)
        await until("second copy", lambda: _copied(a, "newer", second))
        await until("first is given back", lambda: _is_over(a, "newer", first.version))
        await until("its record names no other node any more", lambda: _is_only_on(a, "newer", first.version))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    run = await a.run("newer")
    assert not await _is_over(a, "newer", run.checkpoint.version if run.checkpoint else "")


async def test_checkpoint_that_nobody_can_bring_is_said_and_the_run_does_not_begin_anew(stage: Stage) -> None:
    a, b = stage.a, stage.b
    _, watch, folder = await a.started("lost", copies=0)
    path = save(folder / "9.pt")
    await watch.settle()
    path.unlink()
    state = await b.claim("lost")
    resume = await b.checkpoints.resume(state)
    assert resume.path is None
    assert resume.lost
    assert "9.pt is gone" in resume.passed_over[0]
    assert state.checkpoint is not None
    with pytest.raises(NotBrought, match="is gone"):
        await b.checkpoints.ensure_here("lost", state.checkpoint)


async def test_copy_goes_on_to_a_third_node_from_the_one_that_has_it(stage: Stage) -> None:
    """The first node is gone; whoever holds a copy packs nothing anew, and sends what it has."""
    a, b = stage.a, stage.b
    _, watch, folder = await a.started("third", copies=0)
    path = save(folder / "9.pt", b"t" * 5000)
    whole = tree(path)
    await watch.settle()
    await b.checkpoints.resume(await b.claim("third"))
    (parcel,) = stage.installed("third")
    path.unlink()
    state = await a.claim("third")
    assert state.checkpoint is not None
    assert (state.checkpoint.version, state.checkpoint.nodes) == (parcel.parent.name, ("node-1", "node-2"))
    resume = await a.checkpoints.resume(state)
    assert resume.path is not None
    assert tree(resume.path) == whole


async def test_node_that_is_taken_away_stops_seeding_but_its_last_checkpoint_still_comes_over(stage: Stage) -> None:
    a, b = stage.a, stage.b
    await b.beat()
    await stage.fleet.promote("m", "1", stage.fleet.publish("m.bin", b"m" * 100_000))
    await stage.fleet.until_served("m", "1")
    deadline = stamp(datetime.now(UTC) + timedelta(seconds=30))
    await a.say(ReclaimNotice(node="node-1", deadline=deadline, source="drill"))
    await stage.fleet.until("rests", lambda: stage.fleet.nodes["node-1"].logged("seeding.rests"))
    _, watch, folder = await a.started("last", copies=0)
    path = save(folder / "9.pt", b"l" * 300_000)
    await watch.settle()
    resume = await b.checkpoints.resume(await b.claim("last"))
    assert resume.path is not None
    assert tree(resume.path) == tree(path)


async def _copied(node: Node, run: str, path: Path | None = None):  # type: ignore[no-untyped-def]
    found = await node.run(run)
    at = found.checkpoint
    return found if at is not None and len(at.nodes) > 1 and path in {None, Path(at.path)} else None


async def _is_over(node: Node, run: str, version: str | None) -> bool:
    order = await node.checkpoints.courier.order(run, version or "")
    assert order is not None
    assert order.until is not None
    return order.until <= order.at


async def _is_only_on(node: Node, run: str, version: str | None) -> bool:
    (record,) = [c for c in (await node.run(run)).checkpoints if c.version == version]
    return record.nodes == (node.name,)
