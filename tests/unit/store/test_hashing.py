"""The Merkle tree of BEP 52, against the definition written out plainly."""

import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.transport.hashing import (
    BLOCK,
    PieceTree,
    blocks_per_piece,
    file_root,
    hash_stream,
    layer_root,
    piece_digest,
    sha256_stream,
)

SIZES = st.one_of(st.integers(0, 40), st.integers(0, 20).flatmap(lambda n: st.integers(n * BLOCK - 2, n * BLOCK + 2)))
PIECES = st.sampled_from([BLOCK, 2 * BLOCK, 4 * BLOCK, 64 * BLOCK])


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def plain_root(leaves: list[bytes]) -> bytes:
    """All leaves, all padding, pair by pair."""
    width = 1
    while width < len(leaves):
        width *= 2
    level = leaves + [bytes(32)] * (width - len(leaves))
    while len(level) > 1:
        level = [sha256(level[n] + level[n + 1]) for n in range(0, len(level), 2)]
    return level[0]


def leaves(data: bytes) -> list[bytes]:
    return [sha256(data[n : n + BLOCK]) for n in range(0, len(data), BLOCK)]


@given(size=SIZES, piece_length=PIECES)
def test_root_is_that_of_all_leaves_whatever_the_piece_length(size: int, piece_length: int) -> None:
    data = bytes(n % 251 for n in range(max(size, 1)))
    digest = hash_stream(io.BytesIO(data), piece_length)
    assert digest.pieces_root == plain_root(leaves(data)).hex() == file_root(data).hex()
    assert digest.sha256 == hashlib.sha256(data).hexdigest() == sha256_stream(io.BytesIO(data))
    assert digest.size == len(data)


@given(size=SIZES, piece_length=PIECES)
def test_layer_has_one_node_per_piece_and_hashes_to_the_root(size: int, piece_length: int) -> None:
    data = bytes(n % 251 for n in range(max(size, 1)))
    digest = hash_stream(io.BytesIO(data), piece_length)
    pieces = [data[n : n + piece_length] for n in range(0, len(data), piece_length)]
    assert len(digest.layer) == 32 * len(pieces)
    if len(pieces) > 1:
        assert digest.layer == b"".join(piece_digest(p, piece_length) for p in pieces)
        assert layer_root(digest.layer, piece_length).hex() == digest.pieces_root
    else:
        assert digest.layer.hex() == digest.pieces_root


@given(st.lists(st.integers(1, 5), max_size=6), st.integers(1, BLOCK))
def test_chunks_may_have_any_number_of_blocks(blocks: list[int], last: int) -> None:
    chunks = [bytes([n]) * (n * BLOCK) for n in blocks] + [b"x" * last]
    tree = PieceTree(2 * BLOCK)
    for chunk in chunks:
        tree.update(chunk)
    assert tree.root() == file_root(b"".join(chunks))


def test_nothing_follows_a_chunk_that_ended_within_a_block() -> None:
    tree = PieceTree(BLOCK)
    tree.update(b"short")
    with pytest.raises(ValueError, match="did not end with a block"):
        tree.update(b"more")


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK + 1, 3 * BLOCK, -BLOCK])
def test_piece_length_is_a_power_of_two_of_at_least_a_block(length: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        blocks_per_piece(length)


@pytest.mark.parametrize("layer", [b"", b"x", b"x" * 33])
def test_layer_is_whole_nodes(layer: bytes) -> None:
    with pytest.raises(ValueError, match="nodes of 32 bytes"):
        layer_root(layer, BLOCK)


def test_what_is_hashed_is_handed_to_the_sink() -> None:
    taken = bytearray()
    hash_stream(io.BytesIO(b"x" * 100_000), BLOCK, taken.extend)
    assert taken == b"x" * 100_000


def test_short_reads_are_put_together() -> None:
    class Slow:
        def __init__(self) -> None:
            self.left = 100_000

        def readinto(self, buffer: bytearray | memoryview, /) -> int:
            count = min(self.left, 777, len(buffer))
            buffer[:count] = b"x" * count
            self.left -= count
            return count

    assert hash_stream(Slow(), BLOCK) == hash_stream(io.BytesIO(b"x" * 100_000), BLOCK)


def test_error_of_the_sink_is_not_hidden() -> None:
    def full(_chunk: memoryview) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        hash_stream(io.BytesIO(b"x"), BLOCK, full)
