"""Removal: takes away what nothing pins, or says what that would be, and why the rest stays."""

import asyncio
import time
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from fleetcast.bus import ServiceError
from fleetcast.daemons.distributor.neighbours import Neighbours
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.report import CollectionReport, CollectionRequest, KeptVersion, RemovedVersion
from fleetcast.daemons.distributor.shelf import Shelf
from fleetcast.events.payloads import VersionRemoved
from fleetcast.transport.store import Collected, Judgement

log = structlog.get_logger("fleetcast.distributor.removal")


class Remover:
    """Answers `fc.svc.distributor.gc`."""

    def __init__(self, parts: Parts, neighbours: Neighbours, shelf: Shelf) -> None:
        self._parts = parts
        self._neighbours = neighbours
        self._shelf = shelf
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, body: bytes) -> bytes:
        """Handle a request of the service.

        Raises:
            ServiceError: the request is not one.
        """
        try:
            request = CollectionRequest.model_validate_json(body or b"{}")
        except ValidationError as invalid:
            raise ServiceError(400, f"not a gc request: {invalid.errors()[0]['msg']}") from invalid
        if request.nodes is not None and self._parts.node not in request.nodes:
            return CollectionReport(node=self._parts.node).model_dump_json().encode()
        async with self._one_at_a_time:
            report = await self.remove(request)
        return report.model_dump_json().encode()

    async def remove(self, request: CollectionRequest) -> CollectionReport:
        """Remove what nothing pins; with `dry_run` only say what it is."""
        began, parts = time.monotonic(), self._parts
        pins = parts.pins
        judged = await asyncio.to_thread(parts.store.judge, pins)
        if request.dry_run:
            collected = await asyncio.to_thread(parts.store.foresee, pins)
        else:
            collected = await asyncio.to_thread(parts.store.collect, pins)
            await self._forget(collected, judged, ": ".join(filter(None, (request.actor, request.reason))) or None)
        gone = set(collected.versions)
        return CollectionReport(
            node=parts.node,
            dry_run=request.dry_run,
            removed=tuple(_removed(j) for j in judged if (j.line, j.version.version) in gone),
            kept=tuple(self._kept(j) for j in judged if (j.line, j.version.version) not in gone),
            files=collected.blobs,
            bytes=collected.bytes,
            free_bytes=await asyncio.to_thread(parts.store.free_bytes),
            seconds=round(time.monotonic() - began, 3),
        )

    async def make_room(self, free_bytes: int, reason: str) -> None:
        """Remove what nothing pins, the oldest first, until so much is free or nothing more may go."""
        async with self._one_at_a_time:
            pins, store = self._parts.pins, self._parts.store
            judged = await asyncio.to_thread(store.judge, pins)
            collected = await asyncio.to_thread(store.collect, pins, until_free_bytes=free_bytes)
            await self._forget(collected, judged, reason)

    async def retire(self, folder: str, reason: str) -> None:
        """Remove a version whose bytes the archive of this node keeps in *folder*.

        Raises:
            StoreError: it does not, or something here still needs the version.
        """
        async with self._one_at_a_time:
            pins, store = self._parts.pins, self._parts.store
            judged = await asyncio.to_thread(store.judge, pins)
            collected = await asyncio.to_thread(store.retire, folder, pins)
            await self._forget(collected, judged, reason)

    async def _forget(self, collected: Collected, judged: list[Judgement], reason: str | None) -> None:
        """Let the swarm, the shelf and the log know what is gone."""
        for artifact in collected.artifacts:
            await self._parts.bittorrent.unseed(artifact)
            await self._neighbours.leave(artifact)
        await self._shelf.refresh()
        for judgement in judged:
            if (judgement.line, judgement.version.version) in collected.versions:
                self._say(judgement, reason)
        log.info("store.collected", versions=len(collected.versions), bytes=collected.bytes, reason=reason)

    def _say(self, gone: Judgement, reason: str | None) -> None:
        fact = VersionRemoved(
            model=gone.line.name,
            version=gone.version.version,
            artifact=gone.version.artifact,
            node=self._parts.node,
            bytes=gone.version.bytes,
            reason=reason,
        )
        self._parts.say_first(fact)

    def _kept(self, judgement: Judgement) -> KeptVersion:
        line, version = judgement.line, judgement.version
        ordered = self._parts.distributions.reason((line.kind, line.name), version.version, datetime.now(UTC))
        fetched = version.artifact in {t.artifact for t in self._parts.board.active}
        other = ordered or ("being fetched" if fetched else None)
        named = [reason for reason in judgement.reasons if reason != "pinned"]
        # Orders pin what the pointers show as well: that has a better word already.
        pinned = [other or "named by a slot order"] if "pinned" in judgement.reasons and (other or not named) else []
        return KeptVersion(
            kind=line.kind,
            model=line.name,
            version=version.version,
            bytes=version.bytes,
            why=(*named, *pinned),
        )


def _removed(judgement: Judgement) -> RemovedVersion:
    line, version = judgement.line, judgement.version
    return RemovedVersion(kind=line.kind, model=line.name, version=version.version, bytes=version.bytes)
