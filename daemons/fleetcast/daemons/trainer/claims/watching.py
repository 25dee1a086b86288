"""All runs that have not ended, and all nodes that could take one, followed as they change."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from fleetcast.bus import Bus, Entry, InSync
from fleetcast.bus.streams import NODES_BUCKET, TRAINING
from fleetcast.daemons.trainer.claims.eligibility import NodeFacts, facts_of
from fleetcast.daemons.trainer.ledger import read
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import NodeStatus
from fleetcast.events.training import (
    TRAINING_ENDED,
    TRAINING_OWNED,
    TrainingPhase,
    TrainingRunState,
    training_subject,
)
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

TRAINER, DISTRIBUTOR = "trainer", "distributor"
ENDED_KEPT = 10
"""Runs of a lane that have ended and are remembered: how often its nodes fail is known from them."""


class RunWatch:
    """The newest record of every run that has not ended.

    Attributes:
        known: set once all runs have been read.
    """

    def __init__(self, bus: Bus) -> None:
        self.known = asyncio.Event()
        self._bus = bus
        self._runs: dict[str, TrainingRunState] = {}
        self._ended: dict[str, deque[TrainingRunState]] = {}
        self._newest: dict[str, int] = {}
        self._listeners: list[Callable[[TrainingRunState], None]] = []
        self._wakers: list[asyncio.Event] = []

    def listen(self, listener: Callable[[TrainingRunState], None]) -> None:
        """Call *listener* (synchronous, quick) with every record that changes, ends included."""
        self._listeners.append(listener)

    def waker(self) -> asyncio.Event:
        """An event that is set with every change."""
        event = asyncio.Event()
        self._wakers.append(event)
        return event

    def get(self, run: str) -> TrainingRunState | None:
        """A run that has not ended."""
        return self._runs.get(run)

    @property
    def queued(self) -> list[TrainingRunState]:
        """Those that wait for a node: greater priority first, then the older."""
        found = [run for run in self._runs.values() if run.phase is TrainingPhase.QUEUED]
        return sorted(found, key=lambda run: (-run.priority, run.created_at, run.run))

    def of_lane(self, lane: str) -> tuple[TrainingRunState, ...]:
        """A lane's runs that have not ended, and the newest that have since this began."""
        open_ = [run for run in self._runs.values() if run.lane == lane]
        return (*open_, *self._ended.get(lane, ()))

    @property
    def owned(self) -> list[TrainingRunState]:
        """Those that a node has."""
        return [run for run in self._runs.values() if run.phase in TRAINING_OWNED]

    async def run(self) -> None:
        """Follow until cancelled."""
        async for entry in self._bus.watch(TRAINING, (training_subject("*"),)):
            if isinstance(entry, InSync):
                self.known.set()
                self._wake()
                continue
            try:
                self.take(read(TrainingRunState, entry))
            except RecordDamaged as damaged:
                log.warning("record.unreadable", subject=entry.subject, reason=str(damaged))

    def take(self, run: TrainingRunState) -> None:
        """Note a record; an older one than is known changes nothing."""
        there = self._runs.get(run.run)
        if max(there.n if there is not None else -1, self._newest.get(run.run, -1)) >= run.n:
            return
        if run.phase in TRAINING_ENDED:
            self._runs.pop(run.run, None)
            self._newest[run.run] = run.n
            others = (each for each in self._ended.get(run.lane, ()) if each.run != run.run)
            self._ended[run.lane] = deque((*others, run), maxlen=ENDED_KEPT)
        else:
            self._runs[run.run] = run
        for listener in self._listeners:
            listener(run)
        self._wake()

    def _wake(self) -> None:
        for event in self._wakers:
            event.set()


@dataclass(frozen=True, slots=True)
class _Heard:
    status: NodeStatus
    at: float


class NodeWatch:
    """The newest heartbeats of trainers and distributors. When they were heard is counted by the monotonic clock: no
    clock on a wall, here or there, makes a node look gone.

    Attributes:
        known: set once all heartbeats that there are have been read.
    """

    def __init__(
        self, bus: Bus, *, silent_after_seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.known = asyncio.Event()
        self.changed = asyncio.Event()
        self._bus = bus
        self._silent_after_seconds = silent_after_seconds
        self._monotonic = monotonic
        self._heard: dict[tuple[str, str], _Heard] = {}
        self._began = monotonic()

    def status(self, node: str, daemon: str = TRAINER) -> NodeStatus | None:
        """What a daemon said last; None: nothing within a day."""
        found = self._heard.get((node, daemon))
        return found.status if found is not None else None

    def is_silent(self, node: str, daemon: str = TRAINER) -> bool:
        """Whether a daemon should have been heard from by now, or said that it stopped. Who was never heard of has as
        long from our own start."""
        found = self._heard.get((node, daemon))
        if found is not None and found.status.state is DaemonState.STOPPED:
            return True
        since = found.at if found is not None else self._began
        return self._monotonic() - since > self._silent_after_seconds

    def facts(self, node: str) -> NodeFacts | None:
        """A node as far as runs are concerned; None: neither of its daemons was heard of."""
        trainer, distributor = self.status(node, TRAINER), self.status(node, DISTRIBUTOR)
        if trainer is None and distributor is None:
            return None
        return facts_of(trainer, distributor, silent=self._silent(node))

    @property
    def all_facts(self) -> list[NodeFacts]:
        """All nodes that were heard of, by name."""
        nodes = sorted({node for node, _ in self._heard})
        return [facts for node in nodes if (facts := self.facts(node)) is not None]

    def is_held(self, line: str, version: str, *, beside: str) -> bool:
        """Whether a node other than *beside*, which stays, has installed a version of a model or lane."""
        others = {node for node, _ in self._heard if node != beside and not self.is_silent(node, DISTRIBUTOR)}
        facts = [self.facts(node) for node in others]
        staying = [self.status(each.node, DISTRIBUTOR) for each in facts if each and not each.reclaim_deadline]
        return any(
            held.model == line and version in {each.version for each in held.installed}
            for status in staying
            for held in (status.models if status is not None else ())
        )

    def lanes(self) -> dict[str, dict[str, str]]:
        """The lanes of the trainers that run, as digests, by node."""
        trainers = {node: heard.status for (node, daemon), heard in self._heard.items() if daemon == TRAINER}
        return {node: status.lanes for node, status in trainers.items() if not self.is_silent(node)}

    async def run(self) -> None:
        """Follow until cancelled."""
        subjects = tuple(f"$KV.{NODES_BUCKET}.*.{daemon}" for daemon in (TRAINER, DISTRIBUTOR))
        stored: list[Entry] | None = []
        async for entry in self._bus.watch(f"KV_{NODES_BUCKET}", subjects):
            if isinstance(entry, InSync):
                self._take_stored(stored or [])
                stored = None
                self.known.set()
            elif stored is not None:
                stored.append(entry)
            else:
                self._take(entry, 0.0)
            self.changed.set()

    def _silent(self, node: str) -> Collection[str]:
        return [daemon for daemon in (TRAINER, DISTRIBUTOR) if self.is_silent(node, daemon)]

    def _take_stored(self, entries: list[Entry]) -> None:
        """Heartbeats from before: as old as they are beside the newest of them, by the server's clock."""
        newest = max((entry.time for entry in entries), default=None)
        for entry in entries:
            assert newest is not None
            self._take(entry, (newest - entry.time).total_seconds())

    def _take(self, entry: Entry, age_seconds: float) -> None:
        if not entry.data:
            return
        try:
            status = NodeStatus.model_validate_json(entry.data)
        except ValidationError:
            log.warning("heartbeat.unreadable", subject=entry.subject)
            return
        key = (status.node, status.daemon)
        known = self._heard.get(key)
        # A watch that begins anew delivers again what it had delivered: that is nobody's sign of life.
        if known is None or known.status != status:
            self._heard[key] = _Heard(status, self._monotonic() - age_seconds)
