"""A rollback where a node's copy of the former version was damaged meanwhile, or the node was away."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.system.rollback.stage import PATIENCE_SECONDS, Story, hooked, sha256

from fleetcast.daemons.testing import Fleet, fleet
from fleetcast.events.payloads import IntegrityFailed
from fleetcast.registry.fleet import Lag

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path_factory.mktemp("former"), nodes=3, settings=hooked) as f:
        yield f


def damage(path: Path) -> None:
    """Change bytes in the middle; size, name and inode stay."""
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"not what was proven")


async def test_damaged_former_version_is_repaired_before_it_is_served_and_others_flip_at_once(three: Fleet) -> None:
    story = Story(three, "told")
    await story.promote("1")
    await story.promote("2")
    await story.served(await story.slot())
    damage(story.file("node-2", "1"))

    slot = await story.roll_back()
    answer = await story.served(slot, lambda s: len(s.serving) >= 2)
    assert {"node-1", "node-3"} <= set(answer.serving)
    assert {s.node for s in answer.lagging} <= {"node-2"}
    assert {s.lag for s in answer.lagging} <= {Lag.NOT_VERIFIED, Lag.OLD_GENERATION, Lag.HOOK_RUNS}
    answer = await story.served(slot, lambda s: s.complete)
    assert answer.serving == ("node-1", "node-2", "node-3")
    (failed,) = await story.facts("fc.ev.integrity.failed.node-2", bool)
    assert isinstance(failed, IntegrityFailed)
    assert (failed.version, failed.expected) == ("1", sha256("told", "1"))
    for node in three.nodes:
        assert story.told(node)[-1][-1] == sha256("told", "1"), f"{node} was told to load other bytes"


async def test_broken_variant_a_proof_that_looks_at_nothing_serves_damaged_bytes(three: Fleet) -> None:
    """Shows that the test above catches it: damage that leaves the time of the file as it was escapes the look, and is
    served. `fleetcast verify` reads every byte and finds it."""
    story = Story(three, "told-unseen")
    await story.promote("1")
    await story.promote("2")
    await story.served(await story.slot())
    path = story.file("node-2", "1")
    before = path.stat()
    damage(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await story.served(await story.roll_back())
    assert story.told("node-2")[-1][-1] != sha256("told-unseen", "1")


async def test_node_that_was_down_is_named_blocks_nothing_and_comes_back_on_the_right_version(three: Fleet) -> None:
    story = Story(three, "told-down")
    await story.promote("1")
    await story.promote("2")
    await story.served(await story.slot())
    three.nodes["node-3"].kill()
    slot = await story.roll_back()
    answer = await story.served(slot, lambda s: s.done and bool(s.unreachable))
    assert answer.serving == ("node-1", "node-2")
    assert [s.node for s in answer.unreachable] == ["node-3"]
    assert three.current("told-down")["node-3"] == "2"

    told = len(story.told("node-3"))
    three.nodes["node-3"].start()
    await three.until_ready("node-3")
    assert (await story.served(slot, lambda s: s.complete)).complete
    assert [line[:2] for line in story.told("node-3")[told:]] == [["1", str(slot.generation)]]
    after = [entry for entry in three.nodes["node-3"].logged("version.activated") if entry["model"] == "told-down"]
    assert [entry["version"] for entry in after] == ["1", "2", "1"]


@pytest.mark.soak
async def test_damage_on_a_node_that_was_down_is_found_before_it_serves_again(three: Fleet) -> None:
    story = Story(three, "told-both")
    await story.promote("1")
    await story.promote("2")
    await story.served(await story.slot())
    three.nodes["node-3"].kill()
    damage(story.file("node-3", "1"))
    slot = await story.roll_back()
    three.nodes["node-3"].start()
    await three.until_ready("node-3")
    assert (await story.served(slot, lambda s: s.complete)).complete
    assert story.told("node-3")[-1][-1] == sha256("told-both", "1")


@pytest.mark.soak
async def test_other_models_move_while_a_large_damaged_version_is_read(three: Fleet) -> None:
    """The proof runs beside everything else: 256 MiB are read while another model flips."""
    large, small = Story(three, "large"), Story(three, "told-small")
    path = three.publish("large-1.bin", os.urandom(1 << 20) * 256)
    await three.promote("large", "1", path)
    await three.until_served("large", "1", seconds=PATIENCE_SECONDS)
    await large.promote("2")
    await small.promote("1")
    await small.promote("2")
    await small.served(await small.slot())
    damage(large.file("node-1", "1"))
    began = time.monotonic()
    await large.roll_back()
    slot = await small.roll_back()
    await small.served(slot)
    took = time.monotonic() - began
    await three.until_served("large", "1", seconds=PATIENCE_SECONDS)
    print(f"the small one took {took:.2f} s, the large one {time.monotonic() - began:.2f} s")
