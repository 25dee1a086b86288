"""Which pieces a node that has everything lends, and to whom. Pure; owned by the loop of the file server.

Sets of pieces are integers: bit *i* is piece *i*. Times are of one clock, in seconds.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

SILENT_SECONDS = 3.0
"""A borrower without an open request is taken for gone after this: it asks again within milliseconds otherwise."""
SETTLE_SECONDS = 10.0
"""A piece that was handed over and is still not reported after this was lost on the way to the disk."""
STARVE_SECONDS = 4.0
"""For pieces of 1 MiB and less; longer for larger ones, of which one comes seldom on a slow link."""
HELP_SECONDS = 1.0
"""A piece that nobody reports for so long may be lent a second time, to somebody who is quicker."""
AHEAD_LOANS = 1
"""Who was lent so many loans more than the median of at least three lets the others go first. The median: a few slow
ones hold nobody back."""
RECENT_PIECES = 32
"""What the rate of lending is measured over."""
LAGS_BELOW = 0.25
"""Share of the best rate of lending below which nobody is held back: the others are slow, and the line would rest."""
FORGETTING = 0.99
"""What the best rate counts for after each further piece."""
AT_ONCE = 16
"""Pieces in one loan to every borrower: they share the line, so that with many of them all would have to wait for the
first piece that anybody can pass on."""
BATCHES_LEFT = 4
"""Loans that every borrower should still be able to take: so loans shrink towards the end."""


@dataclass(slots=True)
class _Borrower:
    """What is known of one node: the pieces it has, when it was heard last, its open requests, its loans."""

    have: int = 0
    heard: float = 0.0
    open: int = 0
    loans: dict[int, float | None] = field(default_factory=dict)
    """By piece: when its last byte was sent; None before."""
    lent: int = 0
    fed: float = 0.0
    """When somebody else last gave it a piece, or it came."""


class _Pace:
    """How quickly pieces are handed over, against the best of late."""

    def __init__(self) -> None:
        self._moments: deque[float] = deque(maxlen=RECENT_PIECES)
        self._best = 0.0

    def note(self, now: float) -> None:
        """A piece was handed over."""
        self._moments.append(now)
        self._best = max(self._best * FORGETTING, self._rate(now))

    def lags(self, now: float) -> bool:
        """Whether the line could carry more, as far as is known."""
        return self._rate(now) < LAGS_BELOW * self._best

    def _rate(self, now: float) -> float:
        if len(self._moments) < RECENT_PIECES:
            return 0.0
        return RECENT_PIECES / max(now - self._moments[0], 1e-6)


class Lender:
    """Lends every piece once, and again when it was lost.

    Args:
        pieces: how many there are.
        spare: pieces that may be lent to a second node although the first one lives.
        starve_seconds: a borrower whom nobody else gives a piece for so long is cut off from the others, and is lent
            whatever it lacks.
    """

    def __init__(self, pieces: int, spare: int, starve_seconds: float = STARVE_SECONDS) -> None:
        self._starve_seconds = starve_seconds
        self._all = (1 << pieces) - 1
        self._spare = spare
        self._borrowers: dict[str, _Borrower] = {}
        self._pace = _Pace()

    def borrow(self, borrower: str, have: int | None, now: float, most: int) -> tuple[int, ...]:
        """Return adjacent pieces, *most* at most, that *borrower* is to be sent; none: ask later.

        Args:
            have: what it said that it has; None: what it said last, since a request that has waited is old news.
        """
        said = self._borrowers[borrower].have if have is None else have & self._all
        self._hear(borrower, said, now)
        self._forget_lost(now)
        free = self._all & ~self._covered()
        known = self._borrowers[borrower]
        if free and self._is_ahead(known, most) and not self._pace.lags(now):
            return ()
        if not free and now - known.fed > self._starve_seconds:
            free = self._all & ~known.have & ~_bits(known.loans)
        pieces = _first_run(free, self._batch(free, most)) if free else self._second(borrower, now)
        known.loans.update(dict.fromkeys(pieces))
        known.lent |= _bits(pieces)
        return pieces

    def opened(self, borrower: str, now: float) -> None:
        """A request of *borrower* is being answered: it lives until `closed`."""
        self._borrowers.setdefault(borrower, _Borrower(fed=now)).open += 1

    def sent(self, borrower: str, piece: int, now: float) -> None:
        """All of a piece was handed over."""
        if (known := self._borrowers.get(borrower)) and piece in known.loans:
            known.loans[piece] = known.heard = now
            self._pace.note(now)

    def closed(self, borrower: str, pieces: tuple[int, ...], now: float) -> None:
        """A request has ended; those of *pieces* that were not sent whole go back."""
        if known := self._borrowers.get(borrower):
            known.open, known.heard = known.open - 1, now
            for piece in pieces:
                if known.loans.get(piece, now) is None:
                    del known.loans[piece]

    def _hear(self, borrower: str, have: int, now: float) -> None:
        known = self._borrowers.setdefault(borrower, _Borrower(fed=now))
        if have & ~known.have & ~known.lent:
            known.fed = now
        known.have, known.heard = have, now
        for piece in [p for p in known.loans if have >> p & 1]:
            del known.loans[piece]

    def _forget_lost(self, now: float) -> None:
        for name, known in list(self._borrowers.items()):
            if not known.open and now - known.heard > SILENT_SECONDS:
                del self._borrowers[name]
                continue
            for piece in [p for p, at in known.loans.items() if at is not None and now - at > SETTLE_SECONDS]:
                del known.loans[piece]

    def _covered(self) -> int:
        """Pieces that somebody has or was lent."""
        covered = 0
        for known in self._borrowers.values():
            covered |= known.have | _bits(known.loans)
        return covered

    def _is_ahead(self, known: _Borrower, most: int) -> bool:
        """Whether it was lent far more than others: its own line would have to bring all of that to all of them."""
        lent = [b.lent.bit_count() for b in self._borrowers.values()]
        return len(lent) > 2 and known.lent.bit_count() > median(lent) + AHEAD_LOANS * most

    def _batch(self, free: int, most: int) -> int:
        left = free.bit_count() // (BATCHES_LEFT * len(self._borrowers))
        return max(1, min(most, left, AT_ONCE // len(self._borrowers)))

    def _second(self, borrower: str, now: float) -> tuple[int, ...]:
        """One piece that was lent to others long ago, and that nobody reports."""
        mine = self._borrowers[borrower]
        reported = 0
        for known in self._borrowers.values():
            reported |= known.have
        late = {
            piece
            for known in self._borrowers.values()
            for piece, at in known.loans.items()
            if not reported >> piece & 1 and piece not in mine.loans and at is not None and now - at > HELP_SECONDS
        }
        if not late or not self._spare:
            return ()
        self._spare -= 1
        return (min(late),)


def _bits(pieces: Iterable[int]) -> int:
    bits = 0
    for piece in pieces:
        bits |= 1 << piece
    return bits


def _first_run(free: int, most: int) -> tuple[int, ...]:
    """The first adjacent pieces of a set that is not empty."""
    first = (free & -free).bit_length() - 1
    count = 1
    while count < most and free >> (first + count) & 1:
        count += 1
    return tuple(range(first, first + count))
