"""The file: a header that names who can open it, sealed frames, and a summary that everybody can read.

    fleetcast-backup 1\n
    {"recipients": [{"id": ..., "key": ...}]}\n        keys of the file, wrapped; bound to all that follows
    sealed bytes: frames of kind, length, data          part, bytes, …, end of part, …, manifest
    {"sha256": ..., ...}\n                              the summary
    000000000412\n                                      its length

Written beside its name and renamed when it is whole and on the disk. Read from front to back with one chunk in memory.
"""

import base64
import hashlib
import json
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from pydantic import ValidationError

from fleetcast.cli.backup.manifest import Manifest, Part, PartHead, Summary
from fleetcast.cli.backup.sealing import KEY_BYTES, PrivateKey, PublicKey, Sealer, damaged, opened
from fleetcast.cli.problems import Problem, not_found
from fleetcast.security.keys import sync_folder

MAGIC: Final = b"fleetcast-backup 1\n"
SUFFIX: Final = ".fcbackup"
UNFINISHED: Final = ".part"
PART, BYTES, END, MANIFEST = b"P", b"B", b"E", b"M"
FRAME: Final = struct.Struct(">cI")
LONGEST_HEADER: Final = 64 * 1024
LONGEST_FRAME: Final = 256 * 2**20
"""A manifest names the audit chains of all models: 100 bytes for each."""
LENGTH_DIGITS: Final = 12
READ_BYTES: Final = 2**20


class Writer:
    """Writes one backup, part by part, with at most a chunk in memory."""

    def __init__(self, file: IO[bytes], recipients: Sequence[PublicKey]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0
        self._sealed_size = 0
        key = os.urandom(KEY_BYTES)
        header = _header(recipients, key)
        self._write(header)
        self._sealer = Sealer(key, header, self._write_sealed)
        self._part: PartHead | None = None
        self._part_digest = hashlib.sha256()
        self._part_size = 0
        self.parts: list[Part] = []

    def begin(self, part: PartHead) -> None:
        """A stream begins."""
        self._part, self._part_digest, self._part_size = part, hashlib.sha256(), 0
        self._frame(PART, part.model_dump_json().encode())

    def add(self, data: bytes) -> None:
        """A piece of it."""
        self._part_digest.update(data)
        self._part_size += len(data)
        self._frame(BYTES, data)

    def end(self) -> Part:
        """The stream is whole."""
        assert self._part is not None
        digest = self._part_digest.hexdigest()
        part = Part(**self._part.model_dump(), size=self._part_size, sha256=digest)
        self._frame(END, json.dumps({"size": part.size, "sha256": part.sha256}).encode())
        self.parts.append(part)
        return part

    def finish(self, manifest: Manifest) -> Summary:
        """Everything is there: the manifest, the mark of the end, and the summary."""
        self._frame(MANIFEST, manifest.model_dump_json().encode())
        self._sealer.finish()
        summary = Summary(
            fleetcast=manifest.fleetcast,
            node=manifest.node,
            taken_at=manifest.taken_at,
            streams=len(manifest.parts),
            messages=manifest.messages,
            models=len(manifest.audit),
            records=manifest.records,
            audit_head=manifest.audit_head,
            sha256=self._digest.hexdigest(),
            sealed_size=self._sealed_size,
        )
        line = summary.model_dump_json().encode() + b"\n"
        self._file.write(line + f"{len(line):0{LENGTH_DIGITS}d}\n".encode())
        return summary

    def _frame(self, kind: bytes, data: bytes) -> None:
        self._sealer.add(FRAME.pack(kind, len(data)))
        self._sealer.add(data)

    def _write_sealed(self, data: bytes) -> None:
        self._sealed_size += len(data)
        self._write(data)

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


def _header(recipients: Sequence[PublicKey], key: bytes) -> bytes:
    rows = [{"id": each.id, "key": base64.b64encode(each.wrap(key)).decode()} for each in recipients]
    return MAGIC + json.dumps({"recipients": rows}).encode() + b"\n"


@contextmanager
def written(path: Path, recipients: Sequence[PublicKey]) -> Iterator[Writer]:
    """A new backup at *path*, for its owner alone; there when all of it is on the disk, and not at all otherwise.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    fresh = path.with_name(f".{path.name}{UNFINISHED}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            yield Writer(file, recipients)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of an opened backup."""

    kind: bytes
    data: bytes


class Reader:
    """Reads one backup. Only `summary` and `check_bytes` can be used without its private key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def summary(self) -> Summary:
        """What it says of itself.

        Raises:
            Problem: there is no such file, or its end is missing.
        """
        try:
            with self.path.open("rb") as file:
                if file.read(len(MAGIC)) != MAGIC:
                    raise Problem("no_backup", f"{self.path} is no backup of fleetcast")
                return self._summary(file)[0]
        except OSError as e:
            raise _unreadable(self.path, e) from e

    def _summary(self, file: IO[bytes]) -> tuple[Summary, int]:
        """The summary, and where it begins."""
        size = file.seek(0, os.SEEK_END)
        missing = damaged(f"the end of {self.path} is missing")
        try:
            file.seek(max(0, size - LENGTH_DIGITS - 1))
            length = int(file.read().decode("ascii"))
        except ValueError as e:
            raise missing from e
        begin = size - LENGTH_DIGITS - 1 - length
        if not 0 < length <= LONGEST_HEADER or begin < 0:
            raise missing
        file.seek(begin)
        try:
            return Summary.model_validate_json(file.read(length)), begin
        except ValidationError as e:
            raise missing from e

    def check_bytes(self) -> Summary:
        """Compare every byte with the digest at the end; tells damage by accident, no key needed.

        Raises:
            Problem: they differ.
        """
        try:
            with self.path.open("rb") as file:
                summary, begin = self._summary(file)
                file.seek(0)
                digest = hashlib.sha256()
                while begin and (data := file.read(min(begin, READ_BYTES))):
                    digest.update(data)
                    begin -= len(data)
        except OSError as e:
            raise _unreadable(self.path, e) from e
        if digest.hexdigest() != summary.sha256:
            raise damaged(f"{self.path} is not what was written: its SHA-256 is another one")
        return summary

    def frames(self, key: PrivateKey) -> Iterator[Frame]:
        """What is sealed in it, frame by frame; the manifest comes last.

        Raises:
            Problem: the key is another one's, or something was changed or cut off.
        """
        try:
            with self.path.open("rb") as file:
                summary, _ = self._summary(file)
                file.seek(0)
                header = _read_header(self.path, file)
                file_key = _unwrapped(self.path, header, key)
                yield from _framed(opened(file_key, header, file.read, summary.sealed_size))
        except OSError as e:
            raise _unreadable(self.path, e) from e

    def check(self, key: PrivateKey) -> Manifest:
        """Open all of it and compare every part with its digest.

        Raises:
            Problem: the key is another one's, or something was changed or cut off.
        """
        self.check_bytes()
        found: list[tuple[int, str]] = []
        digest, size = hashlib.sha256(), 0
        manifest: Manifest | None = None
        for frame in self.frames(key):
            if frame.kind == PART:
                digest, size = hashlib.sha256(), 0
            elif frame.kind == BYTES:
                digest.update(frame.data)
                size += len(frame.data)
            elif frame.kind == END:
                found.append((size, digest.hexdigest()))
            else:
                manifest = _manifest(frame.data)
        if manifest is None or found != [(part.size, part.sha256) for part in manifest.parts]:
            raise damaged(f"the streams in {self.path} are not those of its manifest")
        return manifest


def _read_header(path: Path, file: IO[bytes]) -> bytes:
    if file.read(len(MAGIC)) != MAGIC:
        raise Problem("no_backup", f"{path} is no backup of fleetcast")
    return MAGIC + file.readline(LONGEST_HEADER)


def _unwrapped(path: Path, header: bytes, key: PrivateKey) -> bytes:
    try:
        rows = json.loads(header[len(MAGIC) :])["recipients"]
        wrapped = {str(row["id"]): base64.b64decode(row["key"]) for row in rows}
    except (ValueError, KeyError, TypeError) as e:
        raise damaged(f"the beginning of {path} cannot be read") from e
    if key.public.id not in wrapped:
        raise Problem(
            "backup_key",
            f"{path} was not sealed to this key ({key.public.id})",
            why=f"it opens with the private half of {', '.join(wrapped) or 'nobody'}",
            next_step="--identity FILE: another private key",
        )
    return key.unwrap(wrapped[key.public.id])


def _framed(chunks: Iterator[bytes]) -> Iterator[Frame]:
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        while len(waiting) >= FRAME.size:
            kind, length = FRAME.unpack_from(waiting)
            if kind not in {PART, BYTES, END, MANIFEST} or length > LONGEST_FRAME:
                raise damaged("the backup holds what this fleetcast does not know")
            if len(waiting) < FRAME.size + length:
                break
            yield Frame(kind, bytes(waiting[FRAME.size : FRAME.size + length]))
            del waiting[: FRAME.size + length]
    if waiting:
        raise damaged("the backup ends in the middle of a stream")


def _manifest(data: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as e:
        raise Problem(
            "backup_format",
            "the manifest of the backup cannot be read",
            why=f"a newer fleetcast may have written it: {e.error_count()} differences",
            next_step="restore it with the fleetcast that made it (fleetcast backup list), or a newer one",
        ) from e


def _unreadable(path: Path, error: OSError) -> Problem:
    if isinstance(error, FileNotFoundError):
        return not_found(f"there is no {path}", next_step="fleetcast backup list")
    return Problem("file", f"{path}: {error.strerror or error}")
