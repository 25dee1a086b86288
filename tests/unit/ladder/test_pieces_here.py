"""Which pieces a hand-over reads back: those of which something lies on the disk."""

from pathlib import Path

import pytest

from fleetcast.transport import metainfo
from fleetcast.transport.pieces import PieceVerifier
from fleetcast.transport.testing import Thing, thing_of

PIECE = 64 * 1024


def sparse(tmp_path: Path, written: list[tuple[int, int]], pieces: int = 16) -> tuple[PieceVerifier, Thing]:
    """A verifier over a file in which only the given pieces, with how many of their bytes, were written."""
    thing = thing_of({"m.bin": bytes(range(1, 1 + pieces)) * PIECE}, PIECE)
    data = thing.files["m.bin"]
    path = thing.path(tmp_path)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(len(data))
        for piece, count in written:
            file.seek(piece * PIECE)
            file.write(data[piece * PIECE : piece * PIECE + count])
    return PieceVerifier(metainfo.read(thing.metainfo, thing.content), thing.content, tmp_path), thing


@pytest.mark.parametrize("written", [[], [0], [15], [3, 4, 9], list(range(16))])
def test_exactly_the_pieces_that_were_written_are_read(tmp_path: Path, written: list[int]) -> None:
    verifier, _ = sparse(tmp_path, [(piece, PIECE) for piece in written])

    assert verifier.unproven_here() == [(0, piece) for piece in written]
    assert all(verifier.verify_piece(*at) for at in verifier.unproven_here())
    assert verifier.proven == {0: frozenset(written)}
    assert verifier.unproven_here() == []


def test_a_piece_that_came_in_part_is_read_and_is_not_proven(tmp_path: Path) -> None:
    verifier, _ = sparse(tmp_path, [(2, PIECE), (7, 100)])

    assert verifier.unproven_here() == [(0, 2), (0, 7)]
    assert [verifier.verify_piece(*at) for at in verifier.unproven_here()] == [True, False]
    assert verifier.proven == {0: frozenset({2})}


def test_a_folder_without_files_has_nothing_to_read(tmp_path: Path) -> None:
    thing = thing_of({"m.bin": b"x" * 3 * PIECE}, PIECE)
    verifier = PieceVerifier(metainfo.read(thing.metainfo, thing.content), thing.content, tmp_path)

    assert verifier.unproven_here() == []
    assert verifier.proven == {0: frozenset()}
