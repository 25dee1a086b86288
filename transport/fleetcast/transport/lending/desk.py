"""Loans as the file server gives them: one `Lender` per artifact that is being borrowed, and where its pieces lie."""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fleetcast.events.content import Content
from fleetcast.transport import metainfo
from fleetcast.transport.lending.lender import STARVE_SECONDS, Lender

POLL_SECONDS = 1.0
"""A request for which there is nothing waits so long for a piece that comes back, and is answered with none then."""
LOOK_SECONDS = 0.1
"""Meanwhile it is looked at so often whether it has waited long enough for others."""
LOAN_BYTES = 256 * 1024
"""Small pieces are lent several at a time, up to this: a request costs as much as 50 KiB of payload."""
SPARE_PIECES = 0
"""Pieces that may be lent twice although nobody was lost: 5 % cost 5 % more egress and brought nothing (ADR 0012)."""


MAX_NAME = 64
"""Characters of a borrower's name; a peer tag has 20."""


@dataclass(frozen=True)
class Lendable:
    """An artifact all of which lies here, proven.

    Attributes:
        folder: where its files lie, by their paths.
    """

    content: Content
    piece_length: int
    folder: Path

    @cached_property
    def pieces(self) -> tuple[metainfo.PieceAt, ...]:
        """Every piece, in the torrent's numbering."""
        return tuple(metainfo.pieces(self.content, self.piece_length))


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one file, `start` up to and without `stop`, that are piece *piece*."""

    piece: int
    path: Path
    sha256: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Loan:
    """What one request is answered with; no parts: nothing now."""

    artifact: str
    borrower: str
    parts: tuple[Part, ...]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What tells the borrower which pieces make up the body."""
        pieces = ",".join(f"{part.piece}:{part.stop - part.start}" for part in self.parts)
        return [("Fleetcast-Pieces", pieces)]

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.stop - part.start for part in self.parts)


@dataclass(slots=True)
class _Counter:
    """One artifact that is lent; `changed` is set, and replaced, when pieces have come back."""

    lendable: Lendable
    lender: Lender
    changed: asyncio.Event


class LendingDesk:
    """Lends what *find* finds.

    Args:
        find: an artifact that lies here whole, by its name; None when it does not.
    """

    def __init__(self, find: Callable[[str], Lendable | None]) -> None:
        self._find = find
        self._counters: dict[str, _Counter] = {}

    async def borrow(self, artifact: str, borrower: str, have: int) -> Loan | None:
        """Return what *borrower*, who has *have*, is to be sent, as soon as there is something; None: not lent here.

        Every loan must be given to `close` in the end.
        """
        counter = self._counter(artifact)
        if counter is None:
            return None
        counter.lender.opened(borrower, _now())
        pieces: tuple[int, ...] = ()
        try:
            pieces = await self._pieces(counter, borrower, have)
        except BaseException:
            counter.lender.closed(borrower, pieces, _now())
            raise
        return Loan(artifact, borrower, tuple(_part(counter.lendable, piece) for piece in pieces))

    def sent(self, loan: Loan, part: Part) -> None:
        """All of a part was handed to the connection."""
        if counter := self._counters.get(loan.artifact):
            counter.lender.sent(loan.borrower, part.piece, _now())

    def close(self, loan: Loan) -> None:
        """A loan has ended, well or not."""
        counter = self._counters.get(loan.artifact)
        if counter is None:
            return
        counter.lender.closed(loan.borrower, tuple(part.piece for part in loan.parts), _now())
        changed, counter.changed = counter.changed, asyncio.Event()
        changed.set()

    def _counter(self, artifact: str) -> _Counter | None:
        lendable = self._find(artifact)
        if lendable is None:
            self._counters.pop(artifact, None)
            return None
        counter = self._counters.get(artifact)
        if counter is None:
            count = len(lendable.pieces)
            starve = STARVE_SECONDS * max(1.0, lendable.piece_length / 2**20)
            counter = _Counter(lendable, Lender(count, SPARE_PIECES, starve), asyncio.Event())
            self._counters[artifact] = counter
        return counter

    async def _pieces(self, counter: _Counter, borrower: str, have: int) -> tuple[int, ...]:
        most = max(1, LOAN_BYTES // counter.lendable.piece_length)
        until = _now() + POLL_SECONDS
        pieces = counter.lender.borrow(borrower, have, _now(), most)
        while not pieces and (left := until - _now()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(counter.changed.wait(), min(left, LOOK_SECONDS))
            pieces = counter.lender.borrow(borrower, None, _now(), most)
        return pieces


def borrower_of(headers: Mapping[str, str]) -> tuple[str, int] | None:
    """Who asks, and the pieces that are there already (bit *i*: piece *i*); None when the request does not say so.

    Args:
        headers: by name in lower case.
    """
    borrower, bits = headers.get("fleetcast-borrower", ""), headers.get("fleetcast-have", "")
    try:
        have = int.from_bytes(base64.b64decode(bits, validate=True), "little")
    except (binascii.Error, ValueError):
        return None
    return (borrower, have) if 0 < len(borrower) <= MAX_NAME else None


def _part(lendable: Lendable, piece: int) -> Part:
    at = lendable.pieces[piece]
    file = lendable.content.files[at.file_index]
    start = at.piece_index * lendable.piece_length
    stop = min(start + lendable.piece_length, file.size)
    return Part(piece, lendable.folder / file.path, file.sha256, start, stop)


def _now() -> float:
    return asyncio.get_running_loop().time()
