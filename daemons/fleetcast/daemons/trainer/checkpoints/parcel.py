"""A checkpoint as one file, the form in which it travels: a tar archive without compression.

One plain file has no format test that a pickle of an optimizer would fail, keeps the names with a dot that torch's
distributed checkpoint needs, and takes folders of any number of files. The same checkpoint gives the same bytes, so
that packing it twice is one version.
"""

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from fleetcast.events.content import safe_relative_path

SUFFIX: Final = ".checkpoint"
CHUNK: Final = 2**20


class ParcelRefused(Exception):
    """A checkpoint that cannot be packed, or a parcel that is none."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A packed checkpoint; `version`: the first 16 digits of its SHA-256."""

    path: Path
    sha256: str
    size: int

    @property
    def version(self) -> str:
        return self.sha256[:16]


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


class _Hashing(io.RawIOBase):
    """Writes through to a file and hashes what passes."""

    def __init__(self, file: _Sink) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        block = bytes(data)  # type: ignore[call-overload]
        self.digest.update(block)
        return self._file.write(block)


def pack(checkpoint: Path, folder: Path) -> Parcel:
    """Write *checkpoint*, a file or a folder, as a parcel into *folder*.

    Raises:
        ParcelRefused: it changed while it was read, or holds something that is neither file nor folder.
        OSError: it cannot be read, or the parcel cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spare = folder / f".{checkpoint.name}.{os.getpid()}.{id(checkpoint)}"
    try:
        with spare.open("xb") as file:
            sink = _Hashing(file)
            with tarfile.open(fileobj=sink, mode="w|", format=tarfile.GNU_FORMAT) as archive:
                for path, name in _parts(checkpoint):
                    _add(archive, path, name)
            file.flush()
            os.fsync(file.fileno())
        sha256 = sink.digest.hexdigest()
        final = folder / f"{sha256[:16]}{SUFFIX}"
        size = spare.stat().st_size
        spare.replace(final)
        return Parcel(final, sha256, size)
    finally:
        spare.unlink(missing_ok=True)


def _parts(checkpoint: Path) -> list[tuple[Path, str]]:
    if not checkpoint.is_dir():
        return [(checkpoint, checkpoint.name)]
    found = []
    for place, folders, names in os.walk(checkpoint):
        folders.sort()
        found += [Path(place) / name for name in sorted(names)]
    return [(path, f"{checkpoint.name}/{path.relative_to(checkpoint)}") for path in found]


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        before = os.fstat(handle)
        entry = archive.gettarinfo(arcname=name, fileobj=file)
        if not entry.isreg():
            raise ParcelRefused(f"{path} is no plain file")
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o644
        entry.mtime = before.st_mtime_ns // 10**9
        try:
            archive.addfile(entry, file)
        except OSError as short:
            raise ParcelRefused(f"{path} became shorter while it was packed") from short
        if _state(os.fstat(handle)) != _state(before) or _state(path.stat()) != _state(before):
            raise ParcelRefused(f"{path} changed while it was packed")


def _state(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def unpack(parcel: Path, folder: Path) -> Path:
    """Take the checkpoint out of *parcel* into *folder*, whole or not at all; one that is there already is left.

    Returns:
        The file or folder, under the name that it had.

    Raises:
        ParcelRefused: it is no parcel, or a name in it leads elsewhere.
        OSError: it cannot be read, or there is no space.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / parcel.name.removesuffix(SUFFIX)
    if not final.is_dir():
        spare = folder / f".{final.name}.{os.getpid()}"
        shutil.rmtree(spare, ignore_errors=True)
        spare.mkdir()
        try:
            _extract(parcel, spare)
            with contextlib.suppress(FileExistsError):
                spare.rename(final)
        finally:
            shutil.rmtree(spare, ignore_errors=True)
    inside = list(final.iterdir())
    if len(inside) != 1:
        raise ParcelRefused(f"{parcel} holds {len(inside)} checkpoints, not one")
    return inside[0]


def _extract(parcel: Path, into: Path) -> None:
    try:
        with tarfile.open(parcel, "r:") as archive:
            for entry, name in _entries(archive, parcel):
                source = archive.extractfile(entry)
                assert source is not None
                target = into / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    shutil.copyfileobj(source, file, CHUNK)
                    file.flush()
                    os.fsync(file.fileno())
                os.utime(target, (entry.mtime, entry.mtime))
    except (tarfile.TarError, EOFError) as damaged:
        raise ParcelRefused(f"{parcel} is no parcel: {damaged}") from damaged


def _entries(archive: tarfile.TarFile, parcel: Path) -> Iterator[tuple[tarfile.TarInfo, str]]:
    for entry in archive:
        if not entry.isreg():
            raise ParcelRefused(f"{parcel} holds {entry.name!r}, which is no plain file")
        try:
            yield entry, safe_relative_path(entry.name)
        except ValueError as elsewhere:
            raise ParcelRefused(f"{parcel} holds {entry.name!r}: {elsewhere}") from elsewhere


def copied(parcel: Path, folder: Path) -> Parcel:
    """A copy of a parcel in *folder*, named as what it holds.

    Raises:
        OSError: it cannot be read, or there is no space.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spare = folder / f".{parcel.name}.{os.getpid()}"
    try:
        with parcel.open("rb") as source, spare.open("wb") as file:
            sink = _Hashing(file)
            while block := source.read(CHUNK):
                sink.write(block)
            file.flush()
            os.fsync(file.fileno())
        sha256 = sink.digest.hexdigest()
        size = spare.stat().st_size
        final = folder / f"{sha256[:16]}{SUFFIX}"
        spare.replace(final)
        return Parcel(final, sha256, size)
    finally:
        spare.unlink(missing_ok=True)
