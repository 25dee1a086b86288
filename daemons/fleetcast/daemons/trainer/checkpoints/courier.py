"""Brings checkpoints from node to node, by the way on which files are distributed: the node that holds one packs it and
asks for its distribution to the nodes that are named, which verify it as everything else.

A copy is kept for a while only; what a newer checkpoint made needless is given back before that.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.bus.streams import REGISTRY
from fleetcast.daemons.trainer.checkpoints import parcel as parcels
from fleetcast.daemons.trainer.checkpoints import places
from fleetcast.daemons.trainer.checkpoints.parcel import Parcel, ParcelRefused
from fleetcast.events.content import Kind
from fleetcast.events.envelope import new_event
from fleetcast.events.payloads import DistributionRequested
from fleetcast.events.state import Cause, DistributionState, distribution_subject
from fleetcast.events.training import CheckpointRecord
from fleetcast.registry import OriginRegistry
from fleetcast.registry.book import read
from fleetcast.registry.commands import stamp
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer.checkpoints")

KEPT: Final = timedelta(days=7)
"""How long a copy on another node is kept when nobody gives it back: longer than a weekend."""
PARCEL_SECONDS: Final = 3600.0
"""After this time a parcel that nobody took is deleted; taking one takes seconds."""
TAKEN_SECONDS: Final = 60.0
"""After this time one that the store has a link to is: its distributor has long done with it."""
ASK_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.2
ASK_AGAIN_SECONDS: Final = 60.0


class NotBrought(Exception):
    """A checkpoint that no node could bring here."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A distribution that was asked for; `sequence`: of the request in FC_EVENTS."""

    parcel: Parcel
    event: str
    sequence: int


def bring_subject(node: str) -> str:
    """Where a node's trainer is asked to bring a checkpoint to others."""
    return f"fc.svc.trainer.{node}.checkpoints"


class Courier:
    """One node's sending and fetching."""

    def __init__(self, bus: Bus, data: Path, *, node: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self._bus = bus
        self._data = data
        self._node = node
        self._now = now
        self._source = f"/fleet/{node}/trainer"
        self._packing = asyncio.Lock()

    async def send(self, run: str, checkpoint: Path, to: list[str], *, reason: str, packed_as: bool = False) -> Sent:
        """Pack *checkpoint*, which lies here, and ask for its distribution *to* nodes, besides those that have it.

        Args:
            packed_as: whether it is a parcel already, which came from another node.

        Raises:
            ParcelRefused: it changed meanwhile.
            OSError: it cannot be read, or there is no space.
            TransportFailed: the bus does not take the request.
        """
        folder = places.parcels_folder(self._data)
        async with self._packing:  # one at a time: each takes the disk for itself
            await asyncio.to_thread(_sweep, folder)
            work = parcels.copied if packed_as else parcels.pack
            packed = await asyncio.to_thread(work, checkpoint, folder)
        others = await self.addressed(run, packed.version)
        request = DistributionRequested(
            model=places.line_of(run),
            kind="dataset",
            version=packed.version,
            path=str(packed.path),
            node=self._node,
            to=tuple(dict.fromkeys((*others, *to))),
            until=stamp(self._now() + KEPT),
            metadata={"reason": reason, "run": run},
        )
        event = new_event(request, source=self._source)
        receipt = await self._bus.publish(event)
        log.info("checkpoint.sent", run=run, path=str(checkpoint), to=to, version=packed.version, bytes=packed.size)
        return Sent(packed, event.id, receipt.sequence)

    async def taken(self, version: str) -> None:
        """The distributor has taken a parcel into its store: the name here is not needed any more."""
        path = places.parcels_folder(self._data) / f"{version}{parcels.SUFFIX}"
        await asyncio.to_thread(path.unlink, missing_ok=True)

    async def fetch(self, run: str, record: CheckpointRecord, *, timeout_seconds: float) -> tuple[Path, str]:
        """A checkpoint that another node holds, unpacked here, and its version.

        Raises:
            NotBrought: nobody could bring it in time; says why.
            OSError: there is no space.
        """
        deadline = time.monotonic() + timeout_seconds
        version, why, asked_at = record.version, "nobody was asked", float("-inf")
        while True:
            here = await asyncio.to_thread(self.arrived, run, version) if version is not None else None
            if here is not None:
                return await self._unpack(run, here), here.parent.name
            if time.monotonic() >= asked_at + ASK_AGAIN_SECONDS:
                asked_at = time.monotonic()
                told, why = await self._ask(run, record)
                version = told or version
                if told is None:
                    raise NotBrought(f"checkpoint {record.path} of {record.node}: {why}")
            if time.monotonic() >= deadline:
                raise NotBrought(f"checkpoint {record.path} of {record.node} did not come in {timeout_seconds:g} s")
            await asyncio.sleep(LOOK_SECONDS)

    def arrived(self, run: str, version: str) -> Path | None:
        """The parcel of a run, where it is installed on this node."""
        path = places.arrival(self._data, run, version)
        return path if path.exists() else None

    async def unpacked(self, run: str, version: str) -> Path | None:
        """A checkpoint that has come here already, unpacked; None: it has not, or is no parcel."""
        here = await asyncio.to_thread(self.arrived, run, version)
        if here is None:
            return None
        with contextlib.suppress(NotBrought):
            return await self._unpack(run, here)
        return None

    async def _unpack(self, run: str, here: Path) -> Path:
        try:
            return await asyncio.to_thread(parcels.unpack, here, places.brought_folder(self._data, run))
        except ParcelRefused as damaged:
            raise NotBrought(str(damaged)) from damaged

    async def _ask(self, run: str, record: CheckpointRecord) -> tuple[str | None, str]:
        """Ask every node that holds it, until one says that it brings it: the version, or why there is none."""
        problems = []
        for node in dict.fromkeys((record.node, *record.nodes)):
            if node == self._node:
                continue
            body = {"do": "bring", "run": run, "path": record.path, "version": record.version, "to": self._node}
            try:
                said = json.loads(
                    await self._bus.request(bring_subject(node), json.dumps(body).encode(), timeout_seconds=ASK_SECONDS)
                )
            except (NoResponder, BusTimeout, ConnectionLost, ServiceFailed, ValueError) as silent:
                problems.append(f"{node}: {silent or type(silent).__name__}")
                continue
            if said.get("version"):
                return str(said["version"]), ""
            problems.append(f"{node}: {said.get('message')}")
        return None, "; ".join(problems) or "no other node holds it"

    async def addressed(self, run: str, version: str) -> tuple[str, ...]:
        """The nodes that a version of a run was ordered to."""
        order = await self.order(run, version)
        return order.to if order is not None else ()

    async def give_back(self, run: str, version: str, cause: Cause) -> None:
        """Let nodes delete their copies of a version; nothing happens where they may already.

        Raises:
            TransportFailed: the bus does not answer.
        """
        order = await self.order(run, version)
        if order is None or (order.until is not None and datetime.fromisoformat(order.until) <= self._now()):
            return
        over = order.model_copy(update={"until": stamp(self._now()), "cause": cause, "at": stamp(self._now())})
        await OriginRegistry(self._bus).order_distribution(
            over, request=f"give-back/{run}/{version}", actor=self._source
        )
        log.debug("checkpoint.given_back", run=run, version=version, nodes=list(order.to))

    async def order(self, run: str, version: str) -> DistributionState | None:
        """Where a version was ordered to; None: nowhere.

        Raises:
            TransportFailed: the bus does not answer.
        """
        subject = distribution_subject(places.line_of(run), version, Kind.DATASET)
        try:
            entry = await self._bus.last(REGISTRY, subject)
            return None if entry is None else read(DistributionState, entry)
        except RecordDamaged as damaged:
            log.warning("record.unreadable", subject=subject, reason=str(damaged))
            return None


def _sweep(folder: Path) -> None:
    """Delete parcels that the store has, or that nobody took."""
    now = time.time()
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                if now - found.st_ctime > (TAKEN_SECONDS if found.st_nlink > 1 else PARCEL_SECONDS):
                    path.unlink()
