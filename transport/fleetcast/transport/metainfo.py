"""Torrent metainfo for content: version 2 only, private, determined by content and piece length (BEP 52, 27 and 3).

Equal content and piece length give equal bytes on every node, hence equal info-hashes. So metainfo from elsewhere is
read strictly: whatever differs from what `build` would make is refused. Nothing here needs libtorrent.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from fleetcast.events.content import Content, ContentFile
from fleetcast.transport.errors import MetainfoRefused
from fleetcast.transport.hashing import BLOCK, NODE, layer_root

MAX_PIECE_LENGTH = 256 * 2**20
"""Largest piece length that libtorrent 2.1 takes; reached only above 512 GiB."""
FINE_PIECES = 256
"""Pieces aimed for: a node shares a piece only when it is whole, so there must not be few; each one costs CPU time in
every process that it passes, so there must not be many (ADR 0012)."""
COARSE_PIECE_LENGTH = 16 * 2**20
"""From here on pieces grow only to stay below MAX_PIECES."""
MAX_PIECES = 4096
"""Metainfo then stays below 128 KiB and travels inside one event."""

MAX_METAINFO_BYTES = 16 * 2**20
"""More is refused unread: 4,096 files with names of 512 bytes and 8,192 pieces need less than 4 MiB."""
MAX_DEPTH = 300
"""Nesting of values; a path of 512 bytes has at most 256 folders."""

Bencodable: TypeAlias = "int | bytes | list[Bencodable] | dict[bytes, Bencodable]"


@dataclass(frozen=True, slots=True)
class PieceAt:
    """A piece of one file: positions of the file in `content.files` and of the piece in the file."""

    file_index: int
    piece_index: int


@dataclass(frozen=True, slots=True)
class Metainfo:
    """What a torrent file says beyond its content.

    Attributes:
        piece_length: bytes of every piece but the last one of each file; a power of two.
        layers: by path, the Merkle nodes of the pieces, 32 bytes each, joined; of a file of one piece, its pieces root.
        info_hash: version 2 info-hash, 64 hexadecimal digits.
        data: the torrent file.
    """

    piece_length: int
    layers: Mapping[str, bytes]
    info_hash: str
    data: bytes


def piece_length(size: int) -> int:
    """Return the piece length for content of *size* bytes: a power of two of at least 16 KiB.

    About 250 pieces up to 4 GiB, then pieces of 16 MiB, and larger ones where there would be more than 4,096.
    Files of a bundle round up to whole pieces, one more each at most.
    """
    length = BLOCK
    while length < COARSE_PIECE_LENGTH and size > FINE_PIECES * length:
        length *= 2
    while length < MAX_PIECE_LENGTH and size > MAX_PIECES * length:
        length *= 2
    return length


def piece_count(size: int, length: int) -> int:
    """Return the number of pieces of a file of *size* bytes."""
    return -(-size // length)


def build(content: Content, layers: Mapping[str, bytes], piece_length: int) -> bytes:
    """Return the torrent file of *content*: bencoded, and nothing in it that the arguments do not determine.

    Args:
        content: the files.
        layers: by path, the piece hashes of every file larger than a piece, 32 bytes each, joined. Others are ignored.
        piece_length: bytes; a power of two of at least 16 KiB.

    Raises:
        MetainfoRefused: the piece length is none, or a layer is missing or does not hash to the file's pieces root.
    """
    _check_piece_length(piece_length)
    kept: dict[bytes, Bencodable] = {
        bytes.fromhex(file.pieces_root): _checked_layer(file, layers, piece_length)
        for file in content.files
        if file.size > piece_length
    }
    return bencode({b"info": _info(content, piece_length), b"piece layers": kept})


def read(metainfo: bytes, content: Content) -> Metainfo:
    """Read a torrent file that comes from elsewhere.

    Raises:
        MetainfoRefused: it is damaged, or is not exactly what `build` makes of *content*: names, sizes, roots, layers
            that hash to the roots, the private flag, and no other key (no trackers, no web seeds).
    """
    top = _as_dict(bdecode(metainfo), "the torrent file")
    info = _as_dict(top.get(b"info"), "info")
    length = info.get(b"piece length")
    if not isinstance(length, int):
        raise MetainfoRefused("the torrent file states no piece length")
    _check_piece_length(length)
    layers = _layers_by_path(content, length, _as_dict(top.get(b"piece layers"), "piece layers"))
    _check_same(info, _info(content, length))
    if build(content, layers, length) != metainfo:
        raise MetainfoRefused("the torrent file holds more than the content it is for, e.g. trackers or unused layers")
    return Metainfo(length, layers, hashlib.sha256(bencode(info)).hexdigest(), metainfo)


def torrent_order(content: Content) -> list[int]:
    """Return the positions of `content.files` in the order in which the torrent numbers its pieces.

    The file tree is ordered folder by folder, so `a/b` comes before `a-b`, which whole paths order the other way round.
    """
    return sorted(range(len(content.files)), key=lambda i: [s.encode() for s in content.files[i].path.split("/")])


def pieces(content: Content, piece_length: int) -> Iterator[PieceAt]:
    """Yield every piece in the order of the torrent's numbering; each file starts a new piece."""
    for index in torrent_order(content):
        for piece in range(piece_count(content.files[index].size, piece_length)):
            yield PieceAt(index, piece)


def torrent_name(artifact: str) -> str:
    """Return the torrent's name, which is also the folder of the files below the save path."""
    return artifact[:16]


def bencode(value: Bencodable) -> bytes:
    """Encode as BEP 3 says: dictionaries in the order of their raw keys."""
    match value:
        case int():
            return b"i%de" % value
        case bytes():
            return b"%d:%b" % (len(value), value)
        case list():
            return b"l" + b"".join(map(bencode, value)) + b"e"
        case dict():
            return b"d" + b"".join(bencode(k) + bencode(v) for k, v in sorted(value.items())) + b"e"


def bdecode(data: bytes) -> Bencodable:
    """Decode bencoded bytes.

    Raises:
        MetainfoRefused: they are damaged, too large or nested too deeply, or something follows the value.
    """
    if len(data) > MAX_METAINFO_BYTES:
        raise MetainfoRefused(f"a torrent file of {len(data)} bytes; at most {MAX_METAINFO_BYTES} are read")
    try:
        value, end = _decode(data, 0, MAX_DEPTH)
    except (ValueError, IndexError) as e:
        raise MetainfoRefused(f"the torrent file is damaged: {e}") from e
    if end != len(data):
        raise MetainfoRefused(f"{len(data) - end} bytes follow the torrent file")
    return value


def _decode(data: bytes, at: int, depth: int) -> tuple[Bencodable, int]:
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at, at + 24)
        return int(data[at + 1 : end]), end + 1
    if kind.isdigit():
        colon = data.index(b":", at, at + 12)
        end = colon + 1 + int(data[at:colon])
        if end > len(data):
            raise ValueError("it is cut off")
        return data[colon + 1 : end], end
    if kind in {b"l", b"d"} and depth:
        return _decode_nested(data, at, depth - 1)
    raise ValueError(f"no value at byte {at}" if depth else "nested too deeply")


def _decode_nested(data: bytes, at: int, depth: int) -> tuple[Bencodable, int]:
    items: list[Bencodable] = []
    is_dict, at = data[at : at + 1] == b"d", at + 1
    while data[at] != ord("e"):
        item, at = _decode(data, at, depth)
        items.append(item)
    if not is_dict:
        return items, at + 1
    keys = [k for k in items[::2] if isinstance(k, bytes)]
    if len(keys) * 2 != len(items):
        raise ValueError("a dictionary with an odd number of items or a key that is no string")
    return dict(zip(keys, items[1::2], strict=True)), at + 1


def _info(content: Content, length: int) -> dict[bytes, Bencodable]:
    return {
        b"file tree": _file_tree(content),
        b"meta version": 2,
        b"name": torrent_name(content.artifact).encode(),
        b"piece length": length,
        b"private": 1,
    }


def _file_tree(content: Content) -> dict[bytes, Bencodable]:
    tree: dict[bytes, Bencodable] = {}
    for file in content.files:
        *folders, name = file.path.encode().split(b"/")
        node = tree
        for folder in folders:
            node = _as_dict(node.setdefault(folder, {}), file.path)
        node[name] = {b"": {b"length": file.size, b"pieces root": bytes.fromhex(file.pieces_root)}}
    return tree


def _checked_layer(file: ContentFile, layers: Mapping[str, bytes], length: int) -> bytes:
    layer, expected = layers.get(file.path, b""), piece_count(file.size, length)
    if len(layer) != NODE * expected:
        raise MetainfoRefused(f"{file.path}: {len(layer) // NODE} piece hashes, {expected} expected")
    if layer_root(layer, length).hex() != file.pieces_root:
        raise MetainfoRefused(f"{file.path}: its piece hashes do not add up to its pieces root")
    return layer


def _layers_by_path(content: Content, length: int, found: dict[bytes, Bencodable]) -> dict[str, bytes]:
    layers: dict[str, bytes] = {}
    for file in content.files:
        root = bytes.fromhex(file.pieces_root)
        layer = found.get(root, b"") if file.size > length else root
        layers[file.path] = layer if isinstance(layer, bytes) else b""
    return layers


def _check_same(found: dict[bytes, Bencodable], expected: dict[bytes, Bencodable]) -> None:
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            raise MetainfoRefused(
                f"the torrent file does not describe this content: {key.decode(errors='replace')!r} differs"
            )


def _check_piece_length(length: int) -> None:
    if not BLOCK <= length <= MAX_PIECE_LENGTH or length & (length - 1):
        raise MetainfoRefused(f"piece length {length} is not a power of two from 16 KiB to 256 MiB")


def _as_dict(value: object, what: str) -> dict[bytes, Bencodable]:
    if not isinstance(value, dict):
        raise MetainfoRefused(f"{what} is not a dictionary")
    return value
