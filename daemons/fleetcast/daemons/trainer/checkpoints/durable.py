"""Which files and folders are checkpoints that a run can go on from.

A name is no proof, and the highest number least of all: a job that is killed while it saves leaves the newest name with
half of the bytes. A checkpoint is durable when its writer says so, or when its form tells that it is whole: an archive
has its directory at the end, a safetensors file the length that its head announces, torch's distributed checkpoint its
`.metadata`, which is renamed last; a file without such a form has to come by rename, a folder with a marker.
"""

import hashlib
import json
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleetcast.events.training import CheckpointRecord

DCP_METADATA: Final = ".metadata"
"""Renamed to this name after all shards were written and synced (torch.distributed.checkpoint, FileSystemWriter)."""
MARKERS: Final = (".complete", "_SUCCESS")
"""Files that say that the folder which they lie in is complete."""
HASHED_BYTES: Final = 256 * 2**20
"""Files up to this size are named by their SHA-256 as well: 0.3 s of reading."""
MOST_FILES: Final = 100_000
_LONGEST_HEAD: Final = 128 * 2**20
_UNFINISHED = re.compile(r"\..*|.*~|.*\.(tmp|temp|part|partial|incomplete|writing|swp)([._-].*)?|(tmp|temp)[._-].*")
_NO_ARCHIVE = (zipfile.BadZipFile, ValueError, RuntimeError, OverflowError, EOFError, struct.error)
"""What reading a damaged archive raises: of one that a newer version needs, that it is not implemented."""
_ARCHIVES = frozenset({".npz", ".pt", ".pth", ".ckpt"})


@dataclass(frozen=True, slots=True)
class Seen:
    """What lies under a name at one moment.

    Attributes:
        size: bytes of the file, or of all files in the folder.
        changed_ns: when the newest of them was written, nanoseconds of the node's clock.
        stamp: differs after every change.
        renamed: whether its name is younger than its bytes.
        names: paths below a folder; empty for a file.
    """

    path: Path
    is_folder: bool
    size: int
    changed_ns: int
    stamp: tuple[int, ...]
    renamed: bool
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a run can go on from something; `why`: how that is known, or what speaks against it."""

    durable: bool
    why: str


def candidates(folder: Path) -> list[Path]:
    """What in *folder* may be a checkpoint; nothing that is hidden or named as unfinished."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if not _UNFINISHED.fullmatch(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def see(path: Path) -> Seen | None:
    """What lies at *path*; None: nothing that has bytes, or something that is neither a file nor a folder of files."""
    try:
        found = path.lstat()
        if stat.S_ISREG(found.st_mode):
            return _file(path, found)
        return _folder(path, found) if stat.S_ISDIR(found.st_mode) else None
    except OSError:
        return None  # it went away while it was looked at


def _file(path: Path, found: os.stat_result) -> Seen | None:
    if not found.st_size:
        return None
    stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    # Renaming touches the inode and not the bytes; whoever writes in place leaves both times the same.
    renamed = found.st_ctime_ns > found.st_mtime_ns
    return Seen(path, False, found.st_size, found.st_mtime_ns, stamp, renamed)


def _folder(path: Path, found: os.stat_result) -> Seen | None:
    size = newest = total = 0
    names = set()
    for name, entry in _files_below(path):
        if not stat.S_ISREG(entry.st_mode):
            return None
        size += entry.st_size
        newest = max(newest, entry.st_mtime_ns)
        total ^= hash((name, entry.st_ino, entry.st_size, entry.st_mtime_ns))
        names.add(name)
        if len(names) > MOST_FILES:
            return None
    if not size:
        return None
    stamp = (found.st_dev, found.st_ino, size, newest, total)
    return Seen(path, True, size, newest, stamp, False, frozenset(names))


def _files_below(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    for place, _, names in os.walk(folder):
        for name in names:
            whole = Path(place) / name
            yield str(whole.relative_to(folder)), whole.lstat()


def judge(seen: Seen, *, announced_bytes: int | None = None, quiet: bool = False) -> Verdict:
    """Whether a run can go on from what was seen.

    Args:
        announced_bytes: size that its writer said when it said that it is complete; None: it said nothing.
        quiet: whether it was the same before, at least one look ago, or its writer is gone.
    """
    if seen.is_folder:
        return _judge_folder(seen, announced_bytes)
    return _judge_file(seen, announced_bytes, quiet)


def _judge_folder(seen: Seen, announced_bytes: int | None) -> Verdict:
    if DCP_METADATA in seen.names:
        if f"{DCP_METADATA}.tmp" in seen.names:
            return Verdict(False, f"{DCP_METADATA} is being written")
        shards = [name for name in seen.names if name.endswith(".distcp")]
        return Verdict(bool(shards), f"{DCP_METADATA} is there" if shards else "it has no shards")
    marker = next((name for name in MARKERS if name in seen.names), None)
    if marker is not None:
        return Verdict(True, f"{marker} is there")
    if announced_bytes is not None and announced_bytes == seen.size:
        return Verdict(True, "announced as complete")
    lacks = f"{DCP_METADATA} or a marker ({', '.join(MARKERS)})"
    return Verdict(False, f"a folder without {lacks}, and nobody announced it")


def _judge_file(seen: Seen, announced_bytes: int | None, quiet: bool) -> Verdict:
    try:
        form = _form(seen.path)
        if form == "archive":
            return _archive(seen.path)
        if form == "safetensors":
            return _safetensors(seen)
    except OSError as gone:
        return Verdict(False, f"it cannot be read: {gone.strerror}")
    if seen.path.suffix in {".npz", ".safetensors"}:
        return Verdict(False, f"its first bytes are not those of a {seen.path.suffix} file")
    if announced_bytes is not None:
        return Verdict(announced_bytes == seen.size, f"announced with {announced_bytes} bytes, has {seen.size}")
    if not seen.renamed:
        return Verdict(False, "written in place: its bytes do not tell whether it is whole, and nobody announced it")
    return Verdict(quiet, "came by rename" if quiet else "came a moment ago")


def _form(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(10)
    if head.startswith(b"PK\x03\x04"):
        return "archive"
    if path.suffix in {".safetensors"} or (head[8:10] == b'{"' and path.suffix not in _ARCHIVES):
        return "safetensors"
    return "other"


def _archive(path: Path) -> Verdict:
    """Archives end with their directory: one that was cut off anywhere has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return Verdict(bool(archive.infolist()), "its directory is whole")
    except _NO_ARCHIVE as cut:
        return Verdict(False, f"an archive that is cut off or damaged: {cut}")


def _safetensors(seen: Seen) -> Verdict:
    with seen.path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_LONGEST_HEAD, seen.size):
            return Verdict(False, "its head is cut off")
        try:
            head = json.loads(file.read(length))
            ends = [int(entry["data_offsets"][1]) for name, entry in head.items() if name != "__metadata__"]
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            return Verdict(False, "its head cannot be read")
    expected = 8 + length + max(ends, default=0)
    return Verdict(expected == seen.size, f"its head announces {expected} bytes, it has {seen.size}")


def digest(path: Path) -> str | None:
    """SHA-256 of a file that is not too large to be read whole; None: it is, or is a folder."""
    if path.is_dir() or path.stat().st_size > HASHED_BYTES:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(record: CheckpointRecord) -> str:
    """What speaks against going on from a checkpoint that was committed on this node; empty: nothing.

    Raises:
        OSError: it cannot be looked at.
    """
    path = Path(record.path)
    seen = see(path)
    if seen is None:
        return f"{path} is gone or empty"
    if record.size and seen.size != record.size:
        return f"{path} has {seen.size} bytes, and had {record.size} when it was committed"
    if record.sha256 is not None and (found := digest(path)) is not None and found != record.sha256:
        return f"{path} has other bytes than when it was committed"
    if record.sha256 is None and record.changed_ns and seen.changed_ns != record.changed_ns:
        return f"{path} was written after it was committed"
    verdict = judge(seen, announced_bytes=record.size, quiet=True)
    return "" if verdict.durable or not _tells(seen) else f"{path}: {verdict.why}"


def _tells(seen: Seen) -> bool:
    """Whether the form of something says more than that it was announced."""
    return (seen.is_folder and DCP_METADATA in seen.names) or (not seen.is_folder and _form(seen.path) != "other")


def make_last(path: Path) -> None:
    """Have a checkpoint survive a power cut, before anybody is told that it exists.

    Raises:
        OSError: the disk says no.
    """
    for place in [path, *(path / name for name, _ in _files_below(path))] if path.is_dir() else [path]:
        _sync(place)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
