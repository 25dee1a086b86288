"""A fleet with something to see: what moved when, who received how much, which processes there were.

async with stage(tmp_path, nodes=3, settings=throttled(RATE)) as s:
    await s.promote("m", "1", size=SIZE)
    await s.until_fetched(0.5, "node-2")
    with s.without_source("node-2", "node-3"):
        ...
    await s.until_served()
    await s.check_aftermath(limit_seconds=bound)
"""

import asyncio
import contextlib
import functools
import hashlib
import itertools
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.system.faults import aftermath
from tests.system.faults.hosts import HostedNode, Switch
from tests.system.faults.machine import Machine

from fleetcast.bus import Message
from fleetcast.client.ulid import new_ulid
from fleetcast.config.settings import NetworkSettings, Settings
from fleetcast.daemons.testing import Fleet, NodeProcess, fleet
from fleetcast.events.state import TransferStatus

MIB = 2**20
SIZE = 32 * MIB
RATE = 8 * MIB
"""Bytes per second that an origin sends: a transfer of SIZE takes several seconds, whatever the machine does."""
LOOK_SECONDS = 0.1
"""Distance of looks at the disks."""
LOOKS_PER_ROLL = 5
"""Looks at the disks for one at the processes, which goes through all of the machine's."""
MARKER = "FLEETCAST_FAULT_TEST"
"""Environment variable by which every descendant of a node of the test is known."""
BOUND_SECONDS = 10.0
"""Longest gap of progress that is allowed while a live source exists, in seconds that the machine had for the fleet
(`machine.Machine`): twice the promise, for what two cores share apart from their time. The long versions of the tests
(`--soak`) hold the promise itself, see `conftest.bound`."""

Change = Callable[[str, Settings], Settings]
Transport = Literal["bittorrent", "aria2", "rsync"]


def throttled(rate: int, *nodes: str) -> Change:
    """Settings that let *nodes* (default: node-1) send no more than *rate* bytes per second."""

    def change(name: str, settings: Settings) -> Settings:
        if name not in (nodes or ("node-1",)):
            return settings
        limited = settings.limits.model_copy(update={"upload_bytes_per_second": rate})
        return settings.model_copy(update={"limits": limited})

    return change


def carried_by(*transports: Transport) -> Change:
    """Settings that climb the ladder in this order, whatever the size of the content says."""

    def change(_name: str, settings: Settings) -> Settings:
        return settings.model_copy(update={"ladder": settings.ladder.model_copy(update={"order": transports})})

    return change


def plugged_into(on: Switch) -> Change:
    """Settings that let every node serve at the address of its host."""

    def change(name: str, settings: Settings) -> Settings:
        network = NetworkSettings(address=on.address(name), bind=on.address(name))
        return settings.model_copy(update={"network": network})

    return change


SWARM = carried_by("bittorrent", "aria2", "rsync")


def both(*changes: Change) -> Change:
    """Several changes of settings, one after the other."""

    def change(name: str, settings: Settings) -> Settings:
        for each in changes:
            settings = each(name, settings)
        return settings

    return change


def random_bytes(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True)
class Promoted:
    """What was promoted, and from where."""

    model: str
    version: str
    data: bytes = field(repr=False)
    origin: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass
class Record:
    """What was seen of the transfers. Times are of the monotonic clock of the test."""

    moved: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    excused: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    received: dict[tuple[str, str], dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    statuses: dict[tuple[str, str], TransferStatus] = field(default_factory=dict)
    held_bytes: dict[str, int] = field(default_factory=dict)
    seen: dict[tuple[int, float], aftermath.Seen] = field(default_factory=dict)

    def take(self, message: Message) -> None:
        """Take a progress message (`fc.progress.<node>`)."""
        status = TransferStatus.model_validate_json(message.data)
        key = (status.node, status.artifact)
        before = self.statuses.get(key)
        self.statuses[key] = status
        by_rungs = sum(rung.received_bytes for rung in status.rungs)
        received = max(sum(status.bytes_by_source.values()), by_rungs)
        mine = self.received[key]
        mine[status.transfer] = max(received, mine.get(status.transfer, 0))
        if before is None or _has_moved(before, status):
            self.move(status.node)

    def move(self, node: str) -> None:
        self.moved[node].append(time.monotonic())

    def look(self, nodes: Mapping[str, NodeProcess]) -> None:
        """See how much lies on the disks."""
        for node in nodes.values():
            held = _held(node.data / "swarm")
            if held > self.held_bytes.get(node.name, 0):
                self.move(node.name)
            self.held_bytes[node.name] = held

    def call_the_roll(self, nodes: Mapping[str, NodeProcess]) -> None:
        """See which processes there are."""
        for node in nodes.values():
            if node.process is not None and node.process.poll() is None:
                for member in aftermath.family(node.process.pid):
                    self.seen[member.pid, member.created] = member


def _has_moved(before: TransferStatus, now: TransferStatus) -> bool:
    return (now.transfer, now.state, now.bytes_done, now.bytes_verified) != (
        before.transfer,
        before.state,
        before.bytes_done,
        before.bytes_verified,
    )


def _held(folder: Path) -> int:
    """Bytes on the disk below *folder*: files of a swarm are sparse until they are whole."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_blocks * 512
    return total


@dataclass
class Stage:
    """A fleet in which something will go wrong."""

    fleet: Fleet
    marker: str
    record: Record = field(default_factory=Record)
    machine: Machine = field(default_factory=Machine)
    promoted: dict[str, Promoted] = field(default_factory=dict)

    def node(self, name: str) -> NodeProcess:
        return self.fleet.nodes[name]

    @property
    def receivers(self) -> tuple[str, ...]:
        origins = {p.origin for p in self.promoted.values()}
        return tuple(name for name in self.fleet.nodes if name not in origins)

    async def promote(
        self, model: str, version: str, *, size: int = SIZE, seed: int = 0, node: str = "node-1"
    ) -> Promoted:
        """Promote random bytes from *node*."""
        promoted = Promoted(model, version, random_bytes(size, seed), node)
        self.promoted[model] = promoted
        path = self.fleet.publish(f"{model}-{version}/{model}.bin", promoted.data)
        await self.fleet.promote(model, version, path, node)
        return promoted

    def fetched(self, name: str, model: str = "m") -> float:
        """The part of a model that lies on a node's disk, between 0 and 1."""
        promoted = self.promoted[model]
        status = next((s for s in self.statuses_of(name) if s.model == model and s.version == promoted.version), None)
        folder = self.node(name).data / "swarm" / (status.artifact if status else "none yet")
        return min(1.0, _held(folder) / len(promoted.data))

    def received_bytes(self, name: str) -> int:
        """What a node has said that it received, over all its attempts."""
        return sum(each.received_bytes for each in self._fetched((name,)))

    def statuses_of(self, name: str) -> list[TransferStatus]:
        return [status for (node, _), status in self.record.statuses.items() if node == name]

    async def until_fetched(self, part: float, *names: str, model: str = "m", seconds: float = 60.0) -> None:
        """Wait until each of the nodes (default: all receivers) has at least this part of a model."""
        asked = names or self.receivers

        def there() -> bool:
            return all(self.fetched(name, model) >= part for name in asked)

        await self.fleet.until(f"{part:.0%} of {model} on {', '.join(asked)}", there, seconds)
        served = self.fleet.current(model)
        assert not all(served[n] == self.promoted[model].version for n in asked), "too late: it is served already"

    @contextlib.contextmanager
    def without_source(self, *names: str) -> Iterator[None]:
        """A time in which the nodes (default: all) have no live source, or are dead: they may stand still."""
        began = time.monotonic()
        try:
            yield
        finally:
            for name in names or tuple(self.fleet.nodes):
                self.record.excused[name].append((began, time.monotonic()))

    async def let_pass(self, seconds: float) -> None:
        """Wait until the machine had so many seconds for the fleet: a check of gaps counts these only."""
        began = time.monotonic()
        await self.fleet.until(f"{seconds} s", lambda: self.machine.given(began, time.monotonic()) > seconds, 60)

    async def until_served(self, *names: str, seconds: float = 60.0) -> None:
        """Wait until the nodes (default: all) serve all that was promoted last."""
        for p in self.promoted.values():
            await self.fleet.until_served(p.model, p.version, nodes=names, seconds=seconds)

    async def until_still(self, name: str, seconds: float) -> None:
        """Wait until nothing of a node has moved for so long; this moment counts as its next move."""
        moved = self.record.moved[name]

        def still() -> bool:
            return bool(moved) and self.machine.given(moved[-1], time.monotonic()) > seconds

        await self.fleet.until(f"{name} stands still", still, 60)
        self.record.move(name)

    async def until_installed(self, *names: str) -> None:
        """Wait until the last progress message of every transfer was heard."""
        asked = set(names)

        def told() -> bool:
            newest = {p.version for p in self.promoted.values()}
            mine = [s for (node, _), s in self.record.statuses.items() if node in asked and s.version in newest]
            return bool(mine) and all(s.state == "installed" for s in mine)

        await self.fleet.until("the end of every transfer is told", told)

    async def check_aftermath(
        self,
        *healthy: str,
        limit_seconds: float = BOUND_SECONDS,
        quarantine: bool = False,
    ) -> None:
        """Check everything that must be true after any fault, stop the fleet, and look for what is left.

        Args:
            healthy: nodes that must have come through; default: all.
            quarantine: whether bytes may have been set aside.
        """
        names = healthy or tuple(self.fleet.nodes)
        # Read before the wait for words that may have been lost: nothing of it depends on them.
        found = self._wrong_bytes(names)
        found += aftermath.gaps(self._moves(names), limit_seconds, self.machine.turns)
        fetched = self._fetched(names)
        print(*fetched, sep="\n")  # shown when the test fails
        found += aftermath.fetched_again(fetched)
        stopping = (asyncio.to_thread(self._stop, self.node(name)) for name in names)
        found += [line for lines in await asyncio.gather(*stopping) for line in lines]
        found += [line for n in names for line in aftermath.leftovers(self.node(n).data, quarantine=quarantine)]
        for node in self.fleet.nodes.values():
            node.kill()
        found += await self._orphans()
        assert not found, "\n".join(("after the fault:", *found))

    def _wrong_bytes(self, names: tuple[str, ...]) -> list[str]:
        found = []
        for p in self.promoted.values():
            served = {n: self.node(n).data / "models" / p.model / "current" / f"{p.model}.bin" for n in names}
            found += aftermath.wrong_bytes(served, p.sha256)
        return found

    def _moves(self, names: tuple[str, ...]) -> list[aftermath.Moves]:
        return [
            aftermath.Moves(n, self.record.moved[n], self.record.excused[n]) for n in names if len(self.record.moved[n])
        ]

    def _fetched(self, names: tuple[str, ...]) -> list[aftermath.Fetched]:
        return [
            aftermath.Fetched(
                node,
                sum(by_transfer.values()),
                self.record.statuses[node, artifact].bytes_total,
                sources=len(self.fleet.nodes) - 1,
            )
            for (node, artifact), by_transfer in self.record.received.items()
            if node in names
        ]

    def _stop(self, node: NodeProcess) -> list[str]:
        code = node.stop()
        return [] if code == 0 else [f"{node.name} ended with {code}"]

    async def _orphans(self) -> list[str]:
        """What lives on although the fleet does not; the kernel may take a moment to end it."""
        deadline = time.monotonic() + 10
        while True:
            left = {(s.pid, s.created): s for s in self.record.seen.values() if aftermath.is_alive(s)}
            left |= {(s.pid, s.created): s for s in await asyncio.to_thread(aftermath.marked, self.marker)}
            found = aftermath.orphans(left.values())
            if not found or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.1)

    async def watch(self) -> None:
        """Look at disks and processes until cancelled."""
        for turn in itertools.count():
            await asyncio.to_thread(self.record.look, self.fleet.nodes)
            if turn % LOOKS_PER_ROLL == 0:
                await asyncio.to_thread(self.record.call_the_roll, self.fleet.nodes)
            await asyncio.sleep(LOOK_SECONDS)


@contextlib.asynccontextmanager
async def stage(
    folder: Path,
    nodes: int = 3,
    *,
    settings: Change | None = None,
    environment: Mapping[str, Mapping[str, str]] | None = None,
    on: Switch | None = None,
) -> AsyncIterator[Stage]:
    """A fleet of `node-1` … `node-N` that is watched; *environment*: more variables, by node.

    *on*: a switch with a host for every node; default: all are on loopback.
    """
    marker = f"{MARKER}-{new_ulid()}"
    changed = both(SWARM, settings or throttled(RATE))
    if on is None:
        made = fleet(folder, nodes, settings=changed, start=False)
    else:
        hosted = functools.partial(HostedNode, switch=on)
        changed = both(changed, plugged_into(on))
        made = fleet(folder, nodes, settings=changed, start=False, host=on.here, process=hosted)
    async with made as f:
        for node in f.nodes.values():
            node.environment = {**(environment or {}).get(node.name, {}), MARKER: marker}
            node.start()
        await f.until_ready()
        s = Stage(f, marker)
        stop_listening = await f.bus.listen("fc.progress.>", s.record.take)
        watching = asyncio.create_task(s.watch(), name="watch the stage")
        try:
            with s.machine.watched():
                yield s
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            with contextlib.suppress(Exception):
                await stop_listening()
