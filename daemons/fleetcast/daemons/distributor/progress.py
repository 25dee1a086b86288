"""One transfer as it runs: proves pieces as they arrive, and tells the board and whoever listens how far it is."""

import asyncio
import time
from pathlib import Path

from fleetcast.daemons.distributor.parts import Parts, log, now
from fleetcast.daemons.distributor.rules import Offer, RateMeter
from fleetcast.events.ids import new_ulid
from fleetcast.events.state import TransferStatus, progress_subject
from fleetcast.transport.errors import VerificationFailed
from fleetcast.transport.pieces import PieceVerifier
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
        parts.board.show(self.status)

    def open(self, verifier: PieceVerifier) -> None:
        """Begin to prove: pieces are read back through *verifier*."""
        self._verifier = verifier

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
        rate = self._meter.sample(progress.bytes_done, time.monotonic())
        self._update(
            bytes_done=progress.bytes_done,
            rate_bytes_per_second=round(rate),
            eta_seconds=_rounded(self._meter.eta_seconds(progress.bytes_total)),
            peers=progress.peers,
            bytes_by_source=dict(progress.bytes_by_source),
        )

    async def piece(self, file_index: int, piece_index: int) -> None:
        verifier = self._opened
        if verifier.proven_bytes == 0:
            log.debug("transfer.first_piece", version=self.status.version, at_unix=time.time())
        if not await asyncio.to_thread(verifier.verify_piece, file_index, piece_index):
            raise VerificationFailed(f"piece {piece_index} of file {file_index} differs on disk")
        self._update(bytes_verified=verifier.proven_bytes)

    async def prove_rest(self) -> None:
        """Read back every piece that was not proven while it arrived.

        Raises:
            VerificationFailed: a piece on the disk is not what the metainfo says.
        """
        for file_index, piece_index in list(self._opened.missing()):
            await self.piece(file_index, piece_index)

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
            update={"state": state, "reason": reason, "seconds": round(self.seconds, 3), **done}
        )
        self._parts.board.end(self.status)
        self._send()

    def path(self, folder: Path, relative: str) -> Path:
        """Where a file of the transfer lies before it is installed."""
        return folder / self.status.artifact[:16] / relative

    def _update(self, **fields: object) -> None:
        self.status = self.status.model_copy(update={**fields, "seconds": round(self.seconds, 3)})
        self._parts.board.show(self.status)
        interval = self._parts.settings.distributor.progress_interval_seconds
        if time.monotonic() - self._last_sent >= interval:
            self._send()

    def _send(self) -> None:
        self._last_sent = time.monotonic()
        message = self.status.model_dump_json().encode()
        self._parts.send_soon(progress_subject(self._parts.node), message)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
