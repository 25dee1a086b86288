"""A fleet of three real distributors on a real server: what one event makes of it."""

import asyncio
import hashlib
import io
import json
import os
import pickle
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
import pytest_asyncio
from safetensors.numpy import save as save_safetensors

from fleetcast.bus import DeadLetter
from fleetcast.daemons.testing import Fleet, NodeProcess, fleet
from fleetcast.events.payloads import EventRejected, VersionInstalled
from fleetcast.events.state import InstalledVersion, NodeStatus

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path_factory.mktemp("three"), nodes=3) as f:
        yield f


def model(seed: int = 0, floats: int = 100_000) -> bytes:
    weights = np.random.default_rng(seed).random(floats, dtype=np.float32)
    return save_safetensors({"w": weights, "b": np.zeros(16, dtype=np.float32)})


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def refusal(f: Fleet, model_name: str, sequence_before: int, seconds: float = 15.0) -> EventRejected:
    """The first `event.rejected` after a sequence, whatever its key."""
    async with asyncio.timeout(seconds):
        async for entry in f.bus.tail(
            "FC_EVENTS", ("fc.ev.event.rejected.*",), start_sequence=sequence_before, follow=True
        ):
            payload = EventRejected.model_validate(json.loads(entry.data)["data"])
            if model_name in entry.subject or model_name in payload.subject or model_name in payload.reason:
                return payload
    raise AssertionError("unreachable")


async def test_bare_json_typed_by_hand_makes_verified_installs_on_all_nodes(three: Fleet) -> None:
    path = three.publish("hand.safetensors", model(1))

    body = json.dumps({"version": "1", "path": str(path), "node": "node-1"}).encode()
    await three.bus.send("fc.ev.model.promoted.hand", body)
    await three.until_served("hand", "1")

    for node in three.nodes.values():
        assert sha256(node.data / "models/hand/current/hand.safetensors") == sha256(path)
        assert sha256(node.data / "models_essential/hand.safetensors") == sha256(path)
    await three.until(
        "three installs are reported",
        lambda: all(n.logged("version.installed") for n in three.nodes.values()),
    )


async def test_every_node_reports_its_install_with_all_three_checks(three: Fleet) -> None:
    await three.promote("checks", "1", three.publish("checks.safetensors", model(2)), "node-2")
    await three.until_served("checks", "1")
    installed: dict[str, VersionInstalled] = {}
    async with asyncio.timeout(10):
        while len(installed) < 3:
            events = await three.events("fc.ev.version.installed.checks")
            installed = {e.payload.node: e.payload for e in events if isinstance(e.payload, VersionInstalled)}

    assert {"node-1", "node-2", "node-3"} == set(installed)
    assert all(i.checks.size == "ok" and i.checks.format == "ok" for i in installed.values())
    assert installed["node-2"].checks.sha256 == "ok"
    assert installed["node-1"].checks.sha256 == "by pieces root"


async def test_everything_that_one_promotion_caused_carries_one_correlation(three: Fleet) -> None:
    body = {"version": "1", "path": str(three.publish("chain.safetensors", model(3))), "node": "node-1"}
    await three.say("fc.ev.model.promoted.chain", body, **{"Nats-Msg-Id": "chain-1"})
    await three.until_served("chain", "1")
    names: list[str] = []
    deadline = time.monotonic() + 10
    while names.count("version.activated") < 3 or names.count("version.installed") < 3:
        assert time.monotonic() < deadline, names
        names = [e.type.name for e in await three.events() if e.correlationid == "chain-1"]

    assert names.count("artifact.available") == 1
    assert names.count("slot.ordered") == 1
    assert names.count("version.reserved") == 1
    assert names.count("transfer.verified") == 2


async def test_the_next_version_flips_pointers_and_keeps_the_last_one(three: Fleet) -> None:
    first, second = three.publish("flip-1.bin", b"one" * 1000), three.publish("flip-2.bin", b"two" * 1000)

    await three.promote("flip", "1", first)
    await three.until_served("flip", "1")
    await three.promote("flip", "2", second, "node-3")
    await three.until_served("flip", "2")

    # One activation flips several names, one rename each; its end is logged.
    await three.until("activated", lambda: all(_generation(n, "flip") == 2 for n in three.nodes.values()))
    for node in three.nodes.values():
        folder = node.data / "models/flip"
        assert (folder / "previous").readlink().name == "1"
        assert (folder / "previous/flip-1.bin").read_bytes() == first.read_bytes()
        assert (node.data / "models_essential/flip.bin").read_bytes() == second.read_bytes()


async def test_an_older_version_promoted_again_is_a_new_generation(three: Fleet) -> None:
    paths = {v: three.publish(f"again-{v}.bin", v.encode() * 999) for v in ("1", "2")}
    for version in ("1", "2", "1"):
        await three.promote("again", version, paths[version])
        await three.until_served("again", version)

    await three.until("every node logs it", lambda: all(_generation(n, "again") == 3 for n in three.nodes.values()))


def _generation(node: NodeProcess, name: str) -> object:
    moves = [e for e in node.logged("version.activated") if e.get("model") == name]
    return moves[-1]["generation"] if moves else None


async def test_an_event_delivered_five_times_and_out_of_order_counts_once(three: Fleet) -> None:
    bodies = {
        v: json.dumps(
            {
                "specversion": "1.0",
                "id": f"repeat-{v}",
                "source": "/tests",
                "type": "model.promoted.v1",
                "data": {
                    "model": "repeat",
                    "version": v,
                    "node": "node-1",
                    "path": str(three.publish(f"repeat-{v}.bin", v.encode() * 500)),
                },
            }
        ).encode()
        for v in ("1", "2")
    }
    for n, version in enumerate(("1", "1", "2", "1", "2", "1", "2", "1", "2", "2")):
        await three.say("fc.ev.model.promoted.repeat", bodies[version], **{"Nats-Msg-Id": f"delivery-{n}"})
    await three.until_served("repeat", "2")
    # A last event of another model marks the point at which all of those were handled.
    await three.promote("marker", "1", three.publish("marker.bin", b"m"))
    await three.until_served("marker", "1")

    orders = await three.events("fc.ev.slot.ordered.repeat")
    assert len(orders) == 2
    assert set(three.current("repeat").values()) == {"2"}


async def test_a_version_promoted_with_other_bytes_is_refused_and_told_who_won(three: Fleet) -> None:
    await three.promote("fixed", "1", three.publish("fixed.bin", b"first"))
    await three.until_served("fixed", "1")
    sequence = await three.promote("fixed", "1", three.publish("fixed.bin", b"second"), "node-2")

    said = await refusal(three, "fixed", sequence)

    assert said.winner is not None
    assert "node-1" in said.winner
    assert "immutable" in said.next_step
    assert len(await three.events("fc.ev.event.rejected.fixed")) == 1
    assert all((n.data / "models/fixed/1/fixed.bin").read_bytes() == b"first" for n in three.nodes.values())


async def test_two_origins_at_once_cannot_give_one_version_two_contents(three: Fleet) -> None:
    one, two = three.publish("race-a/r.bin", b"a" * 5000), three.publish("race-b/r.bin", b"b" * 5000)

    sequence, _ = await asyncio.gather(
        three.promote("race", "1", one, "node-1"), three.promote("race", "1", two, "node-2")
    )
    said = await refusal(three, "race", sequence)
    await three.until_served("race", "1")

    assert said.winner is not None
    contents = {(n.data / "models/race/1/r.bin").read_bytes() for n in three.nodes.values()}
    assert len(contents) == 1
    assert contents <= {one.read_bytes(), two.read_bytes()}


BAD_BODIES = {
    "malformed JSON": b'{"version": "1", ',
    "not an object": b'["1"]',
    "a missing field": b'{"version": "1", "node": "node-1"}',
    "a missing node": b'{"version": "1", "path": "/x"}',
    "a version with a slash": b'{"version": "a/b", "path": "/x", "node": "node-1"}',
    "a version with a newline": b'{"version": "1\\n", "path": "/x", "node": "node-1"}',
    "a version that is a slot": b'{"version": "current", "path": "/x", "node": "node-1"}',
    "a typing error in a field": b'{"verison": "1", "path": "/x", "node": "node-1"}',
}


@pytest.mark.parametrize("what", BAD_BODIES)
async def test_bad_input_is_refused_once_with_the_next_step_and_kept(three: Fleet, what: str) -> None:
    name = f"bad{list(BAD_BODIES).index(what)}"
    sequence = await three.say(f"fc.ev.model.promoted.{name}", BAD_BODIES[what])

    said = await refusal(three, name, sequence)
    dead = await _dead(three, sequence)

    assert said.reason
    assert said.next_step
    assert [BAD_BODIES[what]] == [d.data for d in dead]


async def _dead(f: Fleet, sequence: int) -> list[DeadLetter]:
    """Dead letters of one message; written after the refusal was published."""
    deadline = time.monotonic() + 10
    while not (found := [d for d in await f.bus.dead.list() if d.origin_sequence == sequence]):
        assert time.monotonic() < deadline
    return found


async def test_an_unknown_type_is_refused_with_close_matches(three: Fleet) -> None:
    sequence = await three.say("fc.ev.model.promotd.typo", {"version": "1"})

    said = await refusal(three, "promotd", sequence)

    assert "model.promoted" in said.reason + said.next_step


async def test_a_promotion_that_names_an_unknown_node_is_refused(three: Fleet) -> None:
    sequence = await three.promote("nowhere", "1", three.publish("nowhere.bin", b"x"), "node-9")

    said = await refusal(three, "nowhere", sequence, seconds=30)

    assert "node-1, node-2, node-3" in said.reason
    assert said.field == "node"


def _bad_paths(f: Fleet, folder: Path) -> dict[str, Path]:
    outside = folder / "outside.bin"
    outside.write_bytes(b"secret")
    publish = f.folder / "publish"
    (publish / "a-directory").mkdir(exist_ok=True)
    (publish / "link.bin").symlink_to(outside)
    empty = f.publish("empty.bin", b"")
    return {
        "outside": outside,
        "climbing": publish / ".." / ".." / outside.name,
        "missing": publish / "missing.bin",
        "directory": publish / "a-directory",
        "empty": empty,
        "link": publish / "link.bin",
    }


async def test_paths_that_are_no_publishable_file_are_refused(three: Fleet, tmp_path: Path) -> None:
    for what, path in _bad_paths(three, tmp_path).items():
        sequence = await three.promote(f"path-{what}", "1", path)
        said = await refusal(three, f"path-{what}", sequence)

        assert said.field == "path", what
        assert said.next_step, what
    assert not any("path-" in m.name for n in three.nodes.values() for m in (n.data / "models").glob("*"))


class _Sentinel:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"mkdir {self.path}",)


async def test_files_that_do_not_load_are_refused_and_nothing_in_them_runs(three: Fleet, tmp_path: Path) -> None:
    whole = model(9)
    sentinel = tmp_path / "executed"
    npz = io.BytesIO()
    np.savez(npz, x=np.zeros((10, 3)), y=np.zeros(10))
    bad = {
        "cut.safetensors": whole[:-1000],
        "header.safetensors": struct.pack("<Q", 2**40) + whole[8:],
        "cut.npz": npz.getvalue()[:-200],
        "code.pt": pickle.dumps(_Sentinel(sentinel)),
    }
    for name, data in bad.items():
        line = f"load-{name.split('.')[0]}-{name.split('.')[1]}"
        sequence = await three.promote(line, "1", three.publish(name, data))
        if name == "code.pt":
            await three.until_served(line, "1")  # a pickle cannot be tested; it is never loaded either
            continue
        said = await refusal(three, line, sequence)
        assert said.field == "path", name
    assert not sentinel.exists()


async def test_a_registered_version_is_everywhere_and_served_nowhere(three: Fleet) -> None:
    body = {"version": "1", "path": str(three.publish("reg.bin", b"reg" * 100)), "node": "node-1"}
    await three.say("fc.ev.MODEL_REGISTERED.reg", body)

    await three.until(
        "installed on all", lambda: all((n.data / "models/reg/1/reg.bin").exists() for n in three.nodes.values())
    )

    assert set(three.current("reg").values()) == {None}


async def test_training_data_reaches_every_node_and_keeps_apart_from_a_model_of_the_same_name(three: Fleet) -> None:
    npz = io.BytesIO()
    np.savez(npz, states=np.zeros((50, 8)), values=np.ones(50))
    path = three.publish("export.npz", npz.getvalue())
    await three.promote("lane", "1", three.publish("lane.bin", b"model"))
    body = {"path": str(path), "node": "node-2", "samples_new": 50, "samples_total": 50, "dataset_id": "1"}
    await three.say("fc.ev.export.completed.lane", body)

    await three.until(
        "data set on all",
        lambda: all((n.data / "datasets/lane/current/export.npz").exists() for n in three.nodes.values()),
    )
    await three.until_served("lane", "1")

    assert all(sha256(n.data / "datasets/lane/current/export.npz") == sha256(path) for n in three.nodes.values())


async def test_a_node_serves_what_it_holds_over_http_under_both_forms(three: Fleet) -> None:
    data = model(30)
    await three.promote("http", "1", three.publish("http.safetensors", data))
    await three.until_served("http", "1")
    status, held = await _reported(three, "node-3", "http")
    digest = hashlib.sha256(data).hexdigest()
    for form in (f"/c/{digest}", f"/a/{held.artifact}/{held.artifact[:16]}/http.safetensors"):
        assert await asyncio.to_thread(_get, f"{status.endpoints.http}{form}") == data
    with pytest.raises(HTTPError):
        await asyncio.to_thread(_get, f"{str(status.endpoints.http).rsplit('/', 1)[0]}/{'0' * 32}/c/{digest}")


async def _reported(f: Fleet, node: str, name: str) -> tuple[NodeStatus, InstalledVersion]:
    """A node's heartbeat once it shows an install of the model."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        status = (await f.statuses())[node]
        for held in (v for m in status.models if m.model == name for v in m.installed):
            return status, held
        await asyncio.sleep(0.05)
    raise AssertionError(f"{node} does not report {name}")


def _get(url: str) -> bytes:
    with urlopen(url, timeout=10) as answer:
        return bytes(answer.read())
