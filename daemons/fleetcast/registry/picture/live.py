"""The fleet as it changes: heartbeats and progress messages, gathered in one place that others wait on."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import ValidationError

from fleetcast.bus import Bus, InSync
from fleetcast.bus.errors import NotFound
from fleetcast.bus.streams import REGISTRY
from fleetcast.events.content import Kind
from fleetcast.events.lifecycle import DrainState, drain_subject
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import NodeStatus, SlotState, TransferStatus
from fleetcast.registry.errors import RegistryError
from fleetcast.registry.picture.amounts import moment
from fleetcast.registry.picture.nodes import LOST_AFTER_HEARTBEATS, NodeView, Rollout, rollout, sighted, views
from fleetcast.registry.registry import Registry

_T = TypeVar("_T")
NODES_STREAM = "KV_fc_nodes"
NODES_SUBJECTS = ("$KV.fc_nodes.>",)
_PATIENCE_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_TICK_SECONDS = 1.0
"""Waiting for the fleet also looks at the clock: a node that falls silent sends nothing to wake anybody."""


class NoFleet(RegistryError):
    """The NATS server knows of no fleet: no daemon of fleetcast has ever been connected to it."""


class FleetSilent(RegistryError):
    """NATS did not say in time what it knows of the fleet."""


class PictureEnded(RegistryError):
    """What follows the fleet has ended by a fault: the picture would stay as it is for ever."""


class Fleet:
    """What is known of the fleet now; one owner (`watched`), any number of readers on the same loop."""

    def __init__(self, heartbeat_seconds: float) -> None:
        self._heartbeat_seconds = heartbeat_seconds
        self._statuses: dict[str, NodeStatus] = {}
        self._heard: dict[str, float] = {}
        self._progress: dict[tuple[str, str], TransferStatus] = {}
        self._slots: dict[tuple[Kind, str], SlotState] = {}
        self._drains: dict[str, DrainState] = {}
        self._changed = asyncio.Event()
        self._fault: BaseException | None = None
        self.changes = 0
        """How often anything was different that is not different in every heartbeat: see `standing`."""
        self.heartbeats_known = asyncio.Event()
        self.slots_known = asyncio.Event()
        self.drains_known = asyncio.Event()

    @property
    def nodes(self) -> tuple[NodeView, ...]:
        """All nodes that were heard from within a day."""
        statuses = [self._as_of_now(status) for status in self._statuses.values()]
        return views(statuses, now=datetime.now(UTC), heartbeat_seconds=self._heartbeat_seconds, drains=self._drains)

    @property
    def keepers(self) -> tuple[NodeView, ...]:
        """All registry daemons that were heard from within a day, by node."""
        known = self._statuses.values()
        return views(known, now=datetime.now(UTC), heartbeat_seconds=self._heartbeat_seconds, daemon="registry")

    def attendants(self, kinds: Iterable[str]) -> dict[str, tuple[NodeView, ...]]:
        """The daemons of other *kinds* that were heard from within a day, by node."""
        known, now = tuple(self._statuses.values()), datetime.now(UTC)
        return {kind: views(known, now=now, heartbeat_seconds=self._heartbeat_seconds, daemon=kind) for kind in kinds}

    @property
    def statuses(self) -> tuple[NodeStatus, ...]:
        """The newest heartbeat of every daemon of every node."""
        return tuple(self._statuses.values())

    def _as_of_now(self, status: NodeStatus) -> NodeStatus:
        # Heartbeats tell changes of state; how far a transfer is comes by progress messages.
        fresh = tuple(_newer(t, self._progress.get((status.node, t.transfer), t)) for t in status.transfers)
        return status.model_copy(update={"transfers": fresh})

    def node(self, name: str) -> NodeView | None:
        """Node *name*, if it was heard from."""
        return next((node for node in self.nodes if node.name == name), None)

    def is_ready(self, daemon: str, pid: int | None) -> bool:
        """Whether the process *pid* has said that it is ready as *daemon*, on whichever node."""
        said = (s for s in self._statuses.values() if s.daemon == daemon and s.pid == pid)
        return any(s.state is DaemonState.READY for s in said)

    @property
    def transfers(self) -> tuple[TransferStatus, ...]:
        """Transfers of all nodes, each as of the newest message about it."""
        known = {(s.node, t.transfer): t for s in self._statuses.values() for t in s.transfers}
        for key, fresh in self._progress.items():
            known[key] = _newer(known.get(key, fresh), fresh)
        return tuple(sorted(known.values(), key=lambda t: (t.started_at, t.node)))

    @property
    def slots(self) -> tuple[SlotState, ...]:
        """What is ordered for every model and lane, by name."""
        return tuple(sorted(self._slots.values(), key=lambda slot: (slot.kind.value, slot.model)))

    def slot(self, name: str) -> SlotState | None:
        """What is ordered for the model *name*, or else for the lane of that name."""
        return self._slots.get((Kind.MODEL, name)) or self._slots.get((Kind.DATASET, name))

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        """How far every order has come."""
        nodes = self.nodes
        seen = sighted(nodes)
        return tuple(rollout(slot, nodes, seen) for slot in self.slots)

    async def until(self, condition: Callable[[], _T | None], timeout_seconds: float) -> _T:
        """Wait until *condition* gives something; return it.

        Raises:
            TimeoutError: it did not within *timeout_seconds*.
            PictureEnded: nothing changes any more.
        """
        async with asyncio.timeout(timeout_seconds):
            while True:
                found = condition()
                if found is not None:
                    return found
                await self.change()

    async def change(self, within_seconds: float = _TICK_SECONDS) -> None:
        """Return at the next change, and after *within_seconds* at the latest.

        Raises:
            PictureEnded: there will be none.
        """
        if self._fault is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(within_seconds):
                    await self._changed.wait()
        if self._fault is not None:
            raise PictureEnded(f"the fleet is not followed any more: {self._fault}") from self._fault

    def take_status(self, data: bytes) -> None:
        """Take a heartbeat; one that cannot be read (of a newer version, say) changes nothing."""
        with suppress(ValidationError):
            status = NodeStatus.model_validate_json(data)
            key = f"{status.node}.{status.daemon}"
            known = self._statuses.get(key)
            self._statuses[key] = status
            self._heard[key] = moment(status.at).timestamp()
            self.wake(news=known is None or _news(known, status))

    def take_slot(self, slot: SlotState) -> None:
        """Take a slot order; generations only grow."""
        key = (slot.kind, slot.model)
        known = self._slots.get(key)
        if known is None or slot.generation > known.generation:
            self._slots[key] = slot
            self.wake()

    def take_drain(self, data: bytes) -> None:
        """Take the record of a node that is out of service, or back in."""
        with suppress(ValidationError):
            state = DrainState.model_validate_json(data)
            self._drains[state.node] = state
            self.wake()

    def take_progress(self, data: bytes) -> None:
        """Take a progress message."""
        with suppress(ValidationError):
            status = TransferStatus.model_validate_json(data)
            self._progress[status.node, status.transfer] = status
            self.wake()

    def follower_ended(self, follower: "asyncio.Task[None]") -> None:
        """Have everybody who waits know that a part of the picture stays as it is from now on."""
        if not follower.cancelled():
            self._fault = follower.exception() or RuntimeError(f"{follower.get_name()} came to an end")
            self.wake()

    def forget(self, before: datetime) -> None:
        """Drop heartbeats, and progress of transfers, that are older than *before*: whoever looks for days must not
        keep every node that there ever was."""
        self._statuses = {key: s for key, s in self._statuses.items() if moment(s.at) >= before}
        self._heard = {key: self._heard[key] for key in self._statuses}
        alive = {(s.node, t.transfer) for s in self._statuses.values() for t in s.transfers}
        self._progress = {
            key: t
            for key, t in self._progress.items()
            if key in alive or moment(t.started_at) + timedelta(seconds=t.seconds) >= before
        }

    @property
    def standing(self) -> object:
        """Equal while nothing is different but times and measurements: what was made of the fleet holds as long. Who is
        silent is part of it, although nothing comes to say so."""
        silent_since = time.time() - self._heartbeat_seconds * LOST_AFTER_HEARTBEATS
        return self.changes, tuple(key for key, heard_at in self._heard.items() if heard_at < silent_since)

    def wake(self, *, news: bool = True) -> None:
        """Have everybody who waits look again; *news*: there is something to see."""
        # A fresh event each time: whoever comes later waits for the next change, and nobody has to clear anything.
        changed, self._changed = self._changed, asyncio.Event()
        self.changes += news
        changed.set()


def _news(known: NodeStatus, status: NodeStatus) -> bool:
    """Whether a heartbeat says anything that the one before it did not. Times, free space and temperatures are always
    different."""
    return any(getattr(known, name) != getattr(status, name) for name in _TOLD) or _faults(known) != _faults(status)


_MEASURED = frozenset({"at", "disk_free", "spool_entries", "gpus", "transfers"})
_TOLD = tuple(name for name in NodeStatus.model_fields if name not in _MEASURED)


def _faults(status: NodeStatus) -> tuple[object, ...]:
    """What of the measured things is no measurement."""
    gpus = tuple((gpu.index, gpu.fault, gpu.warning, gpu.proven_at) for gpu in status.gpus)
    moving = tuple((t.transfer, t.state, t.bytes_done, t.bytes_verified, t.reason) for t in status.transfers)
    return gpus, moving


def _newer(one: TransferStatus, other: TransferStatus) -> TransferStatus:
    # A heartbeat and a progress message may overtake each other; a transfer never becomes younger.
    return one if one.seconds > other.seconds else other


@asynccontextmanager
async def watched(bus: Bus, heartbeat_seconds: float, *, streams_seconds: float = 0.0) -> AsyncIterator[Fleet]:
    """The fleet, kept up to date for the duration; entered once every heartbeat and slot that is there has been read.

    Args:
        heartbeat_seconds: distance of heartbeats, which tells when a node is lost.
        streams_seconds: how long a server may take to have streams, while its first daemons make them.

    Raises:
        NoFleet: the server has no streams of fleetcast.
        FleetSilent: it does not answer.
    """
    await _check_streams(bus, streams_seconds)
    fleet = Fleet(heartbeat_seconds)
    followers = [
        asyncio.create_task(_follow_heartbeats(bus, fleet), name="heartbeats"),
        asyncio.create_task(_follow_slots(Registry(bus), fleet), name="slots"),
        asyncio.create_task(_follow_drains(bus, fleet), name="drains"),
    ]
    stop = await bus.listen("fc.progress.*", lambda message: fleet.take_progress(message.data))
    try:
        await _first_picture(fleet, followers)
        for follower in followers:
            follower.add_done_callback(fleet.follower_ended)
        yield fleet
    finally:
        await stop()
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)


async def _first_picture(fleet: Fleet, followers: "list[asyncio.Task[None]]") -> None:
    """Wait for the first picture, or for the reason why there is none."""

    async def known() -> None:
        await fleet.heartbeats_known.wait()
        await fleet.slots_known.wait()
        await fleet.drains_known.wait()

    ready = asyncio.create_task(known())
    done, _ = await asyncio.wait({ready, *followers}, timeout=_PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if ready in done:
        return
    ready.cancel()
    for follower in done:
        follower.result()
    raise FleetSilent("NATS did not say in time what it knows of the fleet")


async def _check_streams(bus: Bus, patience_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    while True:
        try:
            await bus.last(NODES_STREAM, NODES_SUBJECTS[0])
            return
        except NotFound as error:
            if loop.time() < deadline:
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            raise NoFleet("this NATS server knows of no fleet") from error


async def _follow_heartbeats(bus: Bus, fleet: Fleet) -> None:
    async for entry in bus.watch(NODES_STREAM, NODES_SUBJECTS):
        if isinstance(entry, InSync):
            fleet.heartbeats_known.set()
            fleet.wake()
        elif entry.data:
            fleet.take_status(entry.data)


async def _follow_slots(registry: Registry, fleet: Fleet) -> None:
    async for slot in registry.watch_slots():
        if isinstance(slot, InSync):
            fleet.slots_known.set()
            fleet.wake()
        else:
            fleet.take_slot(slot)


async def _follow_drains(bus: Bus, fleet: Fleet) -> None:
    async for entry in bus.watch(REGISTRY, (drain_subject("*"),)):
        if isinstance(entry, InSync):
            fleet.drains_known.set()
            fleet.wake()
        else:
            fleet.take_drain(entry.data)
