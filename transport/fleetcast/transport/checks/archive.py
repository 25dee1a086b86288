"""Rules for ZIP archives: what is in the directory is true, fits, and cannot climb out (APPNOTE 6.3.10)."""

import struct
import unicodedata
import zipfile
import zlib
from typing import BinaryIO

from fleetcast.transport.checks.report import RefusedFile

MAX_DIRECTORY_BYTES = 16 * 2**20
"""A directory of 100,000 members; reading a larger one would cost more than any test."""
BOMB_FLOOR_BYTES = 64 * 2**20
"""What unpacks to less is no bomb, however well it was packed: a mask of zeros packs a thousandfold."""
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCAL = struct.Struct("<4s5H3L2H")
_SYMLINK = 0o120000
_CHUNK = 2**20


def open_archive(file: BinaryIO, size: int, ratio: float) -> zipfile.ZipFile:
    """Open an archive whose directory obeys the rules.

    Raises:
        RefusedFile: it is cut off or damaged; a name is absolute, climbs out, or is there twice; members overlap, are
            encrypted, or claim to unpack to more than *ratio* times the file.
    """
    _check_directory_size(file, size)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, EOFError, struct.error) as damaged:
        raise RefusedFile(f"the archive is cut off or damaged: {damaged}") from damaged
    members = archive.infolist()
    _check_names(members)
    for member in members:
        _check_member(member)
    _check_places(file, archive, members)
    unpacked = sum(m.file_size for m in members)
    if unpacked > max(BOMB_FLOOR_BYTES, ratio * size):
        raise RefusedFile(f"it claims to unpack to {unpacked} bytes, {unpacked / size:.0f} times its size")
    return archive


def check_crc(archive: zipfile.ZipFile) -> None:
    """Read every member and compare its CRC.

    Raises:
        RefusedFile: a member is damaged.
    """
    for member in archive.infolist():
        try:
            with archive.open(member) as opened:
                while opened.read(_CHUNK):
                    pass
        except (zipfile.BadZipFile, EOFError, OSError, zlib.error) as damaged:
            raise RefusedFile(f"member {member.filename!r} is damaged: {damaged}") from damaged


def _check_directory_size(file: BinaryIO, size: int) -> None:
    """Read the end record before anything is allocated by what it claims."""
    start = max(0, size - _END.size - 65535)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise RefusedFile("the archive is cut off: it has no directory at its end")
    claimed = int(_END.unpack_from(tail, at)[5])
    if claimed == 0xFFFFFFFF and at >= _END64_LOCATOR.size:
        claimed = _directory_size64(file, tail[at - _END64_LOCATOR.size : at])
    if claimed > MAX_DIRECTORY_BYTES:
        raise RefusedFile(f"its directory claims {claimed} bytes")
    file.seek(0)


def _directory_size64(file: BinaryIO, locator: bytes) -> int:
    magic, _disk, offset, _disks = _END64_LOCATOR.unpack(locator)
    if magic != b"PK\x06\x07" or offset >= 2**63:
        raise RefusedFile("the archive's 64-bit directory is damaged")
    file.seek(offset)
    record = file.read(_END64.size)
    if len(record) < _END64.size or not record.startswith(b"PK\x06\x06"):
        raise RefusedFile("the archive's 64-bit directory is damaged")
    return int(_END64.unpack(record)[8])


def _check_names(members: list[zipfile.ZipInfo]) -> None:
    if not members:
        raise RefusedFile("the archive is empty")
    seen = set()
    for member in members:
        name = member.orig_filename
        if name.startswith("/") or "\\" in name or ".." in name.split("/") or _unprintable(name):
            raise RefusedFile(f"member {name[:200]!r} has a name that may climb out of a folder")
        if name in seen:
            raise RefusedFile(f"member {name[:200]!r} is there twice")
        seen.add(name)


def _unprintable(name: str) -> bool:
    return any(unicodedata.category(c) == "Cc" for c in name)


def _check_member(member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 0x1:
        raise RefusedFile(f"member {member.filename!r} is encrypted")
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise RefusedFile(f"member {member.filename!r} is packed by method {member.compress_type}")
    if member.external_attr >> 16 & 0o170000 == _SYMLINK:
        raise RefusedFile(f"member {member.filename!r} is a symbolic link")
    if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
        raise RefusedFile(f"member {member.filename!r} states two sizes")


def _check_places(file: BinaryIO, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    """Members follow each other, and their own headers say what the directory says: readers trust either."""
    end = 0
    for member in sorted(members, key=lambda m: m.header_offset):
        if member.header_offset < end:
            raise RefusedFile(f"member {member.filename!r} overlaps another one")
        end = _data_start(file, member) + member.compress_size
    if end > archive.start_dir:
        raise RefusedFile("a member overlaps the directory")


def _data_start(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    file.seek(member.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        raise RefusedFile(f"member {member.filename!r} has no header where the directory says")
    _magic, _version, flags, method, _time, _date, _crc, _packed, _size, name_length, extra = _LOCAL.unpack(header)
    name = file.read(name_length).decode("utf-8" if flags & 0x800 else "cp437", errors="replace")
    if method != member.compress_type or name != member.orig_filename:
        raise RefusedFile(f"member {member.filename!r} has a header that contradicts the directory")
    return member.header_offset + _LOCAL.size + int(name_length) + int(extra)
