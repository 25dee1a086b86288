"""One acquisition: the steps from an offer to an installed version, each of which may be repeated after a crash."""

import asyncio
import base64
import binascii
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import structlog

from fleetcast.bus import tracing
from fleetcast.daemons.distributor.climbing import Climber
from fleetcast.daemons.distributor.contents import get_object
from fleetcast.daemons.distributor.neighbours import Neighbours
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.progress import TransferProgress
from fleetcast.daemons.distributor.proofs import Proof, prove
from fleetcast.daemons.distributor.room import RoomKeeper
from fleetcast.daemons.distributor.rules import Offer
from fleetcast.daemons.distributor.shelf import Shelf
from fleetcast.events.content import Content, Kind
from fleetcast.events.ids import new_ulid
from fleetcast.events.payloads import (
    Checks,
    IntegrityFailed,
    TransferFact,
    TransferFailed,
    TransferStarted,
    TransferVerified,
    VersionInstalled,
)
from fleetcast.events.wants import wants
from fleetcast.transport import metainfo as torrent
from fleetcast.transport.errors import BadData, FormatRefused, MetainfoRefused, VerificationFailed
from fleetcast.transport.ladder import Ladder
from fleetcast.transport.pieces import PieceVerifier
from fleetcast.transport.protocol import FetchRequest

log = structlog.get_logger("fleetcast.distributor.acquire")

BY_PIECES_ROOT = "by pieces root"

_Fact = TypeVar("_Fact", bound=TransferFact)


class Acquisition:
    """Brings offers onto this node."""

    def __init__(self, parts: Parts, neighbours: Neighbours, shelf: Shelf, room: RoomKeeper) -> None:
        self._parts = parts
        self._room = room
        self._neighbours = neighbours
        self._shelf = shelf
        self._later: set[asyncio.Task[None]] = set()

    async def acquire(self, offer: Offer) -> None:
        """Fetch, prove and install one offer.

        Raises:
            BadData: what arrived is not what was promised, or cannot be loaded, or its manifest does not count here.
            TransferError: the sources failed; worth another try.
            StoreError: this node failed (no space, I/O); worth another try.
            BusUnavailable: large metainfo, or the registry's word on the version, could not be read.
        """
        self._check_manifest(offer)
        if await self._is_held(offer):
            verdict = (await self.prove_stored(offer.content)).verdict
            await self._confirm_version(offer)
            await self.ensure_record(offer)
            await self.install(
                offer, transport="local", seconds=0.0, checks=_checks("ok", verdict), transfer=new_ulid()
            )
            await self.seed(offer)
            return
        progress = TransferProgress(self._parts, offer, self._parts.bittorrent.name)
        try:
            await self._bring(offer, progress)
        except asyncio.CancelledError:
            progress.end("stopped", "not wanted any more, or the daemon ended")
            raise
        except Exception as fault:
            self._say_failed(offer, progress, fault)
            raise
        progress.end("installed")
        self._confirm_later(offer, progress.transfer)

    async def _is_held(self, offer: Offer) -> bool:
        """Whether the right bytes are in the store already; what is there and wrong is taken away."""
        store = self._parts.store
        if not await asyncio.to_thread(store.has, offer.content):
            return False
        loop = asyncio.get_running_loop()
        wrong = await loop.run_in_executor(self._parts.hashing, store.verify, offer.content)
        if wrong:
            log.error("integrity.failed", version=offer.version, files=[m.path for m in wrong])
            await asyncio.to_thread(store.withdraw, offer.content, [m.path for m in wrong])
        return not wrong

    async def _bring(self, offer: Offer, progress: TransferProgress) -> None:
        with await self._room.reserve(offer.content):
            verdict = await self._fetch(offer, progress)
        await asyncio.to_thread(self._parts.store.admit, offer.content)
        progress.lap("store")
        await self._confirm_version(offer)
        await self.ensure_record(offer)
        self._parts.say_of(offer, _fact(TransferVerified, offer, progress), discriminator=progress.transfer)
        await self.install(
            offer,
            transport=progress.used,
            seconds=progress.seconds,
            checks=_checks(BY_PIECES_ROOT, verdict),
            transfer=progress.transfer,
            laps=progress.laps,
        )
        await self.seed(offer)

    async def _fetch(self, offer: Offer, progress: TransferProgress) -> str:
        """Bring the bytes into the swarm folder, proven by size, pieces and format; returns the format's verdict."""
        parts, content = self._parts, offer.content
        blob = await self.metainfo(offer)
        folder = parts.store.swarm_folder(offer.artifact)
        progress.open(PieceVerifier(torrent.read(blob, content), content, folder))
        self._neighbours.note_origin(offer.artifact, offer.origin)
        climber = Climber(parts, self._neighbours, offer, progress)
        self._say_started(offer, progress, climber.plan())
        request = FetchRequest(
            transfer=progress.transfer,
            artifact=offer.artifact,
            content=content,
            metainfo=blob,
            folder=folder,
        )
        # The notice must not delay the first byte. Not a TaskGroup: it would wrap what the transport raises.
        joining = asyncio.create_task(self._neighbours.announce(offer.artifact, complete=False), name="join swarm")
        try:
            await climber.climb(request)
        finally:
            await joining
        progress.lap("fetch")
        progress.enter("verifying")
        await progress.prove_rest()
        progress.lap("prove")
        files = {f.path: folder / offer.artifact[:16] / f.path for f in content.files}
        try:
            verdict = (await self.prove_format(content, files)).verdict
        except FormatRefused as refused:
            await self._set_aside(offer, files.values(), str(refused))
            raise
        progress.lap("format")
        return verdict

    async def _set_aside(self, offer: Offer, paths: Iterable[Path], reason: str) -> None:
        """Take bytes that do not load out of the swarm, and keep them for whoever asks why."""
        await self._parts.bittorrent.unseed(offer.artifact)
        await self._neighbours.leave(offer.artifact)
        for path in paths:
            await asyncio.to_thread(self._parts.store.quarantine, path, reason, source=offer.origin.node)

    async def prove_format(self, content: Content, paths: Mapping[str, Path], *, whole: bool = False) -> Proof:
        """Run the format test on every file.

        *whole*: also read every member of an archive and compare its CRC. Receivers need not: their bytes are proven by
        digest; but a producer's file may have been damaged before it had one.

        Raises:
            FormatRefused: a file does not load.
        """
        settings = self._parts.settings
        return await prove(content, paths, settings.verify, whole=whole, nice=settings.limits.nice)

    async def prove_stored(self, content: Content, *, whole: bool = False) -> Proof:
        """Run the format test on content that is in the store (see `prove_format`)."""
        store = self._parts.store
        if content.kind is Kind.BUNDLE:
            # A model finds its weights beside it by name, and blobs have none.
            await asyncio.to_thread(store.link_swarm, content)
            return await self.prove_format(content, store.parts(content), whole=whole)
        return await self.prove_format(content, {f.path: store.blob(f.sha256) for f in content.files}, whole=whole)

    async def keep_own(self, offer: Offer, verdict: str, *, install: bool = True) -> None:
        """Seed what this node itself offers, and with *install* install it when this node wants it."""
        await self.ensure_record(offer)
        await self.seed(offer)
        if install and wants(self._parts.wants, offer.kind, offer.name):
            checks = _checks("ok", verdict)
            await self.install(offer, transport="origin", seconds=0.0, checks=checks, transfer="origin")

    async def metainfo(self, offer: Offer) -> bytes:
        """The torrent of an offer: from the offer itself, or from the object bucket.

        Raises:
            MetainfoRefused: it is not what the offer names.
            BusUnavailable: the bucket cannot be read.
        """
        if offer.metainfo_b64 is not None:
            try:
                return base64.b64decode(offer.metainfo_b64, validate=True)
            except binascii.Error as broken:
                raise MetainfoRefused(f"metainfo is not base 64: {broken}") from broken
        if offer.metainfo_ref is None:
            raise MetainfoRefused("the offer carries no metainfo")
        return await get_object(self._parts.bus, offer.metainfo_ref)

    async def ensure_record(self, offer: Offer) -> None:
        """Keep beside the bytes what a restart needs to seed them again."""
        blob = await self.metainfo(offer)
        await asyncio.to_thread(self._parts.store.write_record, offer.content, blob, offer.envelope)

    async def seed(self, offer: Offer) -> None:
        """Offer verified content of this node to the swarm."""
        parts = self._parts
        parts.offered.add((offer.kind, offer.name))
        folder = await asyncio.to_thread(parts.store.link_swarm, offer.content)
        await parts.bittorrent.seed(offer.artifact, offer.content, await self.metainfo(offer), folder)
        await self._neighbours.announce(offer.artifact, complete=True)

    def _check_manifest(self, offer: Offer) -> None:
        """Refuse what nobody who may has signed. A version that was here before is only repaired: its time limit is for
        the first installation."""
        known = self._shelf.holds((offer.kind, offer.name), offer.version, offer.artifact)
        self._parts.keyring.check(offer, first=not known)

    async def _confirm_version(self, offer: Offer) -> None:
        """Ask the registry whether the offer is what the version was reserved for: events may be forged."""
        # Again: what signed it may have been revoked while its bytes came.
        self._check_manifest(offer)
        state = await self._parts.registry.version(offer.name, offer.version, offer.kind)
        if state is None or state.artifact != offer.artifact:
            known = "unknown to the registry" if state is None else f"reserved for artifact {state.artifact}"
            raise MetainfoRefused(f"{offer.name}@{offer.version} is {known}; this offer was not installed")

    async def install(
        self,
        offer: Offer,
        *,
        transport: str,
        seconds: float,
        checks: Checks,
        transfer: str,
        laps: Mapping[str, float] | None = None,
    ) -> None:
        """Make verified content visible at its version path, and say so; *laps*: seconds of the steps before."""
        parts = self._parts
        with tracing.span(
            "install",
            transport=transport,
            model=offer.name,
            version=offer.version,
            node=parts.node,
            cid=offer.correlation,
        ):
            record = await asyncio.to_thread(
                parts.store.install,
                offer.content,
                offer.name,
                offer.version,
                checks,
                transport,
                round(seconds, 3),
                offer.envelope,
            )
            await self._shelf.refresh((offer.kind, offer.name))
        folder = parts.store.version_folder(offer.kind, offer.name, offer.version)
        log.info(
            "version.installed",
            version=offer.version,
            artifact=offer.artifact,
            bytes=record.bytes,
            transport=transport,
            seconds=round(seconds, 3),
            checks=checks.model_dump(),
            steps=dict(laps or {}),
            path=str(folder),
        )
        payload = VersionInstalled(
            model=offer.name,
            version=offer.version,
            artifact=offer.artifact,
            node=parts.node,
            checks=checks,
            bytes=record.bytes,
            transport=transport,
            seconds=round(seconds, 3),
            path=str(folder),
        )
        parts.say_of(offer, payload, discriminator=transfer)

    def _say_started(self, offer: Offer, progress: TransferProgress, ladder: Ladder) -> None:
        log.info("transfer.started", version=offer.version, artifact=offer.artifact, bytes=offer.content.size)
        self._parts.say_of(
            offer, _fact(TransferStarted, offer, progress, reason=ladder.choice), discriminator=progress.transfer
        )

    def _say_failed(self, offer: Offer, progress: TransferProgress, fault: Exception) -> None:
        reason = str(fault) or type(fault).__name__
        progress.end("failed", reason)
        log.warning("transfer.failed", version=offer.version, artifact=offer.artifact, reason=reason)
        # Bytes that differ may be right next time; what does not load, or is not what was promised, never will be.
        final = isinstance(fault, BadData) and not isinstance(fault, VerificationFailed)
        fact = _fact(TransferFailed, offer, progress, reason=reason).model_copy(update={"final": final})
        self._parts.say_of(offer, fact, discriminator=progress.transfer)

    def _confirm_later(self, offer: Offer, transfer: str) -> None:
        task = asyncio.create_task(self._confirm(offer, transfer), name=f"confirm:{offer.artifact[:16]}")
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _confirm(self, offer: Offer, transfer: str) -> None:
        """Flat SHA-256 of what a swarm brought, at low priority; a mismatch is an incident."""
        parts = self._parts
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        wrong = await loop.run_in_executor(parts.idle, parts.store.verify, offer.content)
        if not wrong:
            await asyncio.to_thread(parts.store.confirm, offer.content, offer.name, offer.version)
            await self._shelf.refresh((offer.kind, offer.name))
            log.info("version.confirmed", version=offer.version, seconds=round(time.monotonic() - began, 3))
            return
        for mismatch in wrong:
            log.error("integrity.failed", version=offer.version, path=mismatch.path, actual=mismatch.actual)
            fact = IntegrityFailed(
                node=parts.node,
                model=offer.name,
                version=offer.version,
                artifact=offer.artifact,
                path=mismatch.path,
                expected=mismatch.expected,
                actual=mismatch.actual,
            )
            parts.say_of(offer, fact, discriminator=f"{transfer}/{mismatch.path}")


def _checks(sha256: str, format_verdict: str) -> Checks:
    return Checks(size="ok", sha256=sha256, format=format_verdict)


def _fact(kind: type[_Fact], offer: Offer, progress: TransferProgress, reason: str | None = None) -> _Fact:
    status = progress.status
    return kind(
        transfer=status.transfer,
        artifact=offer.artifact,
        node=status.node,
        transport=progress.used,
        model=offer.name,
        version=offer.version,
        bytes_by_source=status.bytes_by_source,
        seconds=round(progress.seconds, 3),
        reason=reason,
    )
