"""Proof of pieces: by reading back from the disk, against metainfo, as libtorrent computes it."""

import os
import threading
from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest

from fleetcast.transport import metainfo as torrent
from fleetcast.transport.hashing import hash_stream
from fleetcast.transport.pieces import BATCH_BYTES, PieceVerifier, batches

Workplace = Any


def opened(workplace: Workplace, files: dict[str, bytes], piece_length: int = 16384) -> tuple[PieceVerifier, Path]:
    content = workplace.bring(files)
    folder = workplace.store.swarm_folder(content.artifact)
    layers = {}
    for file in content.files:
        with (folder / content.artifact[:16] / file.path).open("rb", buffering=0) as stream:
            digest = hash_stream(stream, piece_length)
        assert digest.pieces_root == file.pieces_root
        layers[file.path] = digest.layer
    info = torrent.read(torrent.build(content, layers, piece_length), content)
    return PieceVerifier(info, content, folder), folder / content.artifact[:16]


@pytest.mark.parametrize("piece_length", [16384, 65536, 1 << 20])
@pytest.mark.parametrize("size", [1, 16384, 16385, 65536, 100_000, 300_000, (1 << 20) + 1])
def test_roots_and_layers_are_those_of_libtorrent(
    tmp_path: Path, random_bytes: Any, size: int, piece_length: int
) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "f").write_bytes(random_bytes(size, size))
    made = lt.create_torrent(
        [lt.create_file_entry("t/f", size)], piece_size=piece_length, flags=lt.create_torrent.v2_only
    )
    lt.set_piece_hashes(made, str(tmp_path))
    generated: Any = made.generate()
    node = generated[b"info"][b"file tree"]
    while b"" not in node:
        node = next(iter(node.values()))
    root = node[b""][b"pieces root"]
    with (tmp_path / "t" / "f").open("rb", buffering=0) as file:
        digest = hash_stream(file, piece_length)
    assert digest.pieces_root == root.hex()
    assert digest.layer == generated[b"piece layers"].get(root, root)


def test_many_pieces_are_proven_at_once_and_only_the_wrong_ones_come_back(
    workplace: Workplace, random_bytes: Any
) -> None:
    verifier, folder = opened(workplace, {"a.bin": random_bytes(100_000, 1), "b.bin": b"short", "c.bin": b"gone"})
    (folder / "c.bin").unlink()
    (folder / "a.bin").chmod(0o644)
    with (folder / "a.bin").open("r+b") as file:
        file.seek(3 * 16384 + 5)
        file.write(b"?????")
    assert verifier.verify([(0, 6), (0, 3), (2, 0), (1, 0), (0, 0)]) == [(0, 3), (2, 0)]
    assert verifier.proven == {0: {0, 6}, 1: {0}, 2: set()}
    with pytest.raises(IndexError):
        verifier.verify([(0, 7)])


def test_what_is_hashed_by_one_call_is_bounded() -> None:
    pieces = [(0, n) for n in range(100)]
    assert [len(some) for some in batches(pieces, BATCH_BYTES // 40)] == [40, 40, 20]
    assert [len(some) for some in batches(pieces[:3], 2 * BATCH_BYTES)] == [1, 1, 1]


def test_pieces_are_proven_in_any_order(workplace: Workplace, random_bytes: Any) -> None:
    verifier, _ = opened(workplace, {"a.bin": random_bytes(100_000, 1), "deep/b.bin": b"short"})
    assert verifier.missing() == [(0, n) for n in range(7)] + [(1, 0)]
    for file, piece in [(1, 0), (0, 6), (0, 0), (0, 3)]:
        assert verifier.verify_piece(file, piece)
    assert verifier.proven_bytes == 5 + (100_000 - 6 * 16384) + 2 * 16384
    for file, piece in verifier.missing():
        assert verifier.verify_piece(file, piece)
    assert verifier.complete
    assert verifier.proven_bytes == 100_005


@pytest.mark.parametrize("piece_length", [16384, 32768, 1 << 20])
def test_each_flipped_byte_is_found_in_its_piece(workplace: Workplace, random_bytes: Any, piece_length: int) -> None:
    data = random_bytes(150_000, 1)
    verifier, place = opened(workplace, {"a.bin": data}, piece_length)
    for at in (0, 16383, 16384, 70_000, 149_999):
        (place / "a.bin").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        pieces = range(-(-len(data) // piece_length))
        wrong = [piece for piece in pieces if not verifier.verify_piece(0, piece)]
        assert wrong == [at // piece_length]
        (place / "a.bin").write_bytes(data)
        assert all(verifier.verify_piece(0, piece) for piece in pieces)


def test_piece_that_was_proven_and_is_wrong_now_is_missing_again(workplace: Workplace, random_bytes: Any) -> None:
    verifier, place = opened(workplace, {"a.bin": random_bytes(40_000, 1)})
    assert verifier.verify_piece(0, 1)
    with (place / "a.bin").open("r+b") as file:
        file.seek(20_000)
        file.write(b"other")
    assert not verifier.verify_piece(0, 1)
    assert (0, 1) in verifier.missing()
    assert verifier.proven_bytes == 0


def test_file_that_is_not_there_or_too_short_does_not_match(workplace: Workplace, random_bytes: Any) -> None:
    verifier, place = opened(workplace, {"a.bin": random_bytes(40_000, 1)})
    os.truncate(place / "a.bin", 20_000)
    assert [verifier.verify_piece(0, p) for p in range(3)] == [True, False, False]
    (place / "a.bin").unlink()
    assert not verifier.verify_piece(0, 0)


def test_symbolic_link_in_place_of_a_file_does_not_match(workplace: Workplace, random_bytes: Any) -> None:
    data = random_bytes(40_000, 1)
    verifier, place = opened(workplace, {"a.bin": data})
    (workplace.root / "elsewhere").write_bytes(data)
    (place / "a.bin").unlink()
    (place / "a.bin").symlink_to(workplace.root / "elsewhere")
    assert not verifier.verify_piece(0, 0)


def test_piece_that_does_not_exist_is_a_mistake_of_the_caller(workplace: Workplace) -> None:
    verifier, _ = opened(workplace, {"a.bin": b"x"})
    for file, piece in [(0, 1), (0, -1), (1, 0)]:
        with pytest.raises(IndexError):
            verifier.verify_piece(file, piece)


def test_threads_prove_together_and_count_each_byte_once(workplace: Workplace, random_bytes: Any) -> None:
    verifier, _ = opened(workplace, {"a.bin": random_bytes(500_000, 1)})
    pieces = verifier.missing() * 3
    threads = [
        threading.Thread(target=lambda s: [verifier.verify_piece(*p) for p in s], args=(pieces[n::4],))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verifier.complete
