"""Mirrors of the HTTP rung that lie, or take for ever. They join the fleet as any node on the bus can."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from tests.system.faults.conftest import PROMISED_SECONDS
from tests.system.faults.stage import MIB, RATE, Stage, both, carried_by, random_bytes, stage, throttled
from tests.system.faults.test_peers import bans, join, nobody_fetching, offered
from tests.system.faults.variants import broken, unwatched

from fleetcast.daemons.testing import FleetProblem
from fleetcast.events.payloads import Endpoints
from fleetcast.transport.aria2.testing import Manner, MirrorServer

needs_aria2c = pytest.mark.skipif(
    shutil.which("aria2c") is None, reason="aria2c is not installed: apt-get install aria2"
)
pytestmark = pytest.mark.asyncio
HTTP = both(carried_by("aria2", "bittorrent", "rsync"), throttled(RATE))
WITH_TIME = both(HTTP, throttled(2 * MIB))
"""The origin is so slow that a mirror is found long before its end."""


@contextlib.asynccontextmanager
async def mirror(s: Stage, data: bytes, manner: Manner = Manner.HONEST) -> AsyncIterator[MirrorServer]:
    """A file server that joins as a node which holds everything."""
    async with MirrorServer({}, node="mirror", manner=manner) as server:
        offer = await offered(s)
        assert offer.content is not None
        (file,) = offer.content.files
        names = (file.sha256, f"{offer.artifact}/{offer.artifact[:16]}/{file.path}", file.path)
        server.files = dict.fromkeys(names, data)
        await join(s, offer.artifact, "mirror", Endpoints(http=server.source.http))
        yield server


async def promote_beside_a_lying_mirror(s: Stage, to_the_end: contextlib.AsyncExitStack) -> None:
    """Promote a model that a mirror serves with other bytes, and wait until it is served."""
    with nobody_fetching(s):
        promoted = await s.promote("m", "1")
        other = random_bytes(len(promoted.data), seed=77)
        lying = await to_the_end.enter_async_context(mirror(s, other))
    await s.until_served()
    assert lying.sent > 0, "nobody asked it"


@needs_aria2c
async def test_a_mirror_of_another_file_of_the_same_size_is_named_and_nothing_of_it_stays(
    tmp_path: Path, bound: float
) -> None:
    async with stage(tmp_path, nodes=2, settings=HTTP) as s, contextlib.AsyncExitStack() as to_the_end:
        await promote_beside_a_lying_mirror(s, to_the_end)
        assert {b.peer for b in await bans(s, "mirror")} == {"mirror"}
        await s.check_aftermath(limit_seconds=bound)


@needs_aria2c
@pytest.mark.soak
async def test_a_node_that_believes_a_mirror_of_another_file_would_be_caught(tmp_path: Path) -> None:
    """The broken variant: nothing that arrives is compared with what was promoted."""
    settings, gullible = both(HTTP, carried_by("aria2")), broken("believes what it is sent", "node-2")
    async with stage(tmp_path, nodes=2, settings=settings, environment=gullible) as s:
        async with contextlib.AsyncExitStack() as to_the_end:
            await promote_beside_a_lying_mirror(s, to_the_end)
        with pytest.raises(AssertionError, match="node-2 serves"):
            await s.check_aftermath()


@needs_aria2c
@pytest.mark.soak
async def test_a_mirror_that_answers_slowly_for_ever_holds_nobody_up(tmp_path: Path, bound: float) -> None:
    async with stage(tmp_path, nodes=2, settings=HTTP) as s, contextlib.AsyncExitStack() as to_the_end:
        with nobody_fetching(s):
            promoted = await s.promote("m", "1")
            slow = await to_the_end.enter_async_context(mirror(s, promoted.data, Manner.DRIPS))
        await s.until_served()
        assert slow.ranges, "nobody asked it"
        await s.check_aftermath(limit_seconds=bound)


@needs_aria2c
@pytest.mark.soak
async def test_a_node_that_bears_with_a_slow_mirror_would_be_caught(tmp_path: Path) -> None:
    """The broken variant: nothing is watched."""
    async with stage(tmp_path, nodes=2, settings=both(WITH_TIME, unwatched("node-2"))) as s:
        promoted = await s.promote("m", "1")
        async with mirror(s, promoted.data, Manner.HONEST) as turning:
            await asyncio.wait_for(turning.asked.wait(), 30)
            turning.manner = Manner.DRIPS
            await s.until_still("node-2", PROMISED_SECONDS + 1)
        with pytest.raises(AssertionError, match="node-2 stood still"):
            await s.check_aftermath(limit_seconds=PROMISED_SECONDS)


async def lose_aria2c(s: Stage) -> None:
    await s.promote("m", "1")
    await s.until_fetched(0.4, "node-2")
    process = s.node("node-2").process
    assert process is not None
    family = psutil.Process(process.pid).children(recursive=True)
    carriers = [child.pid for child in family if child.name() == "aria2c"]
    assert carriers, "aria2c does not carry it"
    for pid in carriers:
        os.kill(pid, signal.SIGKILL)
    await s.until_served()


@needs_aria2c
async def test_an_aria2c_killed_in_the_middle_costs_no_byte_twice(tmp_path: Path, bound: float) -> None:
    async with stage(tmp_path, nodes=2, settings=HTTP) as s:
        await lose_aria2c(s)
        await s.check_aftermath(limit_seconds=bound)


@needs_aria2c
@pytest.mark.soak
async def test_an_aria2c_that_begins_anew_would_be_caught(tmp_path: Path) -> None:
    """The broken variant: what it brought is forgotten when it dies, and no other transport finds it."""
    alone = both(HTTP, carried_by("aria2"))
    async with stage(tmp_path, nodes=2, settings=alone, environment=broken("forgets", "node-2")) as s:
        await lose_aria2c(s)
        with pytest.raises(AssertionError, match=r"node-2 received \d+ bytes"):
            await s.check_aftermath()


@pytest.fixture
def path_without_aria2c(tmp_path: Path) -> str:
    """A PATH on which every program of this machine is, but aria2c."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).iterdir() if Path(place).is_dir() else ():
            if program.name != "aria2c" and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
    return str(folder)


@pytest.mark.soak
async def test_without_aria2c_another_way_is_taken_and_one_line_says_so(
    tmp_path: Path, bound: float, path_without_aria2c: str
) -> None:
    without = {"node-2": {"PATH": path_without_aria2c}}
    async with stage(tmp_path, nodes=2, settings=HTTP, environment=without) as s:
        await s.promote("m", "1")
        await s.until_served()
        said = [e for e in s.node("node-2").logged("transport.unavailable") if e.get("transport") == "aria2"]
        assert len(said) == 1
        assert "aria2c" in str(said[0]["reason"])
        await s.check_aftermath(limit_seconds=bound)


@pytest.mark.soak
async def test_a_node_that_knows_no_other_way_than_aria2c_would_be_caught(
    tmp_path: Path, path_without_aria2c: str
) -> None:
    """The broken variant: aria2c is missing, and there is no other rung."""
    without = {"node-2": {"PATH": path_without_aria2c}}
    alone = both(HTTP, carried_by("aria2"))
    async with stage(tmp_path, nodes=2, settings=alone, environment=without) as s:
        await s.promote("m", "1")
        with pytest.raises(FleetProblem, match="node-2"):
            await s.until_served("node-2", seconds=10)
