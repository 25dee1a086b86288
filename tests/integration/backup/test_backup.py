"""Backup and restore between real servers: everything comes back with its numbers, or nothing is changed."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fleetcast.bus import BatchMessage, Bus, Entry, Message, TransportFailed, connect, declare, snapshots
from fleetcast.bus.errors import Conflict, ConnectionLost
from fleetcast.bus.jetstream import JetStream
from fleetcast.bus.server import LocalServer
from fleetcast.bus.snapshots import Snapshot
from fleetcast.bus.streams import AUDIT, EVENTS, LEASES_BUCKET, REGISTRY, WORK
from fleetcast.bus.testing import fast_settings, nats_cluster
from fleetcast.cli.backup import restoring, taking
from fleetcast.cli.backup.archive import Reader
from fleetcast.cli.backup.drilling import rehearse, report
from fleetcast.cli.backup.restoring import put_back
from fleetcast.cli.backup.rules import order_of_taking
from fleetcast.cli.backup.sealing import PrivateKey
from fleetcast.cli.backup.taking import Taken, take
from fleetcast.cli.problems import Exit, Problem
from fleetcast.events.envelope import new_event
from fleetcast.events.payloads import Endpoints, NodeStopped
from fleetcast.events.state import Cause, SlotEntry, log_subject, slot_subject
from fleetcast.registry import Registry
from fleetcast.security.roles import BACKED_UP

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = PrivateKey.new()
MODELS, EVENTS_SENT = ("hex8_2p", "square8"), 40
DURABLE, STOPPED = "reader", "fc.ev.node.stopped.*"


def quiet(_line: str) -> None:
    pass


@asynccontextmanager
async def bus_of(server: LocalServer) -> AsyncIterator[Bus]:
    async with connect(fast_settings(server.url), node="node-1", daemon="cli", wait=False) as bus:
        yield bus


async def fill(bus: Bus) -> None:
    """Decisions, events with headers, keys with revisions, and a reader that has come half the way."""
    await declare(bus, 1)
    for model in MODELS:
        for n in range(3):
            await order(bus, model, n)
    for n in range(EVENTS_SENT):
        stopped = NodeStopped(node="node-1", daemon="registry", version=str(n), endpoints=Endpoints())
        await bus.publish(new_event(stopped, source="/fleet/node-1/test"))
    for _ in range(5):
        await bus.leases.release(await bus.leases.acquire("lane", "node-1"))
    config = {"name": DURABLE, "durable_name": DURABLE, "ack_policy": "explicit", "filter_subject": STOPPED}
    await bus.js.api(f"CONSUMER.CREATE.{EVENTS}.{DURABLE}", {"stream_name": EVENTS, "config": config})
    queue: asyncio.Queue[Message] = asyncio.Queue()
    async with bus.wire.inbox_for_stream(queue.put_nowait) as inbox, asyncio.timeout(60):
        await bus.wire.publish(f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS}.{DURABLE}", b'{"batch": 7}', reply=inbox)
        for _ in range(7):
            await bus.wire.request((await queue.get()).reply, b"+ACK", timeout_seconds=30)


async def order(bus: Bus, model: str, n: int) -> int:
    """A decision; the generation that came of it."""
    cause = Cause(event=f"{model}-{n}", sequence=n + 1, by="/test", correlation=f"{model}-{n}")
    entry = SlotEntry(version=str(n), artifact="a" * 64)
    outcome = await Registry(bus).order_slot(model, entry, cause=cause, request=f"{model}-{n}", actor="/test")
    return outcome.state.generation


async def everything(bus: Bus) -> dict[str, list[Entry]]:
    """Every message of every stream that a backup holds, and where copies have come to."""
    await until(lambda: copied(bus, 3 * len(MODELS)))
    # A queue gives what is in it to one reader only.
    return {name: [entry async for entry in bus.tail(name, [])] for name in BACKED_UP if name != WORK}


async def copied(bus: Bus, records: int) -> bool:
    return await bus.last_sequence(AUDIT) >= records


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 120.0) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110  # what is waited for happens in the server
            await asyncio.sleep(0.05)


@dataclass
class Scene:
    """A cluster with a past, a backup of it, and a folder."""

    bus: Bus
    taken: Taken
    folder: Path
    before: dict[str, list[Entry]]

    @property
    def reader(self) -> Reader:
        return Reader(self.taken.path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("backup")
    async with LocalServer(folder / "a") as server, bus_of(server) as bus:
        await fill(bus)
        before = await everything(bus)
        taken = await take(bus, folder, (KEY.public,), say=quiet)
        yield Scene(bus, taken, folder, before)


@pytest_asyncio.fixture(loop_scope="module")
async def empty(tmp_path: Path) -> AsyncIterator[Bus]:
    async with LocalServer(tmp_path / "b") as server, bus_of(server) as bus:
        yield bus


async def restored(bus: Bus, scene: Scene, *, replicas: int = 1, resume: bool = False) -> restoring.Restored:
    return await put_back(bus, scene.reader, KEY, replicas=replicas, resume=resume, say=quiet)


async def test_everything_comes_back_with_its_number_time_and_headers(scene: Scene, empty: Bus) -> None:
    done = await restored(empty, scene)

    after = await everything(empty)
    passing = {f"KV_{LEASES_BUCKET}"}
    assert {n: e for n, e in after.items() if n not in passing} == {
        n: e for n, e in scene.before.items() if n not in passing
    }
    assert len(after[EVENTS]) >= EVENTS_SENT
    assert {checked.model: checked.records for checked in done.checked} == dict.fromkeys(MODELS, 3)
    assert {change.action for change in await declare(empty, 1)} == {"created"}


async def test_a_reader_goes_on_where_it_was_and_numbers_go_on_growing(scene: Scene, empty: Bus) -> None:
    await restored(empty, scene)
    info = await empty.js.api(f"CONSUMER.INFO.{EVENTS}.{DURABLE}")
    former = await scene.bus.js.api(f"CONSUMER.INFO.{EVENTS}.{DURABLE}")
    lease = await empty.leases.acquire("lane", "node-2")

    assert (info["num_pending"], info["ack_floor"]["stream_seq"]) == (
        former["num_pending"],
        former["ack_floor"]["stream_seq"],
    )
    assert info["num_pending"] == EVENTS_SENT - 7
    # The fence of a lease is the number of its message: one that was given before is never given again.
    assert lease.fence > await scene.bus.last_sequence(f"KV_{LEASES_BUCKET}")
    assert await order(empty, MODELS[0], 3) == 4


async def test_a_writer_that_knows_an_old_revision_still_loses(scene: Scene, empty: Bus) -> None:
    await restored(empty, scene)
    subject = slot_subject(MODELS[0])
    newest = await empty.last(REGISTRY, subject)
    assert newest is not None

    with pytest.raises(Conflict):
        await empty.batch([BatchMessage(subject, b"{}", newest.sequence - 1)])


async def test_a_cluster_with_something_in_it_is_refused_and_left_as_it_was(scene: Scene, empty: Bus) -> None:
    await declare(empty, 1)
    await order(empty, "other", 0)
    before = [entry async for entry in empty.tail(REGISTRY, [])]

    with pytest.raises(Problem, match=f"not empty: .*{REGISTRY} with ") as refused:
        await restored(empty, scene)
    assert refused.value.exit is Exit.REFUSED
    with pytest.raises(Problem, match="not empty"):
        await restored(empty, scene, resume=True)
    assert [entry async for entry in empty.tail(REGISTRY, [])] == before


async def test_streams_that_were_only_declared_are_not_in_the_way(scene: Scene, empty: Bus) -> None:
    await declare(empty, 1)

    assert set((await restored(empty, scene)).made) == set(BACKED_UP)


def flipped(path: Path) -> Path:
    """A copy of a file with another bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    copy = path.with_name("damaged.fcbackup")
    copy.write_bytes(data)
    return copy


async def test_a_damaged_file_changes_nothing(scene: Scene, empty: Bus) -> None:
    path = await asyncio.to_thread(flipped, scene.taken.path)

    for wrong, key in ((path, KEY), (scene.taken.path, PrivateKey.new())):
        with pytest.raises(Problem) as refused:
            await put_back(empty, Reader(wrong), key, replicas=1, resume=False, say=quiet)
        assert refused.value.code in {"backup_damaged", "backup_key"}
    assert (await empty.js.api("STREAM.NAMES"))["streams"] is None


async def test_an_interrupted_restore_is_gone_on_with(
    scene: Scene, empty: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = snapshots.restore

    async def interrupted(js: JetStream, stream: str, *rest: Any) -> dict[str, Any]:
        if len(made) == 4:
            raise ConnectionLost
        made.append(stream)
        return await real(js, stream, *rest)

    monkeypatch.setattr(restoring, "restore", interrupted)
    with pytest.raises(ConnectionLost):
        await restored(empty, scene)
    monkeypatch.undo()

    with pytest.raises(Problem, match="not empty") as refused:
        await restored(empty, scene)
    assert "--resume" in refused.value.next_step
    done = await restored(empty, scene, resume=True)
    # A stream without a message looks as if it had been declared, and is made once more.
    assert set(done.kept) <= set(made)
    assert done.kept
    assert (await everything(empty))[EVENTS] == scene.before[EVENTS]


async def test_a_record_that_was_changed_before_the_backup_is_named_after_the_restore(
    scene: Scene, empty: Bus, tmp_path: Path
) -> None:
    async with LocalServer(tmp_path / "forged") as server, bus_of(server) as bus:
        await fill(bus)
        entry = await bus.last(REGISTRY, log_subject(MODELS[0], 2))
        assert entry is not None
        await bus.publish_raw(entry.subject, entry.data.replace(b"/test", b"/else"))
        taken = await take(bus, tmp_path, (KEY.public,), say=quiet)

        with pytest.raises(Problem, match=f"{MODELS[0]}: ") as named:
            await put_back(empty, Reader(taken.path), KEY, replicas=1, resume=False, say=quiet)
    assert named.value.code == "restored_wrong"


async def test_a_snapshot_that_breaks_off_leaves_no_file(scene: Scene, tmp_path: Path) -> None:
    def say(_line: str) -> None:
        scene.bus.wire.replace("cut by the test")

    with pytest.raises(TransportFailed):
        await take(scene.bus, tmp_path, (KEY.public,), say=say)
    assert await asyncio.to_thread(os.listdir, tmp_path) == []
    assert await scene.bus.wire.wait_connected(60)


async def test_a_drill_restores_beside_the_fleet_and_says_how_long_it_took(scene: Scene, tmp_path: Path) -> None:
    drill = await rehearse(scene.reader, KEY, servers=1, place=tmp_path, say=quiet)

    found = await asyncio.to_thread(partial(report, drill, notes=None, now=datetime.now(UTC)))
    assert found["accepted"]
    assert (found["chains_verified"], found["declared_otherwise"]) == (len(MODELS), [])
    assert found["messages"] == scene.taken.summary.messages
    assert drill.seconds > 0


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_three_servers_take_a_backup_and_agree_on_it(scene: Scene, tmp_path: Path) -> None:
    async with (
        nats_cluster(tmp_path) as cluster,
        connect(fast_settings(cluster.url, replicas=3), node="node-1", daemon="cli", wait=True) as bus,
    ):
        await restored(bus, scene, replicas=3)

        after = await everything(bus)
        assert after[EVENTS] == scene.before[EVENTS]
        assert after[REGISTRY] == scene.before[REGISTRY]
        for name in BACKED_UP:
            await until(partial(current, bus, name))
        # The leader of the truth is lost: the other two have all of it.
        leader = (await bus.js.api(f"STREAM.INFO.{REGISTRY}"))["cluster"]["leader"]
        await cluster.member(leader).kill_async()
        async with asyncio.timeout(120):
            while True:
                try:
                    assert [entry async for entry in bus.tail(REGISTRY, [])] == scene.before[REGISTRY]
                    break
                except TransportFailed:
                    await asyncio.sleep(0.2)


async def current(bus: Bus, name: str) -> bool:
    """Whether all copies of a stream are there."""
    found = (await bus.js.api(f"STREAM.INFO.{name}"))["cluster"]
    others = found.get("replicas") or []
    return bool(found.get("leader")) and len(others) == 2 and all(other["current"] for other in others)


@pytest.mark.soak
async def test_broken_variant_without_the_order_of_taking_a_copy_tells_of_what_its_source_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry first, a decision, then the copies: what comes back is not whole, and verification says so."""
    async with LocalServer(tmp_path / "a") as server, bus_of(server) as bus:
        await fill(bus)
        await everything(bus)
        monkeypatch.setattr(taking, "order_of_taking", lambda names: (REGISTRY, *order_of_taking(names)[:2]))
        real = snapshots.snapshot

        @asynccontextmanager
        async def deciding(js: JetStream, stream: str) -> AsyncIterator[Snapshot]:
            if stream == EVENTS:
                await order(bus, MODELS[0], 3)
                await until(lambda: copied(bus, 3 * len(MODELS) + 1))
            async with real(js, stream) as found:
                yield found

        monkeypatch.setattr(taking, "snapshot", deciding)
        taken = await take(bus, tmp_path, (KEY.public,), say=quiet)
        async with LocalServer(tmp_path / "b") as other, bus_of(other) as empty:
            with pytest.raises(Problem, match="is here and not in the registry"):
                await put_back(empty, Reader(taken.path), KEY, replicas=1, resume=False, say=quiet)
