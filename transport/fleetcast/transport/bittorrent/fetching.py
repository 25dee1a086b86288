"""One fetch in the daemon: proves what the child claims, tells the observer, notices stalls."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from fleetcast.transport.bittorrent import wire
from fleetcast.transport.errors import StoreFull, TransferFailed, TransferStalled, TransportError
from fleetcast.transport.metainfo import PieceAt
from fleetcast.transport.protocol import Observer, Progress

PROGRESS_SECONDS = 0.5
"""Distance of progress calls; DESIGN allows two a second."""
MAX_RECHECKS = 3
"""Checks of the whole folder after wrong bytes on the disk; a disk that stays wrong is no case for the network."""
MAX_CHILD_DEATHS = 5
"""Deaths of the child during one fetch; the torrent itself may be what kills it."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Finished:
    """The child has, by its own belief, every piece."""


class StallWatch:
    """Notices that sources are connected and no byte comes. Times are of the event loop's clock, in seconds."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit = limit_seconds
        self._payload = -1
        self._since: float | None = None

    def stalled(self, now: float, status: wire.Status | None, bytes_total: int) -> bool:
        """Take how the torrent stands at *now* and return whether it has stalled.

        Only waiting for bytes counts: a check of the folder and a torrent without any source do not.
        """
        if status is None or status.state != "downloading" or not status.peers or status.done >= bytes_total:
            self._since = None
            return False
        if self._since is None or status.payload != self._payload:
            self._payload, self._since = status.payload, now
        return now - self._since > self._limit


class Fetch:
    """A fetch from its start to its end; `run()` is the only one that waits, everything else is told to it.

    Args:
        pieces: every piece, in the torrent's numbering.
        flush: hands what the child holds to the operating system; False when the child died meanwhile.
        recheck: makes the child check the folder and fetch again what is wrong.
        check_child: ends a child that does not answer any more.
        node_of: names the node behind an address and a peer tag.
    """

    def __init__(
        self,
        *,
        pieces: Sequence[PieceAt],
        bytes_total: int,
        observer: Observer,
        stall_seconds: float,
        flush: Callable[[], Awaitable[bool]],
        recheck: Callable[[], object],
        check_child: Callable[[], None],
        node_of: Callable[[str, str], str],
    ) -> None:
        self._pieces, self._bytes_total = pieces, bytes_total
        self._observer, self._node_of = observer, node_of
        self._flush, self._recheck, self._check_child = flush, recheck, check_child
        self._stall = StallWatch(stall_seconds)
        self._told: asyncio.Queue[tuple[int, ...] | _Finished | TransportError] = asyncio.Queue()
        self._proven: set[int] = set()
        self._rechecks = self._deaths = self._payload_before = 0
        self._begun = self._rechecking = False
        self._status: wire.Status | None = None
        self._received: dict[str, int] = {}
        self._received_before: dict[str, int] = {}

    # What the transport tells

    def take(self, report: wire.Report) -> None:
        """Take a report about this torrent."""
        match report:
            case wire.Checked():
                self._rechecking = False
            case wire.Pieces(pieces=pieces) if not self._rechecking:
                self._told.put_nowait(pieces)
            case wire.Finished() if not self._rechecking:
                self._told.put_nowait(_Finished())
            case wire.Status(payload=payload):
                self._status = report
                if payload and not self._begun:
                    # Whoever measures the time to the first byte need not wait for the next half second.
                    self._begun = True
                    self._observer.progress(self.progress())
            case wire.Received(by_sender=senders):
                self._received = self._by_node(senders)
            case wire.Faulted(reason=reason, full=full):
                self.fail(StoreFull(reason) if full else TransferFailed(reason))
            case _:
                pass

    def child_died(self) -> None:
        """The child died: the next one checks the folder and claims every piece again."""
        self._deaths += 1
        self._payload_before += self._status.payload if self._status else 0
        self._rechecking = False
        self._proven.clear()
        self._forget_claims()
        self._status = None
        self._received_before, self._received = dict(self.bytes_by_source), {}
        if self._deaths > MAX_CHILD_DEATHS:
            self.fail(TransferFailed(f"the BitTorrent process died {self._deaths} times during this transfer"))

    def fail(self, error: TransportError) -> None:
        """End the fetch with *error*, after what was told before."""
        self._told.put_nowait(error)

    # The fetch itself

    async def run(self) -> None:
        """Return when every piece is proven.

        Raises:
            TransferStalled: sources are connected and send nothing.
            TransferFailed: it cannot go on.
            StoreFull: there is no space to write to.
        """
        ticker = asyncio.create_task(self._tick(), name="bittorrent progress")
        try:
            await self._prove()
        except BaseException:
            # What has come counts, whoever brings the rest.
            self._observer.progress(self.progress())
            raise
        finally:
            ticker.cancel()
        self._observer.progress(self.progress(finished=True))

    async def _prove(self) -> None:
        while True:
            match await self._told.get():
                case TransportError() as error:
                    raise error
                case _Finished():
                    if len(self._proven) == len(self._pieces):
                        return
                case tuple() as pieces:
                    await self._prove_pieces({p: self._pieces[p] for p in pieces if p not in self._proven})

    async def _prove_pieces(self, claimed: Mapping[int, PieceAt]) -> None:
        deaths = self._deaths
        wrong = await self._wrong(claimed)
        # A claim follows a flush, but libtorrent reports flushes of its own too: make sure before judging the disk.
        flushed = bool(wrong) and await self._flush()
        if flushed:
            wrong = await self._wrong(wrong)
        if deaths != self._deaths or (wrong and not flushed):
            return  # the child died meanwhile, and the next one claims them all again
        self._proven |= claimed.keys() - wrong.keys()
        if wrong:
            self._start_over(next(iter(wrong.values())))

    async def _wrong(self, claimed: Mapping[int, PieceAt]) -> dict[int, PieceAt]:
        """Those whose bytes on the disk are not the piece's."""
        wrong = await self._observer.pieces([(at.file_index, at.piece_index) for at in claimed.values()])
        return {piece: at for piece, at in claimed.items() if (at.file_index, at.piece_index) in wrong}

    def _start_over(self, at: PieceAt) -> None:
        failure = f"piece {at.piece_index} of file {at.file_index} differs on disk"
        self._rechecks += 1
        if self._rechecks > MAX_RECHECKS:
            raise TransferFailed(f"wrong bytes on the disk after {MAX_RECHECKS} checks: {failure}")
        log.warning("bittorrent.wrong_bytes", file=at.file_index, piece=at.piece_index)
        self._proven.clear()
        self._forget_claims()
        self._rechecking = True
        self._recheck()

    def _forget_claims(self) -> None:
        """Drop claims from before a check: the bytes may have changed since; what is right is claimed again."""
        waiting = [self._told.get_nowait() for _ in range(self._told.qsize())]
        for told in waiting:
            if isinstance(told, TransportError):
                self._told.put_nowait(told)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            self._observer.progress(self.progress())
            self._check_child()
            if self._stall.stalled(loop.time(), self._status, self._bytes_total):
                peers = self._status.peers if self._status else 0
                self.fail(TransferStalled(f"no byte came from {peers} connected sources"))
                return

    def progress(self, *, finished: bool = False) -> Progress:
        """How far it is; the last status report may be older than the end."""
        status = self._status
        done = status.done if status else 0
        return Progress(
            bytes_done=self._bytes_total if finished else done,
            bytes_total=self._bytes_total,
            rate=status.rate if status else 0,
            received=(status.payload if status else 0) + self._payload_before,
            peers=status.peers if status else 0,
            bytes_by_source=self.bytes_by_source,
            uploaded=status.uploaded if status else 0,
            restarts=self._deaths,
            disk_queue_bytes=status.queued if status else None,
            kept=status.done + status.lending if status and status.state == "downloading" else None,
        )

    @property
    def bytes_by_source(self) -> Mapping[str, int]:
        """Payload bytes received, by node, over all lives of the child."""
        nodes = self._received.keys() | self._received_before.keys()
        return {n: self._received.get(n, 0) + self._received_before.get(n, 0) for n in sorted(nodes)}

    def _by_node(self, senders: tuple[tuple[str, str, int], ...]) -> dict[str, int]:
        sums: dict[str, int] = {}
        for address, tag, count in senders:
            node = self._node_of(address, tag)
            sums[node] = sums.get(node, 0) + count
        return sums
