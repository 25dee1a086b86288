"""One transfer by aria2: probes mirrors, gives the good ones to aria2, proves what comes, replaces what fails."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from fleetcast.config.settings import Aria2Settings
from fleetcast.transport.aria2.child import Child, ChildGone, Nursery
from fleetcast.transport.aria2.downloads import Download, Downloads, Seen
from fleetcast.transport.aria2.files import WorkFolder
from fleetcast.transport.aria2.ledger import Ledger
from fleetcast.transport.aria2.mirrors import Mirror, MirrorBook, connections_per_host, named, suspects
from fleetcast.transport.aria2.options import BLOCK
from fleetcast.transport.aria2.ranges import MirrorFault, Patience, range_bytes, read_range
from fleetcast.transport.aria2.watch import FloorWatch, StallWatch, Verdict
from fleetcast.transport.errors import PathRefused, StoreFull, TransferFailed, TransferStalled
from fleetcast.transport.metainfo import Metainfo, PieceAt
from fleetcast.transport.pieces import PieceVerifier
from fleetcast.transport.protocol import Ban, FetchRequest, Observer, Progress, Source
from fleetcast.transport.store.folder import FREE_SPACE, transfer_errors

PROGRESS_SECONDS = 0.5
"""Distance of progress calls; DESIGN allows two a second."""
POLL_SECONDS = 0.2
"""Distance of questions to aria2; the first ones follow each other faster, for small files."""
FIRST_POLL_SECONDS = 0.02
GRACE_SECONDS = 0.1
"""After the first good mirror, the others may take so long for their probes, or as long again as it took."""
PROBE_PIECE_BYTES = 2**20
"""A first probe brings a missing piece up to this size, which is kept; of larger ones a known block is enough."""
MAX_DEATHS = 5
"""Deaths of aria2c during one transfer; the transfer itself may be what kills it."""
MAX_ERRORS = 5
"""Downloads that fail one after the other with no piece between them."""
MAX_PUZZLES = 5
"""Wrong pieces that no mirror can be blamed for; more of them, and it is the disk."""
_RATE_SECONDS = 2.0
_FULL = 9
_FATAL = {15: "a file cannot be opened", 16: "a file cannot be made",
          17: "a file cannot be read or written", 18: "a folder cannot be made"}  # fmt: skip
"""Errors of aria2 that lie here, not with a mirror (its manual, "Exit status")."""

log = structlog.get_logger()


class Fetch:
    """A transfer from its start to its end.

    Args:
        limit: the cap on what is received now, in bytes per second; 0 for none.
        on_banned: told (artifact, ban) when a mirror sent wrong bytes.

    Attributes:
        received: payload bytes received.
    """

    def __init__(
        self,
        request: FetchRequest,
        info: Metainfo,
        observer: Observer,
        settings: Aria2Settings,
        nursery: Nursery,
        *,
        staging: Path,
        limit: Callable[[], int],
        on_banned: Callable[[str, Ban], None] | None,
    ) -> None:
        self._request, self._observer, self._settings = request, observer, settings
        self._nursery = nursery
        self._limit, self._on_banned = limit, on_banned
        self._verifier = PieceVerifier(info, request.content, request.folder)
        self._ledger = Ledger(request.content, info.piece_length, request.have)
        self.book = MirrorBook(settings.max_sources, settings.slow_ratio, settings.slow_seconds)
        self.book.learn(request.sources)
        self._patience = Patience(settings.stall_seconds / 2, settings.floor_bytes_per_second)
        self._work = WorkFolder(request.content, request.folder, staging)
        self._downloads = Downloads(nursery, request.content, self._ledger, self._work, settings)
        self._probes: dict[asyncio.Task[None], PieceAt | None] = {}
        self._claiming, self._wake = asyncio.Lock(), asyncio.Event()
        self._began_at = asyncio.get_running_loop().time()
        self._first_good_at: float | None = None
        self._admitted = False
        self.received = self._deaths = self._errors = self._puzzles = 0
        self._starting: asyncio.Task[Child] | None = None
        self._verdict = Verdict.GO_ON
        self._fault: StoreFull | TransferFailed | None = None
        self._stall = StallWatch(settings.stall_seconds, self._began_at)
        self._floor = FloorWatch(settings.floor_bytes_per_second, settings.floor_seconds, self._began_at)
        self._history: deque[tuple[float, int]] = deque([(self._began_at, 0)], maxlen=64)
        self._poll_seconds = FIRST_POLL_SECONDS

    def learn(self, sources: Iterable[Source]) -> None:
        """Take more sources."""
        self.book.learn(sources)
        self._wake.set()

    async def run(self) -> None:
        """Return when every piece is proven.

        Raises:
            TransferStalled: sources answer and send nothing, or too little.
            TransferFailed: it cannot go on.
            StoreFull: there is no space to write to.
        """
        preparing = asyncio.create_task(asyncio.to_thread(self._work.prepare), name="aria2 files")
        ticker = asyncio.create_task(self._tick(), name="aria2 progress")
        try:
            await _prepared(preparing)
            async with self._nursery.held():
                try:
                    await self._salvage()
                    self._begin_start()
                    await self._climb()
                finally:
                    await asyncio.shield(self._stop())
        finally:
            ticker.cancel()
            # A thread cannot be cancelled: what it makes is removed when it is done.
            await asyncio.gather(ticker, preparing, return_exceptions=True)
            await asyncio.shield(asyncio.to_thread(self._work.remove))
        self._observer.progress(self.progress())

    def _begin_start(self) -> None:
        """aria2c starts while the first probes run, unless they are all that there is to fetch."""
        if sum(map(len, self._ledger.missing)) > len(self.book.mirrors):
            self._starting = asyncio.create_task(self._nursery.child(), name="aria2 start")

    async def _stop(self) -> None:
        if self._starting is not None:
            # What kept it from starting is said by whoever needs it.
            await asyncio.gather(self._starting, return_exceptions=True)
        await self._end_probes()
        with contextlib.suppress(ChildGone):
            for index in list(self._downloads.running):
                await self._downloads.stop(index)

    async def _climb(self) -> None:
        while not self._ledger.complete:
            self._begin_probes()
            try:
                await self._steer()
                await self._look()
                await self._judge()
            except ChildGone as gone:
                await self._bury(gone)
            await self._pause()

    async def _pause(self) -> None:
        if self._ledger.complete:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), self._poll_seconds)
        self._wake.clear()
        self._poll_seconds = min(1.5 * self._poll_seconds, POLL_SECONDS)

    # aria2

    async def _steer(self) -> None:
        """Give aria2 the files that miss something, and the mirrors that are good now."""
        mirrors = self.book.chosen()
        if not mirrors or not await self._admit():
            return
        room = self._settings.parallel_files - len(self._downloads.running)
        waiting = [f for f, missing in enumerate(self._ledger.missing) if missing and f not in self._downloads.running]
        for index in sorted(waiting, key=self._ledger.size, reverse=True)[: max(0, room)]:
            per_host = connections_per_host(self.book.usable, self._settings.connections_per_source)
            await self._downloads.start(index, mirrors, per_host)
        await self._downloads.tell(mirrors)

    async def _admit(self) -> bool:
        """Whether the first probes are over: aria2 learns of proven pieces only when a download starts."""
        if self._admitted:
            return True
        now = self._now()
        first = self._first_good_at or now
        if self._probes and now < first + max(GRACE_SECONDS, first - self._began_at):
            return False
        await self._end_probes()
        self._admitted = True
        return not self._ledger.complete

    async def _look(self) -> None:
        seen = await self._downloads.look()
        now, speeds = self._now(), _added_up(seen)
        for one in seen:
            self._share_out(one)
        self.book.rated(speeds, now)
        for mirror in self.book.slow(speeds, now):
            log.info("aria2.source_slow", node=mirror.node, bytes_per_second=speeds[mirror])
            self.book.rest(mirror, now, f"it sends {speeds[mirror]} bytes per second", answers=True, spare=True)
        # Taken here: what follows may take long, and is no silence of a mirror.
        self._verdict = self._watched(now)
        for one in seen:
            await self._take(one)

    def _watched(self, now: float) -> Verdict:
        stall = self._stall.verdict(self.received, now)
        floor = self._floor.verdict(self.received, now, limit=self._limit())
        return max(stall, floor, key=[Verdict.GO_ON, Verdict.RESTART, Verdict.STALLED].index)

    async def _take(self, seen: Seen) -> None:
        index = seen.download.index
        wrong = await self._claim_all(seen)
        if seen.ended:
            await self._downloads.drop(index)
        if wrong:
            await self._put_right(seen.download, wrong, seen)
        elif seen.state == "error":
            self._note_error(seen)

    async def _claim_all(self, seen: Seen) -> list[PieceAt]:
        """Claim what aria2 has finished; returns what is wrong."""
        pieces = [PieceAt(seen.download.index, piece) for piece in seen.pieces]
        wrong = [at for at in pieces if not await self._claim(at)]
        if pieces:
            self._stall.touch(self._now())
            self._floor.touch(self.received, self._now())
        if len(wrong) < len(pieces):
            self._errors = 0
        return wrong

    def _note_error(self, seen: Seen) -> None:
        """All its mirrors failed: doubt them, unless the fault is ours."""
        if seen.code == _FULL:
            raise StoreFull("aria2: No space left on device", next_step=FREE_SPACE)
        self._errors += 1
        reason = _FATAL.get(seen.code)
        if reason or self._errors > MAX_ERRORS:
            raise TransferFailed(f"aria2: {reason or seen.message or f'error {seen.code}'}")
        log.info("aria2.download_failed", code=seen.code, reason=seen.message)
        self._doubt_all()

    def _doubt_all(self) -> None:
        for mirror in self.book.good:
            self.book.doubt(mirror)

    async def _restart(self, reason: str) -> None:
        """Cures connections that hang: aria2 begins anew with what is missing, and with mirrors that answer."""
        log.info("aria2.restart", reason=reason)
        for index in list(self._downloads.running):
            seen = await self._downloads.stop(index)
            if seen is not None:
                self._share_out(seen)
                await self._claim_all(seen)
        self._doubt_all()

    async def _bury(self, gone: ChildGone) -> None:
        self._deaths += 1
        log.warning("aria2.child_lost", reason=str(gone), deaths=self._deaths)
        await self._downloads.lose()
        if self._deaths > MAX_DEATHS:
            raise TransferFailed(f"aria2c died {self._deaths} times during this transfer") from gone
        await self._salvage()
        self._stall.touch(self._now())

    # Proof

    async def _claim(self, at: PieceAt) -> bool:
        async with self._claiming:
            if not self._ledger.is_missing(at):
                return True
            if await self._observer.pieces([(at.file_index, at.piece_index)]):
                return False
            self._ledger.prove(at)
            return True

    async def _salvage(self) -> None:
        """Use what lies in the files and nobody has proven: of an earlier try, or of an aria2c that died."""
        for file, piece in await asyncio.to_thread(self._verifier.unproven_here):
            at = PieceAt(file, piece)
            if self._ledger.is_missing(at) and await asyncio.to_thread(self._verifier.verify_piece, file, piece):
                await self._claim(at)

    async def _put_right(self, download: Download, wrong: list[PieceAt], seen: Seen) -> None:
        """Wrong bytes came: fetch one such piece from each mirror until one is caught; then begin the file anew.

        Anew, because what is under way may be wrong in part as well.
        """
        last = await self._downloads.stop(download.index)
        if last is not None:
            self._share_out(last)
            wrong += await self._claim_all(last)
        log.warning("aria2.wrong_bytes", file=download.index, pieces=len(wrong))
        for mirror in suspects(download.asked, seen.speeds):
            if mirror in self.book.usable and await self._lied(mirror, wrong[0], len(wrong)):
                return
        self._puzzle(download)

    async def _lied(self, mirror: Mirror, at: PieceAt, pieces: int) -> bool:
        """Whether a mirror sends wrong bytes for a piece; the right ones are kept."""
        try:
            right = await self._fetch_piece(mirror, at)
        except MirrorFault as e:
            self.book.rest(mirror, self._now(), str(e), answers=e.answers)
            return False
        if not right:
            self._ban(mirror, at, pieces + 1)
        return not right

    def _puzzle(self, download: Download) -> None:
        """Every mirror sends the right bytes when asked again."""
        self._puzzles += 1
        if self._puzzles > MAX_PUZZLES:
            raise TransferFailed(
                f"wrong bytes came {self._puzzles} times, and no source can be blamed",
                next_step="look at this machine's disk and memory",
            )
        if len(download.asked) == 1 and self.book.alone:
            self._ban(next(iter(download.asked)), PieceAt(download.index, 0), 1)
        self.book.alone = True

    def _ban(self, mirror: Mirror, at: PieceAt, pieces: int) -> None:
        start, stop = self._ledger.span(at)
        reason = f"wrong bytes in {self._request.content.files[at.file_index].path} at {start}"
        self.book.ban(mirror, reason, pieces * (stop - start))
        log.warning("aria2.source_banned", artifact=self._request.artifact, node=mirror.node, reason=reason)
        if self._on_banned is not None:
            self._on_banned(self._request.artifact, Ban("aria2", mirror.node, mirror.wasted, reason))

    # Probes

    def _begin_probes(self) -> None:
        for mirror in self.book.due(self._now()):
            self.book.begin_probe(mirror)
            at = self._piece_to_probe()
            task = asyncio.create_task(self._probe(mirror, at), name=f"aria2 probe of {mirror.node}")
            self._probes[task] = at
            task.add_done_callback(self._probe_ended)

    def _piece_to_probe(self) -> PieceAt | None:
        """A missing piece, before aria2 runs; None for a block of a proven one."""
        proven = self._ledger.proven_bytes > 0
        if self._downloads.running or (proven and self._ledger.piece_length > PROBE_PIECE_BYTES):
            return None
        taken = {at for at in self._probes.values() if at is not None}
        return self._ledger.some_missing(self.book.random, taken)

    def _probe_ended(self, task: asyncio.Task[None]) -> None:
        self._probes.pop(task, None)
        self._wake.set()

    async def _end_probes(self) -> None:
        tasks = list(self._probes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, mirror: Mirror, at: PieceAt | None) -> None:
        try:
            right = await (self._fetch_piece(mirror, at) if at is not None else self._compare_block(mirror))
        except MirrorFault as e:
            log.info("aria2.source_unusable", node=mirror.node, reason=str(e))
            self.book.rest(mirror, self._now(), str(e), answers=e.answers)
        except asyncio.CancelledError:
            self.book.forget_probe(mirror)
            raise
        except (StoreFull, TransferFailed) as e:
            self._fault = e
        else:
            if right:
                self._first_good_at = self._first_good_at or self._now()
                self.book.accept(mirror)
            else:
                self._ban(mirror, at or PieceAt(0, 0), 1)

    async def _fetch_piece(self, mirror: Mirror, at: PieceAt) -> bool:
        """Fetch a piece from one mirror into its place, and return whether it is right."""
        start, stop = self._ledger.span(at)
        known = not self._ledger.is_missing(at)
        url, size = self._url(mirror, at.file_index), self._ledger.size(at.file_index)
        async with contextlib.aclosing(read_range(url, start, stop, size, self._patience)) as chunks:
            async for chunk in chunks:
                self._count(mirror, len(chunk))
                if known:
                    if chunk != await asyncio.to_thread(self._work.read, at.file_index, start, len(chunk)):
                        return False
                else:
                    await asyncio.to_thread(self._work.write, at.file_index, chunk, start)
                start += len(chunk)
        return known or await self._claim(at)

    async def _compare_block(self, mirror: Mirror) -> bool:
        """Read a block of a proven piece from a mirror, and return whether it is the same."""
        at = self._ledger.some_proven(self.book.random)
        if at is None:
            raise MirrorFault("there is nothing to compare with yet", answers=True)
        start, stop = self._ledger.span(at)
        start += BLOCK * self.book.random.randrange(-(-(stop - start) // BLOCK))
        stop = min(start + BLOCK, stop)
        url, size = self._url(mirror, at.file_index), self._ledger.size(at.file_index)
        theirs = await range_bytes(url, start, stop, size, self._patience)
        self._count(mirror, len(theirs))
        if theirs == await asyncio.to_thread(self._work.read, at.file_index, start, stop - start):
            return True
        # Ours may have changed on the disk; then nobody lied.
        if await asyncio.to_thread(self._verifier.verify_piece, at.file_index, at.piece_index):
            return False
        self._ledger.lose(at)
        raise MirrorFault("the piece to compare with is not what it was", answers=True)

    # Watches and progress

    async def _judge(self) -> None:
        if self._ledger.complete:
            return
        if self._fault is not None:
            raise self._fault
        if self.book.mirrors and not self.book.usable:
            raise TransferFailed(f"every source sent wrong bytes: {named(self.book.mirrors)}")
        match self._verdict:
            case Verdict.RESTART:
                await self._restart("too little comes")
            case Verdict.STALLED:
                raise self._stalled()
            case _:
                pass

    def _stalled(self) -> Exception:
        if alive := self.book.alive:
            return TransferStalled(f"too little comes from {named(alive)}")
        if not self.book.mirrors:
            return TransferFailed("no node that holds all of it is known")
        return TransferFailed(f"no source answers: {named(self.book.mirrors)}")

    def _share_out(self, seen: Seen) -> None:
        """Credit bytes to mirrors by their speeds: aria2 does not say who sent what."""
        self._begin_telling(seen.received)
        total = sum(seen.speeds.values())
        for mirror in seen.speeds or dict.fromkeys(seen.download.mirrors, 0):
            part = seen.speeds[mirror] / total if total else 1 / len(seen.speeds or seen.download.mirrors)
            mirror.received += part * seen.received

    def _count(self, mirror: Mirror, count: int) -> None:
        mirror.received += count
        self._begin_telling(count)

    def _begin_telling(self, count: int) -> None:
        first = not self.received
        self.received += count
        if first and count:
            self._observer.progress(self.progress())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            self._history.append((self._now(), self.received))
            while self._history[0][0] < self._now() - _RATE_SECONDS and len(self._history) > 2:
                self._history.popleft()
            self._observer.progress(self.progress())

    def progress(self) -> Progress:
        """How far it is."""
        (since, before), now = self._history[0], self._now()
        running = self._downloads.running
        flying = sum(max(0, d.completed - self._ledger.proven_bytes_of(i)) for i, d in running.items())
        by_node: dict[str, int] = {}
        for mirror in self.book.mirrors:
            if mirror.received >= 1:
                by_node[mirror.node] = by_node.get(mirror.node, 0) + int(mirror.received)
        return Progress(
            bytes_done=min(self._ledger.proven_bytes + flying, self._request.content.size),
            bytes_total=self._request.content.size,
            rate=int((self.received - before) / max(now - since, 0.001)),
            peers=len(self.book.good),
            bytes_by_source=by_node,
            received=self.received,
            restarts=self._deaths,
        )

    def _url(self, mirror: Mirror, file: int) -> str:
        return mirror.url(self._request.artifact, self._request.content.files[file].path)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _prepared(preparing: "asyncio.Task[None]") -> None:
    try:
        with transfer_errors("the files cannot be made"):
            await asyncio.shield(preparing)
    except PathRefused as e:
        raise TransferFailed(f"the files cannot be made: {e}") from e


def _added_up(seen: Iterable[Seen]) -> dict[Mirror, int]:
    speeds: dict[Mirror, int] = {}
    for one in seen:
        for mirror, speed in one.speeds.items():
            speeds[mirror] = speeds.get(mirror, 0) + speed
    return speeds
