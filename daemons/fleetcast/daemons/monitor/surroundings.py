"""What a monitor knows beside the snapshots: the slots, what nodes say that they serve, what versions were expected to
do, and which other monitors there are."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog
from pydantic import ValidationError

from fleetcast.bus import Bus, Entry, InSync
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import NODES_BUCKET, REGISTRY
from fleetcast.daemons.monitor.clock import ServerClock
from fleetcast.events.content import Kind
from fleetcast.events.lifecycle import EntryState, Facts, entry_subject
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import NodeStatus, SlotState, slot_subject

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.monitor")

SILENT_BEATS: Final = 3.0
"""Heartbeats that a monitor may miss before the others take over its share."""
_HEARTBEATS: Final = (f"$KV.{NODES_BUCKET}.*.distributor", f"$KV.{NODES_BUCKET}.*.monitor")
_ENTRIES: Final = "fc.reg.state.entry.*.*"


@dataclass(frozen=True, slots=True)
class Serving:
    """What a node says of a model: the versions that it answers requests with, and the slot order that it follows."""

    versions: frozenset[str]
    generation: int


@dataclass(slots=True)
class _Member:
    started_at: str
    heard: float
    stopped: bool


class Surroundings:
    """Follows all of it.

    Attributes:
        slots: by model; `slotted_at`: when the server stored them, in seconds of the epoch.
        known: set once slots and heartbeats have been read.
        on_slot: called with every slot order that is new.
        on_facts: called with a model, a version and what is said of it, when that is read or changes.
        on_member: called when a monitor came or went.
    """

    def __init__(self, bus: Bus, clock: ServerClock, *, heartbeat_seconds: float) -> None:
        self._bus = bus
        self._clock = clock
        self._silent_seconds = SILENT_BEATS * heartbeat_seconds
        self.slots: dict[str, SlotState] = {}
        self.slotted_at: dict[str, float] = {}
        self._serving: dict[tuple[str, str], Serving] = {}
        self._members: dict[str, _Member] = {}
        self._asked: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._facts: dict[tuple[str, str], Facts | None] = {}
        self.known = asyncio.Event()
        self._in_sync = 0
        self.on_slot: Callable[[SlotState], None] = lambda slot: None
        self.on_facts: Callable[[str, str, Facts], None] = lambda model, version, facts: None
        self.on_member: Callable[[], None] = lambda: None

    # -- what is known

    def serving(self, node: str, model: str) -> Serving | None:
        """What a node serves of a model; None: it does not say."""
        return self._serving.get((node, model))

    def members(self) -> Iterator[str]:
        """The nodes whose monitors live, as far as they were heard from."""
        now = time.monotonic()
        return (
            node
            for node, member in self._members.items()
            if not member.stopped and now - member.heard <= self._silent_seconds
        )

    def facts(self, model: str, version: str) -> Facts | None:
        """What is said of a version; None: nothing, or it is being read and `on_facts` will tell."""
        key = (model, version)
        if key not in self._facts:
            self._facts[key] = None
            self._asked.put_nowait(key)
        return self._facts[key]

    # -- following

    async def watch_slots(self) -> None:
        """Follow the slot orders until cancelled."""
        async for item in self._bus.watch(REGISTRY, (slot_subject("*"),)):
            if isinstance(item, InSync):
                self._synced(item)
                continue
            self._clock.seen(item.time)
            try:
                slot = SlotState.model_validate_json(item.data)
            except ValidationError as damaged:
                log.warning("record.unreadable", subject=item.subject, reason=str(damaged.errors()[0]["msg"]))
                continue
            known = self.slots.get(slot.model)
            if known is None or slot.generation > known.generation:
                self.slots[slot.model] = slot
                self.slotted_at[slot.model] = item.time.timestamp()
                self.on_slot(slot)

    async def watch_nodes(self) -> None:
        """Follow the heartbeats until cancelled."""
        async for item in self._bus.watch(f"KV_{NODES_BUCKET}", _HEARTBEATS):
            if isinstance(item, InSync):
                self._synced(item)
                continue
            self._clock.seen(item.time)
            if item.data:
                self._take(item)

    def _synced(self, marker: InSync) -> None:
        self._in_sync += not marker.resync
        if self._in_sync >= len(("slots", "nodes")):
            self.known.set()

    def _take(self, entry: Entry) -> None:
        try:
            status = NodeStatus.model_validate_json(entry.data)
        except ValidationError:
            log.warning("heartbeat.unreadable", subject=entry.subject)
            return
        if status.daemon == "monitor":
            self._take_member(status, entry)
        else:
            self._take_node(status)

    def _take_member(self, status: NodeStatus, entry: Entry) -> None:
        known = self._members.get(status.node)
        stopped = status.state is DaemonState.STOPPED
        age = max(0.0, (self._clock.now() - entry.time).total_seconds())
        self._members[status.node] = _Member(status.started_at, time.monotonic() - age, stopped)
        if known is None or known.stopped != stopped or known.started_at != status.started_at:
            self.on_member()

    def _take_node(self, status: NodeStatus) -> None:
        for line in status.models:
            if line.kind != Kind.MODEL.value:
                continue
            versions = frozenset(version for version in (line.current, line.canary) if version)
            self._serving[status.node, line.model] = Serving(versions, line.generation)

    async def read_facts(self) -> None:
        """Read what is said of versions that are asked about, until cancelled."""
        while True:
            model, version = await self._asked.get()
            try:
                entry = await self._bus.last(REGISTRY, entry_subject(model, version))
            except BusError as away:
                log.info("facts.waiting", model=model, version=version, reason=str(away))
                self._facts.pop((model, version), None)
                continue
            if entry is not None:
                self._learn(entry)

    async def watch_facts(self) -> None:
        """Follow what is newly said of versions until cancelled."""
        last = await self._bus.last_sequence(REGISTRY)
        async for entry in self._bus.tail(REGISTRY, (_ENTRIES,), start_sequence=last + 1, follow=True):
            self._learn(entry)

    def _learn(self, entry: Entry) -> None:
        try:
            state = EntryState.model_validate_json(entry.data)
        except ValidationError:
            log.warning("record.unreadable", subject=entry.subject)
            return
        key = (state.model, state.version)
        # What nobody asked about stays unread: a registry holds a hundred times what is served.
        if key in self._facts and self._facts[key] != state.facts:
            self._facts[key] = state.facts
            self.on_facts(state.model, state.version, state.facts)
