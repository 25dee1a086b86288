"""How much a torrent may receive before its peers have shown that they send what is right: pure, standard library only.

A liar costs what it sends until its first piece is hashed: on a quick network everything, with all pieces that honest
peers had a part in, for which they are banned with it. So the first pieces come slowly, and each one that is right lets
more come; a wrong one begins it anew (measured in ADR 0020).
"""

from dataclasses import dataclass

FIRST_BYTES_PER_SECOND = 4 * 2**20
FIRST_PIECES_PER_SECOND = 16
"""The larger one of both is where it begins: a piece, of whatever size, takes some hundredths of a second."""
GROWTH = 1.5
"""What a right piece multiplies it by."""
ENOUGH = 16
"""So many right pieces end it: 650 times as much as at first."""


@dataclass(slots=True)
class Trial:
    """The trial of one torrent; *piece_length* in bytes."""

    piece_length: int
    _right: int = 0

    @property
    def limit(self) -> int:
        """Bytes per second that may come; 0: any."""
        if self._right >= ENOUGH:
            return 0
        first = max(FIRST_BYTES_PER_SECOND, FIRST_PIECES_PER_SECOND * self.piece_length)
        return int(first * GROWTH**self._right)

    def right(self) -> None:
        """A piece was right."""
        self._right = min(ENOUGH, self._right + 1)

    def wrong(self) -> None:
        """A piece was wrong."""
        self._right = 0
