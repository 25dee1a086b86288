"""`RsyncTransport`: follows what rsync writes, claims its pieces, and goes from source to source."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import structlog

from fleetcast.config.settings import RsyncSettings
from fleetcast.transport import metainfo as torrent
from fleetcast.transport.capped import Moved
from fleetcast.transport.errors import (
    SourceUnreachable,
    TransferError,
    TransferFailed,
    TransferStalled,
    VerificationFailed,
)
from fleetcast.transport.protocol import Availability, Ban, FetchRequest, Observer, Progress, Source
from fleetcast.transport.rsync import plan
from fleetcast.transport.rsync.child import RsyncChild, look_for
from fleetcast.transport.rsync.relay import Relay, Traffic, relayed
from fleetcast.transport.rsync.stage import Stage
from fleetcast.transport.store.folder import transfer_errors

log = structlog.get_logger("fleetcast.transport.rsync")

POLL_SECONDS = 0.1
"""How often the growth of the files is looked at."""
TELL_SECONDS = 0.5
RATE_SECONDS = 2.0
"""The rate is that of the last two seconds."""


class RsyncTransport:
    """The last rung.

    Args:
        staging: folder in the file system of the store; what a crash leaves there is removed at the next start.
        nice: niceness of rsync; 0: that of this process.
        relayed: what rsync receives passes through this process, so that caps hold for it; otherwise there can be none.
        on_banned: told (artifact, ban) when a source sent wrong bytes and is not asked any more.
    """

    name = "rsync"

    def __init__(
        self,
        settings: RsyncSettings,
        *,
        staging: Path,
        nice: int = 0,
        relayed: bool = True,
        on_banned: Callable[[str, Ban], None] | None = None,
    ) -> None:
        self._settings, self._staging, self._nice = settings, staging, nice
        self._relayed, self._on_banned = relayed, on_banned
        self._found: tuple[str | None, tuple[int, ...] | None] = (None, None)
        self._fetches: dict[str, _Fetch] = {}
        self._traffic = Traffic()

    async def start(self) -> None:
        """Look for rsync."""
        self._found = await asyncio.to_thread(look_for)

    async def close(self) -> None:
        """Nothing outlives its transfer."""

    def available(self) -> Availability:
        """Whether rsync is here, switched on and new enough."""
        return plan.judge(*self._found, self._settings)

    def moved(self) -> Moved:
        """How many bytes were received and sent so far (`capped.Capped`); what is not relayed is not counted."""
        return self._traffic.moved()

    def limit(self, download: int | None, upload: int | None) -> None:
        """Cap what is relayed, in bytes per second each way, from now on; None: no cap."""
        self._traffic.limit(download, upload)

    async def add_sources(self, artifact: str, sources: Iterable[Source]) -> None:
        if fetch := self._fetches.get(artifact):
            fetch.learn(sources)

    async def fetch(self, request: FetchRequest, observer: Observer) -> None:
        binary = self._found[0]
        if binary is None or not self.available().ok:
            raise TransferFailed(self.available().reason)
        means = _Means(binary, self._nice, self._settings, self._traffic if self._relayed else None)
        fetch = _Fetch(request, observer, means, self._staging / f"rsync-{request.transfer}")
        self._fetches[request.artifact] = fetch
        try:
            await fetch.run(self._ban)
        finally:
            del self._fetches[request.artifact]

    def _ban(self, artifact: str, ban: Ban) -> None:
        if self._on_banned is not None:
            self._on_banned(artifact, ban)


@dataclass(frozen=True, slots=True)
class _Means:
    """What every transfer of this node uses.

    Attributes:
        traffic: what is relayed; None: rsync connects by itself.
    """

    binary: str
    nice: int
    settings: RsyncSettings
    traffic: Traffic | None

    def line(self, source: str, where: plan.Remote, folder: Path) -> AbstractAsyncContextManager[Relay | None]:
        """A connection to a source, where it is not for rsync to make it."""
        if self.traffic is None:
            return contextlib.nullcontext()
        return relayed(source, where, folder, self.traffic, connect_seconds=self.settings.connect_seconds)


class _Fetch:
    """One transfer: its sources, what is proven, and what came from whom."""

    def __init__(self, request: FetchRequest, observer: Observer, means: _Means, stage: Path) -> None:
        self._request, self._observer, self._means, self._settings = request, observer, means, means.settings
        self._piece_length = torrent.read(request.metainfo, request.content).piece_length
        self._stage = Stage(stage, request, self._piece_length)
        self._waiting: list[Source] = []
        self._seen: set[str] = set()
        self._received: dict[str, int] = {}
        self._rates: list[tuple[float, int]] = []
        self._told_at = 0.0
        self.learn(request.sources)

    def learn(self, sources: Iterable[Source]) -> None:
        """Take sources that were not known; one that failed is not tried twice in one transfer."""
        for source in sources:
            if source.node not in self._seen and plan.usable(source, self._settings):
                self._seen.add(source.node)
                self._waiting.append(source)

    async def run(self, ban: Callable[[str, Ban], None]) -> None:
        last: TransferError = SourceUnreachable("no source of it serves rsync")
        try:
            while self._left() and self._waiting:
                source = self._waiting.pop(0)
                try:
                    await self._from(source)
                except TransferError as fault:
                    last = fault
                    log.warning("rsync.source_failed", source=source.node, reason=str(fault))
                except VerificationFailed as wrong:
                    last = TransferFailed(f"{source.node} sent wrong bytes: {wrong}")
                    ban(self._request.artifact, self._banned(source, str(wrong)))
        finally:
            await asyncio.to_thread(self._stage.clear)
        if self._left():
            raise last
        await asyncio.to_thread(self._stage.finish)
        self._tell(peers=0)

    def _left(self) -> tuple[plan.Job, ...]:
        return plan.jobs(self._request.content, self._stage.proven, self._piece_length, self._settings)

    def _banned(self, source: Source, reason: str) -> Ban:
        return Ban("rsync", source.node, self._piece_length, reason)

    async def _from(self, source: Source) -> None:
        """Bring what is left from one source.

        Raises:
            TransferError: it did not bring everything.
            StoreFull: there is no space on this node.
            VerificationFailed: it sent wrong bytes.
        """
        where = plan.remote(source.rsync or "")
        assert where is not None
        work = self._left()
        await asyncio.to_thread(self._prepare, work)
        async with self._means.line(source.node, where, self._stage.folder) as relay:
            child = await RsyncChild.start(self._words(where, work, relay), nice=self._means.nice)
            try:
                await self._follow(child, relay, source, work)
            finally:
                await asyncio.shield(child.end())
        if self._left():
            await asyncio.to_thread(self._check_room)
            problem = (relay.problem if relay else "") or child.problem or "rsync ended, and bytes are missing"
            raise TransferFailed(f"{source.node}: {problem}")

    def _words(self, where: plan.Remote, work: tuple[plan.Job, ...], relay: Relay | None) -> list[str]:
        return plan.command(
            self._means.binary,
            where,
            work,
            self._stage.folder,
            self._settings,
            piece_length=self._piece_length,
            handover=relay.handover if relay else (),
        )

    def _check_room(self) -> None:
        # What rsync says may come from the source, which could call any disk full.
        with transfer_errors("rsync cannot write what it receives"):
            self._stage.check_room()

    def _prepare(self, work: tuple[plan.Job, ...]) -> None:
        with transfer_errors("the transfer's folder cannot be written"):
            self._stage.prepare(work)

    async def _follow(self, child: RsyncChild, relay: Relay | None, source: Source, work: tuple[plan.Job, ...]) -> None:
        pulse = plan.Pulse(time.monotonic())
        reached, ended = 0, False
        while not ended:
            ended = await child.ended(POLL_SECONDS)
            reached = await self._advance(source, work)
            stream = (relay.received, relay.held_seconds) if relay else ()
            quiet = pulse.quiet_seconds(time.monotonic(), reached, *stream)
            patience = self._settings.stall_seconds if pulse.began else plan.patience_seconds(work, self._settings)
            if not ended and quiet > patience:
                raise TransferStalled(f"{source.node}: rsync brought no byte for {patience:g} s")
        # A look takes some files, and more than those may have come since the last one.
        while (now := await self._advance(source, work)) > reached:
            reached = now

    async def _advance(self, source: Source, work: tuple[plan.Job, ...]) -> int:
        """Claim the pieces that were written since; returns how far rsync is, in bytes."""
        with transfer_errors("what rsync wrote cannot be kept"):
            growth = await asyncio.to_thread(self._stage.grown, work)
        if growth.new_bytes:
            self._received[source.node] = self._received.get(source.node, 0) + growth.new_bytes
            self._tell(peers=1)
        wrong = await self._observer.pieces(growth.pieces) if growth.pieces else []
        for file_index, piece_index in growth.pieces:
            if (file_index, piece_index) not in wrong:
                self._stage.proven.setdefault(file_index, set()).add(piece_index)
        if wrong:
            raise VerificationFailed(f"piece {wrong[0][1]} of file {wrong[0][0]} differs on disk")
        return growth.position

    def _tell(self, peers: int) -> None:
        """Progress, with the first byte, then twice a second at most, and at the end."""
        now, received = time.monotonic(), sum(self._received.values())
        self._rates = [(at, was) for at, was in self._rates if now - at < RATE_SECONDS] + [(now, received)]
        if self._told_at and peers and now - self._told_at < TELL_SECONDS:
            return
        self._told_at = now
        since, was = self._rates[0]
        self._observer.progress(
            Progress(
                bytes_done=self._stage.proven_bytes,
                bytes_total=self._request.content.size,
                rate=round((received - was) / (now - since)) if now > since else 0,
                peers=peers,
                bytes_by_source=dict(self._received),
                received=received,
            )
        )
