"""Seeding: finished nodes keep serving until the fleet is complete, rest then, and come back for whoever joins late."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from fleetcast.daemons.distributor.neighbours import Neighbours
from fleetcast.daemons.distributor.orders import SlotOrders
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.reconcile import Reconciler
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import NodeStatus
from fleetcast.registry.fleet import wanting
from fleetcast.transport.errors import TransportError

log = structlog.get_logger("fleetcast.distributor.seeding")

COPIES = 2
"""Other complete copies without which nobody rests: one may be lost, and one is still there."""
LOOK_SECONDS = 5.0
"""Distance of looks at whether to rest; a joiner is noticed at once."""


@dataclass(frozen=True, slots=True)
class Need:
    """Who needs this node to seed one artifact that it holds.

    Attributes:
        in_slots: a slot names it.
        wanted_by: other nodes that shall have it, or are fetching it.
        held_by: other nodes that hold all of it.
        settled_seconds: for how long nobody has lacked it.
        leaving: this node's machine is about to be taken away.
    """

    in_slots: bool
    wanted_by: frozenset[str]
    held_by: frozenset[str]
    settled_seconds: float
    leaving: bool = False

    @property
    def lacking(self) -> frozenset[str]:
        return self.wanted_by - self.held_by


def reason_to_seed(need: Need, seed_seconds: float) -> str | None:
    """Why this node goes on seeding, in words; None: it may rest."""
    if need.leaving:
        # Its uplink is for what would be gone with it: the checkpoint that was saved a moment ago.
        return None if need.held_by else "no other node holds it, and this one is taken away"
    if need.in_slots:
        return "a slot names it"
    if need.lacking:
        return f"{', '.join(sorted(need.lacking))} still to be served"
    if len(need.held_by) < COPIES:
        return f"{len(need.held_by)} other complete copies are known, fewer than {COPIES}"
    if need.settled_seconds < seed_seconds:
        return f"complete for {need.settled_seconds:.0f} s of the {seed_seconds:.0f} s that late nodes are waited for"
    return None


def holders(statuses: Iterable[NodeStatus], artifact: str) -> frozenset[str]:
    """Nodes that report the artifact as installed and have not stopped."""
    return frozenset(
        s.node
        for s in statuses
        if s.state is not DaemonState.STOPPED and any(v.artifact == artifact for m in s.models for v in m.installed)
    )


def fetchers(statuses: Iterable[NodeStatus], artifact: str) -> frozenset[str]:
    """Nodes that report a transfer of the artifact under way."""
    return frozenset(s.node for s in statuses for t in s.transfers if t.artifact == artifact and t.state == "fetching")


class Seeding:
    """Owner of which artifacts rest."""

    def __init__(self, parts: Parts, neighbours: Neighbours, reconciler: Reconciler, orders: SlotOrders) -> None:
        self._parts = parts
        self._neighbours = neighbours
        self._reconciler = reconciler
        self._orders = orders
        self._resting: set[str] = set()
        self._joined: dict[str, set[str]] = {}
        self._lacked_at: dict[str, float] = {}
        self._wake = asyncio.Event()
        self.leaving: Callable[[], bool] = lambda: False
        """Whether this node's machine is about to be taken away."""

    def look_soon(self) -> None:
        """Decide again now."""
        self._wake.set()

    def joined(self, artifact: str, node: str) -> None:
        """Somebody began to fetch an artifact; if it rests here, it is seeded again at once."""
        if artifact in self._resting:
            self._joined.setdefault(artifact, set()).add(node)
            self._wake.set()

    async def run(self) -> None:
        """Rest and return until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self.look()

    async def look(self) -> None:
        """Decide once for every artifact that is seeded, or rests."""
        seeded = {t.artifact for t in self._parts.bittorrent.stats().torrents if t.state == "seeding"}
        self._resting -= seeded
        for artifact in seeded | self._resting:
            reason = reason_to_seed(self._need(artifact), self._parts.settings.bittorrent.seed_seconds)
            if reason is None and artifact in seeded:
                await self._rest(artifact)
            elif reason is not None and artifact in self._resting:
                await self._return(artifact, reason)

    def _need(self, artifact: str) -> Need:
        me, now = {self._parts.node}, time.monotonic()
        statuses = self._neighbours.statuses
        named = self._reconciler.lines_naming(artifact)
        held = holders(statuses, artifact) - me
        wanted = frozenset(node for line in named for node in wanting(statuses, *line))
        joined = self._joined.pop(artifact, set())
        need = Need(
            in_slots=self._orders.names(artifact),
            wanted_by=(wanted | fetchers(statuses, artifact) | joined) - me,
            held_by=held - joined,
            settled_seconds=now - self._lacked_at.setdefault(artifact, now),
            leaving=self.leaving(),
        )
        if need.lacking:
            self._lacked_at[artifact] = now
        return need

    async def _rest(self, artifact: str) -> None:
        log.info("seeding.rests", artifact=artifact, holders=len(holders(self._neighbours.statuses, artifact)))
        self._resting.add(artifact)
        await self._parts.bittorrent.unseed(artifact)

    async def _return(self, artifact: str, reason: str) -> None:
        store = self._parts.store
        self._resting.discard(artifact)
        try:
            record = await asyncio.to_thread(store.read_record, artifact)
            folder = await asyncio.to_thread(store.link_swarm, record.content)
            await self._parts.bittorrent.seed(artifact, record.content, record.metainfo, folder)
        except TransportError as gone:
            log.info("seeding.not_resumed", artifact=artifact, reason=str(gone))
            return
        await self._neighbours.announce(artifact, complete=True)
        log.info("seeding.resumed", artifact=artifact, reason=reason)
