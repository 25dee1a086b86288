"""One transfer as it runs: proves pieces as they arrive, and tells the board and whoever listens how far it is."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from fleetcast.daemons.distributor.motion import Motion
from fleetcast.daemons.distributor.parts import Parts, log, now
from fleetcast.daemons.distributor.rules import Offer, RateMeter
from fleetcast.daemons.distributor.rungs import BEGUN, RungBook, named
from fleetcast.daemons.distributor.slow_watch import SlowWatch
from fleetcast.daemons.distributor.slowness import Vitals, diagnose
from fleetcast.events.ids import new_ulid
from fleetcast.events.state import TransferStatus, progress_subject
from fleetcast.transport.errors import VerificationFailed
from fleetcast.transport.ladder import Ladder
from fleetcast.transport.pieces import PieceVerifier, batches
from fleetcast.transport.protocol import Progress


class TransferProgress:
    """The observer of one transfer (`transport.protocol.Observer`)."""

    def __init__(self, parts: Parts, offer: Offer, transport: str) -> None:
        self.transfer = new_ulid()
        self._parts = parts
        self._meter = RateMeter()
        self._began = time.monotonic()
        self._last_sent = 0.0
        self._begun = False
        self._verifier: PieceVerifier | None = None
        self._book = RungBook()
        self._now = Progress(0, offer.content.size, 0, 0)
        self._motion = Motion()
        self._from_before: Counter[str] = Counter()
        self._uploaded_before = 0
        self._moved_at = self._began
        self._answering: int | None = None
        self.moves = 0
        """Times that the transfer changed its transport."""
        self.laps: dict[str, float] = {}
        """Seconds of every step so far, by name."""
        self.status = TransferStatus(
            transfer=self.transfer,
            artifact=offer.artifact,
            model=offer.name,
            version=offer.version,
            node=parts.node,
            state="fetching",
            transport=transport,
            bytes_total=offer.content.size,
            bytes_done=0,
            started_at=now(),
        )
        self._watch = SlowWatch(parts.board, parts.swarm, parts.settings.limits, parts.allowance.share)
        parts.board.show(self.status)

    def open(self, verifier: PieceVerifier) -> None:
        """Begin to prove: pieces are read back through *verifier*."""
        self._verifier = verifier

    # The ladder

    def plan(self, ladder: Ladder) -> None:
        """Show the rungs and why they have their order."""
        self._book.plan(ladder)
        begun = any(rung.state in BEGUN for rung in self._book.rungs)
        transport = self.status.transport if begun else ladder.first or self.status.transport
        self._update(transport=transport, rungs=self._book.rungs, choice=self.status.choice or ladder.choice)

    def enter_rung(self, transport: str, reason: str = "") -> None:
        """*transport* begins to run."""
        self._moved_at = time.monotonic()
        self._motion = Motion()
        self._book.enter(transport, self._moved_at, reason)
        self._update(transport=transport, rungs=self._book.rungs)
        self._send()

    def leave_rung(self, state: str, reason: str = "") -> None:
        """The transport that ran has ended: what it received stays counted."""
        self._from_before.update(self._now.bytes_by_source)
        self._uploaded_before += self._now.uploaded
        self._now = Progress(self._now.bytes_done, self._now.bytes_total, 0, 0)
        self._book.leave(self.status.transport, state, reason, time.monotonic())
        self._update(rungs=self._book.rungs, peers=0)

    @property
    def idle_seconds(self) -> float:
        """Since when nothing has moved: no byte came to stay, none was checked, no piece proven. 0 when all is here."""
        whole = self._now.bytes_done >= self._now.bytes_total
        return 0.0 if whole and self._now.received else time.monotonic() - self._moved_at

    def note_answers(self, count: int) -> None:
        """So many nodes that have all of it answered just now."""
        self._answering = count
        self._update()

    @property
    def restarts(self) -> int:
        """Times that the process that carries the running rung was started again."""
        return self._now.restarts

    @property
    def peers(self) -> int:
        """Sources connected now."""
        return self._now.peers

    @property
    def used(self) -> str:
        """The transports that brought the bytes, as facts name them."""
        return named(self._book.used, otherwise=self.status.transport)

    @property
    def proven_bytes(self) -> int:
        """Bytes that were read back and are right."""
        return self._opened.proven_bytes

    @property
    def proven(self) -> dict[int, frozenset[int]]:
        """Pieces that were read back and are right (`FetchRequest.have`)."""
        return self._opened.proven

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def lap(self, step: str) -> None:
        """Note that *step* ends now."""
        self.laps[step] = round(self.seconds - sum(self.laps.values()), 3)

    def progress(self, progress: Progress) -> None:
        if progress.received and not self._begun:
            self._begun = True
            log.debug("transfer.first_byte", version=self.status.version, at_unix=time.time())
        at = time.monotonic()
        if self._motion.moved(progress):
            self._moved_at, self._answering = at, None
        self._now = progress
        self._book.received(self.status.transport, progress.received, at)
        # A transport that checks the folder first starts from nothing; what is proven is not forgotten meanwhile.
        done = max(progress.bytes_done, self.status.bytes_verified)
        rate = self._meter.sample(done, at)
        self._update(
            bytes_done=done,
            rate_bytes_per_second=round(rate),
            eta_seconds=_rounded(self._meter.eta_seconds(progress.bytes_total)),
            peers=progress.peers,
            bytes_by_source=dict(self._from_before + Counter(progress.bytes_by_source)),
            bytes_uploaded=self._uploaded_before + progress.uploaded,
            rungs=self._book.rungs,
        )

    async def pieces(self, claimed: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        verifier, wrong = self._opened, list[tuple[int, int]]()
        for some in batches(claimed, verifier.piece_length):
            before = verifier.proven_bytes
            if before == 0:
                log.debug("transfer.first_piece", version=self.status.version, at_unix=time.time())
            wrong += await self._hash(verifier, some)
            if verifier.proven_bytes > before:
                self._moved_at = time.monotonic()
            self._update(bytes_verified=verifier.proven_bytes)
            self._log_moments(before, verifier.proven_bytes)
        return wrong

    def _log_moments(self, before: int, after: int) -> None:
        """Log when the last 1 % begins and when every byte is proven: benchmarks time them."""
        total = self.status.bytes_total
        for event, mark in (("transfer.last_percent", 0.99 * total), ("transfer.proven", total)):
            if before < mark <= after:
                log.debug(event, version=self.status.version, at_unix=time.time())

    async def prove_here(self) -> None:
        """Find out which pieces lie in the folder already, from an earlier life or another transport."""
        verifier = self._opened
        before = verifier.proven_bytes
        for some in batches(await asyncio.to_thread(verifier.unproven_here), verifier.piece_length):
            await self._hash(verifier, some)
        self._update(bytes_verified=verifier.proven_bytes)
        self._log_moments(before, verifier.proven_bytes)

    async def _hash(self, verifier: PieceVerifier, some: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return await asyncio.get_running_loop().run_in_executor(self._parts.hashing, verifier.verify, some)

    async def prove_rest(self) -> None:
        """Read back every piece that was not proven while it arrived.

        Raises:
            VerificationFailed: a piece on the disk is not what the metainfo says.
        """
        if wrong := await self.pieces(self._opened.missing()):
            raise VerificationFailed(f"piece {wrong[0][1]} of file {wrong[0][0]} differs on disk")

    @property
    def _opened(self) -> PieceVerifier:
        if self._verifier is None:
            raise RuntimeError("a piece was claimed before the transfer was opened")
        return self._verifier

    def enter(self, state: str) -> None:
        self._update(state=state)
        self._send()

    def end(self, state: str, reason: str | None = None) -> None:
        done = {"bytes_done": self.status.bytes_total, "eta_seconds": 0.0} if state == "installed" else {}
        self.status = self.status.model_copy(
            update={"state": state, "reason": reason, "slow": None, "seconds": round(self.seconds, 3), **done}
        )
        self._parts.board.end(self.status)
        self._tell()

    def path(self, folder: Path, relative: str) -> Path:
        """Where a file of the transfer lies before it is installed."""
        return folder / self.status.artifact[:16] / relative

    def _update(self, **fields: object) -> None:
        self.status = self.status.model_copy(update={**fields, "seconds": round(self.seconds, 3)})
        interval = self._parts.settings.distributor.progress_interval_seconds
        if time.monotonic() - self._last_sent >= interval:
            self._send()
        else:
            self._parts.board.show(self.status)

    def _send(self) -> None:
        slow = self._watch.look(self.status, self.idle_seconds, self._now.disk_queue_bytes, self._answering)
        self.status = self.status.model_copy(update={"slow": slow})
        self._parts.board.show(self.status)
        self._tell()

    def _tell(self) -> None:
        self._last_sent = time.monotonic()
        message = self.status.model_dump_json().encode()
        self._parts.send_soon(progress_subject(self._parts.node), message)


def waiting(node: str, offers: Iterable[Offer], running: int) -> tuple[TransferStatus, ...]:
    """Transfers whose turn has not come, as they are shown."""
    slow = diagnose(Vitals(state="waiting", bytes_total=0, bytes_done=0, bytes_proven=0, running=running))
    return tuple(
        TransferStatus(
            transfer=f"waiting-{offer.artifact[:16]}",
            artifact=offer.artifact,
            model=offer.name,
            version=offer.version,
            node=node,
            state="waiting",
            transport="none",
            bytes_total=offer.content.size,
            bytes_done=0,
            slow=str(slow),
            started_at=now(),
        )
        for offer in offers
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
