"""Torrent metainfo: determined by content, and read strictly."""

import os
from collections.abc import Callable

import libtorrent as lt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.transport import metainfo
from fleetcast.transport.errors import MetainfoRefused
from fleetcast.transport.metainfo import Bencodable, bdecode, bencode
from fleetcast.transport.testing import Thing, thing_of

MIB, GIB = 2**20, 2**30
BUNDLE = thing_of(
    {"a-b": os.urandom(100_000), "a/b": os.urandom(70_000), "z/y/x": os.urandom(16_384), "q": b"x"}, 16_384
)
ENCODABLE = st.recursive(
    st.integers(-(2**63), 2**63) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.binary(), inner),
    max_leaves=20,
)


def changed(thing: Thing, change: Callable[[dict[bytes, Bencodable], dict[bytes, Bencodable]], object]) -> bytes:
    """The torrent file of *thing* after change(torrent, info)."""
    top = bdecode(thing.metainfo)
    assert isinstance(top, dict)
    info = top[b"info"]
    assert isinstance(info, dict)
    change(top, info)
    return bencode(top)


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (1, 16 * 1024),
        (4 * MIB, 16 * 1024),
        (64 * MIB, 256 * 1024),
        (GIB, 4 * MIB),
        (16 * GIB, 16 * MIB),
        (64 * GIB, 16 * MIB),
        (64 * GIB + 1, 32 * MIB),
        (2**41, 256 * MIB),
    ],
)
def test_piece_lengths_give_enough_pieces_and_never_too_many(size: int, length: int) -> None:
    assert metainfo.piece_length(size) == length


@given(st.integers(1, 512 * GIB))
def test_there_are_at_most_4096_pieces(size: int) -> None:
    length = metainfo.piece_length(size)
    assert length & (length - 1) == 0
    assert metainfo.piece_count(size, length) <= metainfo.MAX_PIECES


def test_libtorrent_reads_what_we_build_and_agrees_on_the_info_hash() -> None:
    torrent = lt.load_torrent_buffer(BUNDLE.metainfo)
    read = metainfo.read(BUNDLE.metainfo, BUNDLE.content)
    assert str(torrent.info_hashes.v2) == read.info_hash
    assert not torrent.info_hashes.has_v1()
    assert torrent.ti is not None
    assert torrent.ti.priv()
    assert torrent.ti.num_pieces() == len(list(metainfo.pieces(BUNDLE.content, read.piece_length)))


def test_pieces_are_numbered_as_libtorrent_numbers_them() -> None:
    torrent = lt.load_torrent_buffer(BUNDLE.metainfo).ti
    assert torrent is not None
    files = torrent.layout()
    name = BUNDLE.artifact[:16]
    for number, at in enumerate(metainfo.pieces(BUNDLE.content, BUNDLE.piece_length)):
        (slice_, *_) = torrent.map_block(number, 0, 1)
        assert files.file_path(slice_.file_index) == f"{name}/{BUNDLE.content.files[at.file_index].path}"
        assert slice_.offset == at.piece_index * BUNDLE.piece_length


def test_what_was_built_is_read_back() -> None:
    read = metainfo.read(BUNDLE.metainfo, BUNDLE.content)
    assert read.piece_length == BUNDLE.piece_length
    assert read.data == BUNDLE.metainfo
    assert len(read.layers["a-b"]) == 7 * 32
    assert read.layers["q"].hex() == next(f.pieces_root for f in BUNDLE.content.files if f.path == "q")
    assert metainfo.build(BUNDLE.content, read.layers, read.piece_length) == BUNDLE.metainfo


def test_two_files_of_equal_bytes_share_a_layer() -> None:
    data = os.urandom(50_000)
    twins = thing_of({"a": data, "b": data}, 16_384)
    read = metainfo.read(twins.metainfo, twins.content)
    assert read.layers["a"] == read.layers["b"]


def test_metainfo_of_other_content_is_refused() -> None:
    other = thing_of({**BUNDLE.files, "q": b"y"}, 16_384)
    with pytest.raises(MetainfoRefused, match="does not describe this content"):
        metainfo.read(other.metainfo, BUNDLE.content)


@pytest.mark.parametrize(
    "change",
    [
        lambda _, info: info.update({b"private": 0}),
        lambda _, info: info.pop(b"private"),
        lambda _, info: info.update({b"name": b"../../etc"}),
        lambda _, info: info.update({b"meta version": 3}),
        lambda _, info: info[b"file tree"].update({b"more": {b"": {b"length": 1, b"pieces root": bytes(32)}}}),
        lambda _, info: info.update({b"pieces": bytes(20)}),
        lambda _, info: info.update({b"piece length": 32_768}),
        lambda _, info: info.update({b"piece length": 16_385}),
        lambda _, info: info.update({b"piece length": 2**40}),
        lambda _, info: info.update({b"piece length": b"16384"}),
        lambda _, info: info.pop(b"piece length"),
        lambda top, _: top.update({b"announce": b"http://elsewhere/announce"}),
        lambda top, _: top.update({b"url-list": b"http://elsewhere/"}),
        lambda top, _: top.pop(b"piece layers"),
        lambda top, _: top[b"piece layers"].clear(),
        lambda top, _: top[b"piece layers"].update({bytes(32): bytes(64)}),
        lambda top, _: top[b"piece layers"].update({k: bytes(len(v)) for k, v in top[b"piece layers"].items()}),
        lambda top, _: top[b"piece layers"].update({k: v[:-32] for k, v in top[b"piece layers"].items()}),
        lambda top, _: top[b"piece layers"].update(dict.fromkeys(top[b"piece layers"], 7)),
        lambda top, _: top.update({b"info": 5}),
    ],
)
def test_metainfo_that_differs_in_anything_is_refused(
    change: Callable[[dict[bytes, Bencodable], dict[bytes, Bencodable]], object],
) -> None:
    with pytest.raises(MetainfoRefused):
        metainfo.read(changed(BUNDLE, change), BUNDLE.content)


@pytest.mark.parametrize("offset", range(0, len(BUNDLE.metainfo), 7))
def test_metainfo_with_a_flipped_bit_is_refused(offset: int) -> None:
    flipped = bytearray(BUNDLE.metainfo)
    flipped[offset] ^= 1
    with pytest.raises(MetainfoRefused):
        metainfo.read(bytes(flipped), BUNDLE.content)


@pytest.mark.parametrize("length", range(0, len(BUNDLE.metainfo), 37))
def test_metainfo_that_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(MetainfoRefused):
        metainfo.read(BUNDLE.metainfo[:length], BUNDLE.content)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"i5",
        b"ie",
        b"i-e",
        b"5:abc",
        b"-1:a",
        b"99999999999999:a",
        b"d1:a",
        b"d1:ai1e1:be",
        b"di1ei2ee",
        b"x",
        b"le5",
        b"i1ei2e",
        b"l" * 5000,
        b"d1:a" * 5000,
        bytes(metainfo.MAX_METAINFO_BYTES + 1),
    ],
)
def test_bytes_that_are_not_bencoded_are_refused(data: bytes) -> None:
    with pytest.raises(MetainfoRefused):
        bdecode(data)


@given(ENCODABLE)
def test_values_survive_bencoding(value: Bencodable) -> None:
    assert bdecode(bencode(value)) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        bdecode(data)
    except MetainfoRefused:
        return


@pytest.mark.parametrize(
    ("layers", "length"),
    [({}, 16_384), ({"a-b": bytes(32 * 7)}, 16_384), ({"a-b": b"short"}, 16_384), ({}, 10_000), ({}, 8_192)],
)
def test_metainfo_is_not_built_from_wrong_layers(layers: dict[str, bytes], length: int) -> None:
    with pytest.raises(MetainfoRefused):
        metainfo.build(BUNDLE.content, layers, length)


def test_the_name_of_a_torrent_is_the_beginning_of_its_artifact() -> None:
    assert metainfo.torrent_name(BUNDLE.artifact) == BUNDLE.artifact[:16]
