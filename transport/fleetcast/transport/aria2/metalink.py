"""The order for one file, as aria2 takes it: a Metalink with its size, piece length and mirrors (RFC 5854). Pure.

aria2 knows no other way to pieces of under 1 MiB, which is what swarms leave behind. It takes the length from the list
of piece hashes, so there is one; it is never looked at (`realtime-chunk-checksum=false`), because aria2 knows no Merkle
trees: pieces are proven by whoever waits for them.
"""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from fleetcast.transport.metainfo import piece_count

_NO_HASH = "<hash>" + 32 * "0" + "</hash>"


def metalink(name: str, size: int, piece_length: int, urls: Sequence[str]) -> bytes:
    """Return the document.

    Args:
        name: name of the file in the folder that aria2 is told.
        size: bytes.
        piece_length: bytes.
        urls: where the file is; at least one.
    """
    hashes = _NO_HASH * piece_count(size, piece_length)
    mirrors = "".join(f"<url>{escape(url)}</url>" for url in urls)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><metalink xmlns="urn:ietf:params:xml:ns:metalink">'
        f'<file name="{name}"><size>{size}</size><pieces length="{piece_length}" type="md5">{hashes}</pieces>'
        f"{mirrors}</file></metalink>"
    ).encode()
