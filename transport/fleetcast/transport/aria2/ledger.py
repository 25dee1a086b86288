"""Which pieces of a transfer are proven. Pure."""

from collections.abc import Collection, Mapping
from random import Random

from fleetcast.events.content import Content
from fleetcast.transport.aria2.control import ControlFile, bitfield_of
from fleetcast.transport.metainfo import PieceAt, piece_count


class Ledger:
    """The pieces of every file, by position of the file in the content and of the piece in the file.

    Args:
        have: the pieces that are proven already (`FetchRequest.have`).
    """

    def __init__(self, content: Content, piece_length: int, have: Mapping[int, Collection[int]]) -> None:
        self.piece_length = piece_length
        self._sizes = [file.size for file in content.files]
        self._counts = [piece_count(size, piece_length) for size in self._sizes]
        self.missing = [set(range(n)).difference(have.get(f, ())) for f, n in enumerate(self._counts)]

    @property
    def complete(self) -> bool:
        """Whether every piece is proven."""
        return not any(self.missing)

    @property
    def proven_bytes(self) -> int:
        """Bytes of the proven pieces."""
        return sum(map(self.proven_bytes_of, range(len(self._sizes))))

    def proven_bytes_of(self, file: int) -> int:
        """Bytes of the proven pieces of one file."""
        last = self._counts[file] - 1
        short = self._counts[file] * self.piece_length - self._sizes[file] if last in self.missing[file] else 0
        return self._sizes[file] - len(self.missing[file]) * self.piece_length + short

    def size(self, file: int) -> int:
        """Bytes of a file."""
        return self._sizes[file]

    def span(self, at: PieceAt) -> tuple[int, int]:
        """Where a piece begins in its file, and where it ends."""
        start = at.piece_index * self.piece_length
        return start, min(start + self.piece_length, self._sizes[at.file_index])

    def is_missing(self, at: PieceAt) -> bool:
        """Whether a piece is not proven."""
        return at.piece_index in self.missing[at.file_index]

    def prove(self, at: PieceAt) -> None:
        """A piece is proven."""
        self.missing[at.file_index].discard(at.piece_index)

    def lose(self, at: PieceAt) -> None:
        """A piece is not what it was."""
        self.missing[at.file_index].add(at.piece_index)

    def some_missing(self, random: Random, but: Collection[PieceAt]) -> PieceAt | None:
        """Any piece that is missing, preferably none of *but*; None when all are there."""
        pieces = [PieceAt(file, piece) for file, missing in enumerate(self.missing) for piece in sorted(missing)]
        free = [at for at in pieces if at not in but]
        return random.choice(free or pieces) if pieces else None

    def some_proven(self, random: Random) -> PieceAt | None:
        """Any proven piece; None when there is none."""
        files = [f for f, count in enumerate(self._counts) if len(self.missing[f]) < count]
        if not files:
            return None
        file = random.choice(files)
        return PieceAt(file, random.choice([p for p in range(self._counts[file]) if p not in self.missing[file]]))

    def control(self, file: int) -> ControlFile:
        """What aria2 is told about a file."""
        count = self._counts[file]
        proven = (piece for piece in range(count) if piece not in self.missing[file])
        return ControlFile(self.piece_length, self._sizes[file], bitfield_of(proven, count))

    def count(self, file: int) -> int:
        """Pieces of a file."""
        return self._counts[file]
