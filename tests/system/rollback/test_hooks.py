"""Hooks on three real nodes: the serving process learns what to serve, and no hook holds anything else up."""

import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.system.rollback.stage import Story, hooked, sha256

from fleetcast.daemons.testing import Fleet, fleet
from fleetcast.events.hooks import HookFailed
from fleetcast.events.state import HookStatus
from fleetcast.registry.fleet import Lag

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path_factory.mktemp("hooks"), nodes=3, settings=hooked) as f:
        yield f


async def test_every_node_tells_its_process_what_it_serves_and_the_fleet_that_it_did(three: Fleet) -> None:
    story = Story(three, "told")
    await story.promote("1")
    await story.promote("2")
    await story.served(await story.slot())
    slot = await story.roll_back()
    answer = await story.served(slot)
    assert answer.serving == ("node-1", "node-2", "node-3")
    for node in three.nodes:
        lines = story.told(node)
        assert [line[0] for line in lines] == ["1", "2", "1"]
        assert lines[-1] == ["1", str(slot.generation), "production", "2", "activated", "0", sha256("told", "1")]
    facts = await story.facts("fc.ev.version.activated.told", lambda found: len(found) >= 9)
    assert len(facts) == 9
    assert all(fact.hook.startswith("ok in 0.") for fact in facts), [fact.hook for fact in facts]

    # A later order that changes nothing here is not told again.
    slot = await story.order(slot)
    await story.served(slot)
    facts = await story.facts("fc.ev.version.activated.told", lambda found: len(found) >= 12)
    assert [fact.hook for fact in facts if fact.generation == slot.generation] == ["unchanged"] * 3
    assert [len(story.told(node)) for node in three.nodes] == [3, 3, 3]


async def test_hook_that_fails_is_named_and_tried_again_until_it_works(three: Fleet) -> None:
    story = Story(three, "told-late")
    await story.promote("1")
    gate = three.nodes["node-2"].folder / "open"
    story.misbehave("2", f"[ -e {gate} ] || {{ echo port 8080 is taken >&2; exit 3; }}\n", "node-2")
    await story.promote("2")
    slot = await story.slot()
    answer = await story.served(slot, lambda s: [(x.node, x.lag) for x in s.lagging] == [("node-2", Lag.HOOK_FAILED)])
    assert "exit 3: port 8080 is taken" in answer.sentence
    assert set(answer.serving) == {"node-1", "node-3"}
    failed = await story.facts("fc.ev.hook.failed.node-2", lambda found: len(found) >= 2)
    assert isinstance(failed[0], HookFailed)
    assert (failed[0].attempt, failed[0].error, failed[0].occasion) == (1, "exit 3: port 8080 is taken", "activated")
    assert [f.attempt for f in failed[:2]] == [1, 2]
    facts = await story.facts("fc.ev.version.activated.told-late", lambda found: len(found) >= 6)
    (fact,) = [f for f in facts if f.node == "node-2" and f.version == "2"]
    assert fact.hook == "failed: exit 3: port 8080 is taken"

    gate.touch()
    assert (await story.served(slot)).complete
    (recovered,) = await story.facts("fc.ev.hook.recovered.node-2", lambda found: len(found) == 1)
    assert recovered.attempts >= 3


async def test_hook_that_hangs_is_stopped_by_the_order_to_roll_back_and_holds_nothing_up(three: Fleet) -> None:
    story, other = Story(three, "told-hangs"), Story(three, "told-other")
    await story.promote("1")
    story.misbehave("2", "trap '' TERM; sleep 600 & echo $! > \"$1/left\"; while :; do sleep 600; done\n")
    await story.promote("2")
    running = await story.status("node-1", lambda m: m.hook and m.hook.state == "running" and m.current == "2")
    assert isinstance(running.hook, HookStatus)
    await other.promote("1")
    assert (await other.served(await other.slot())).complete, "the hook of one model held up another"

    slot = await story.roll_back()
    assert (await story.served(slot)).complete
    for node in three.nodes:
        assert story.told(node)[-1][:2] == ["1", str(slot.generation)]
    facts = await story.facts("fc.ev.version.activated.told-hangs", lambda found: len(found) >= 9)
    verdicts = {f.hook for f in facts if f.version == "2"}
    stopped, killed = f"superseded by generation {slot.generation}", "failed: no end after 3 s, killed"
    assert verdicts <= {stopped, killed}, verdicts


async def test_hook_that_was_cut_off_with_its_daemon_runs_again_at_its_start(three: Fleet) -> None:
    story = Story(three, "told-cut")
    await story.promote("1")
    gate = three.nodes["node-3"].folder / "gate"
    story.misbehave("2", f"[ -e {gate} ] || exec sleep 600\n", "node-3")
    await story.promote("2")
    await story.status("node-3", lambda m: m.hook and m.hook.state == "running")
    three.nodes["node-3"].kill()
    gate.touch()
    three.nodes["node-3"].start()
    await three.until_ready("node-3")
    await story.status("node-3", lambda m: m.hook and m.hook.state == "ok" and m.hook.version == "2")
    assert [line[0] for line in story.told("node-3")] == ["1", "2", "2"]

    # What was told and noted is not told again.
    count = len((three.nodes["node-3"].folder / "told").read_text().splitlines())
    assert three.nodes["node-3"].stop() == 0
    three.nodes["node-3"].start()
    await three.until_ready("node-3")
    await story.status("node-3", lambda m: m.hook and m.hook.detail == "knew 2 already")
    lines = (three.nodes["node-3"].folder / "told").read_text().splitlines()[count:]
    assert [line for line in lines if line.startswith("told-cut ")] == []


async def test_broken_variant_a_note_that_is_written_before_the_hook_has_ended_loses_it(three: Fleet) -> None:
    """Shows that the test above catches it: with such a note a restarted daemon would tell nobody."""
    story = Story(three, "told-lost")
    await story.promote("1")
    node = three.nodes["node-2"]
    story.misbehave("2", "exec sleep 600\n", "node-2")
    await story.promote("2")
    await story.status("node-2", lambda m: m.hook and m.hook.state == "running")
    node.kill()
    note = node.data / "models/told-lost/.hook.json"
    said = json.loads(note.read_text())
    assert said["done"] is False
    note.chmod(0o644)
    note.write_text(json.dumps(said | {"done": True}))
    node.start()
    await three.until_ready("node-2")
    await story.status("node-2", lambda m: m.hook and m.hook.detail == "knew 2 already")
    assert [line[0] for line in story.told("node-2")] == ["1", "2"], "it was told only once, and never to the end"


async def test_drained_node_says_so_to_its_servers_and_follows_what_is_ordered(three: Fleet) -> None:
    story = Story(three, "told-drain")
    await story.promote("1")
    await story.drain("node-3")
    await story.status("node-3", lambda m: m.hook and m.hook.state == "ok" and story.slots("node-3")["drained"])
    await three.until("the process was told", lambda: story.told("node-3")[-1][4:6] == ["drained", "1"])
    assert story.slots("node-1")["drained"] is False
    assert len(story.told("node-1")) == 1
    await story.promote("2")
    await three.until("the process was told", lambda: story.told("node-3")[-1][4:6] == ["activated", "1"])
    await story.drain("node-3", drained=False)
    await three.until("it is back", lambda: not story.slots("node-3")["drained"])
    await three.until("the process was told", lambda: story.told("node-3")[-1][4:6] == ["undrained", "0"])


async def test_flip_is_reported_within_a_fifth_of_a_second(three: Fleet) -> None:
    """From the order in the stream to the heartbeats that say it, hooks included; measured, generous for a busy
    machine."""
    story = Story(three, "told-flip")
    await story.promote("1")
    await story.promote("2")
    await story.served(await story.slot())
    took = []
    for _ in range(10):
        began = time.monotonic()
        slot = await story.roll_back()
        await story.served(slot)
        took.append(time.monotonic() - began)
    print("flips:", " ".join(f"{1000 * t:.0f}" for t in sorted(took)), "ms")
    assert sorted(took)[len(took) // 2] < 2.0
