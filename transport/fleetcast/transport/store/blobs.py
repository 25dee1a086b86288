"""The content-addressed part of the store: files named by their SHA-256, read-only, and the folders that swarms read.

A blob gets its name only when its bytes are on the disk, so that a name is a promise.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from fleetcast.events.content import Content, ContentFile
from fleetcast.transport.errors import NotKept, PathRefused, VerificationFailed
from fleetcast.transport.hashing import FileDigest, hash_stream, sha256_stream
from fleetcast.transport.store import layout
from fleetcast.transport.store.folder import FILE_MODE, Folder, same_file, spare_name, sync_file
from fleetcast.transport.store.intake import PublishedFile, clone


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A file that is not what its content says.

    Attributes:
        path: relative to the content.
        expected: SHA-256 in the content.
        actual: SHA-256 found, or why none could be computed.
    """

    path: str
    expected: str
    actual: str


class Blobs:
    """Blobs and swarm folders below one data folder."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def folder(self, sha256: str, *, create: bool = False) -> Folder:
        return Folder.open(self._data, layout.blob(sha256)[:-1], create=create)

    def stat(self, sha256: str) -> os.stat_result | None:
        """The blob's state; None when there is none, or something else stands in its place."""
        try:
            with self.folder(sha256) as shelf:
                found = shelf.stat(sha256)
        except FileNotFoundError:
            return None
        return found if found is not None and stat.S_ISREG(found.st_mode) else None

    def holds(self, file: ContentFile) -> bool:
        found = self.stat(file.sha256)
        return found is not None and found.st_size == file.size

    def take(self, published: PublishedFile, piece_length: int) -> tuple[FileDigest, bool]:
        """Bring a published file in; what is hashed is what is kept.

        Returns:
            Its digest, and whether it took the place of a damaged blob, whose other links are still to be mended.

        Raises:
            ContentRefused: it changed while it was read.
            OSError: the disk failed.
        """
        name = spare_name()
        with Folder.open(self._data, layout.STAGING, create=True) as staging:
            try:
                digest = self._staged(published, staging, name, piece_length)
                replaced = self._keep(staging, name, digest.sha256)
            finally:
                staging.remove(name, point="ingest.unstage")
        return digest, replaced

    def _staged(self, published: PublishedFile, staging: Folder, name: str, piece_length: int) -> FileDigest:
        if published.handover and (digest := _handed_over(published, staging, name, piece_length)):
            return digest
        fd = staging.create_file(name)
        try:
            digest = _copied(published, fd, piece_length)
            published.check_still_same()
            os.fchmod(fd, FILE_MODE)
            sync_file(fd, point="ingest.file")
        finally:
            os.close(fd)
        return digest

    def _keep(self, source: Folder, name: str, sha256: str) -> bool:
        """Let a synced, read-only file be the blob; True when it took the place of a damaged one.

        A blob that is there already and intact stays: its links must not part.
        """
        damaged = False
        with self.folder(sha256, create=True) as shelf:
            try:
                source.link(name, shelf, sha256, point="blob.link")
            except FileExistsError:
                if damaged := digest_of(shelf, sha256) != sha256:
                    shelf.replace_by_link(source, name, sha256, point="blob.replace")
            shelf.sync(point="blob.sync")
        return damaged

    def admit(self, artifact: str, content: Content) -> None:
        """Let the proven files of a swarm folder be blobs.

        Raises:
            VerificationFailed: a file is missing or has another size.
            PathRefused: a file is no plain file.
        """
        for file in content.files:
            if not self.holds(file):
                with self._swarm_folder_of(artifact, file) as (folder, name):
                    self.adopt(folder, name, file)

    def adopt(self, folder: Folder, name: str, file: ContentFile) -> None:
        """Let proven bytes that have another name on this disk be a blob.

        Raises:
            VerificationFailed: they have another size.
        """
        fd = _open_exact(folder, name, file)
        try:
            os.fchmod(fd, FILE_MODE)
            sync_file(fd, point="admit.file")
        finally:
            os.close(fd)
        with self.folder(file.sha256, create=True) as shelf:
            # Whatever has the blob's name has another size: it is replaced, not kept.
            shelf.replace_by_link(folder, name, file.sha256, point="admit.link")
            shelf.sync(point="admit.sync")

    def link_swarm(self, artifact: str, content: Content) -> None:
        """Let the swarm folder of an artifact hold exactly the blobs.

        Raises:
            NotKept: a blob is missing.
        """
        for _, together in groupby(content.files, key=lambda f: f.path.rpartition("/")[0]):
            files = list(together)
            with self._swarm_folder_of(artifact, files[0], create=True) as (folder, _):
                linked = [self.link_to(f, folder, f.path.rpartition("/")[2], point="swarm.link") for f in files]
                if any(linked):
                    folder.sync(point="swarm.sync")

    def link_to(self, file: ContentFile, folder: Folder, name: str, *, point: str) -> bool:
        """Let *name* in *folder* be the blob of *file*; False when it is already. The caller syncs the folder.

        Raises:
            NotKept: there is no such blob.
        """
        found = self.stat(file.sha256)
        if found is None:
            raise NotKept(f"{file.path}: no blob {file.sha256} on this node", next_step="fetch the artifact again")
        if same_file(found, folder.stat(name)):
            return False
        if folder.is_folder(name):
            raise PathRefused(f"{folder.path / name} is a folder where a file has to be")
        with self.folder(file.sha256) as shelf:
            folder.replace_by_link(shelf, file.sha256, name, point=point)
        return True

    @contextlib.contextmanager
    def _swarm_folder_of(
        self, artifact: str, file: ContentFile, *, create: bool = False
    ) -> Iterator[tuple[Folder, str]]:
        *folders, name = file.path.split("/")
        names = (*layout.swarm_files(artifact), *folders)
        try:
            folder = Folder.open(self._data, names, create=create)
        except FileNotFoundError as missing:
            raise VerificationFailed(f"{file.path} was not brought", path=file.path, expected=file.sha256) from missing
        with folder:
            yield folder, name

    def expel(self, artifact: str, files: Iterable[ContentFile]) -> None:
        """Remove those of a swarm's files that are not the blobs of their digests."""
        for file in files:
            with contextlib.suppress(VerificationFailed), self._swarm_folder_of(artifact, file) as (folder, name):
                if not same_file(self.stat(file.sha256), folder.stat(name)):
                    folder.remove(name, point="swarm.expel")
                    folder.sync(point="swarm.expel_sync")

    def verify(self, files: Iterable[ContentFile]) -> list[Mismatch]:
        """Read blobs and compare their SHA-256."""
        return [m for f in files if (m := self._verify(f)) is not None]

    def _verify(self, file: ContentFile) -> Mismatch | None:
        try:
            with self.folder(file.sha256) as shelf:
                return mismatch(shelf, file.sha256, file)
        except FileNotFoundError:
            return Mismatch(file.path, file.sha256, "missing")


def digest_of(folder: Folder, name: str) -> str:
    """The SHA-256 of a file, or why it has none."""
    try:
        with os.fdopen(folder.open_file(name), "rb", buffering=0) as opened:
            return sha256_stream(opened)
    except FileNotFoundError:
        return "missing"
    except OSError as fault:
        return f"unreadable: {fault.strerror}"


def mismatch(folder: Folder, name: str, file: ContentFile) -> Mismatch | None:
    """Read a file and compare it; None when it is what it should be."""
    actual = digest_of(folder, name)
    return None if actual == file.sha256 else Mismatch(file.path, file.sha256, actual)


def _copied(published: PublishedFile, target: int, piece_length: int) -> FileDigest:
    with os.fdopen(target, "r+b", buffering=0, closefd=False) as copy:
        if clone(published.fd, target):
            return hash_stream(copy, piece_length)
        with os.fdopen(published.fd, "rb", buffering=0, closefd=False) as source:
            return hash_stream(source, piece_length, lambda chunk: _write_all(copy.fileno(), chunk))


def _handed_over(published: PublishedFile, staging: Folder, name: str, piece_length: int) -> FileDigest | None:
    """Take the producer's own file; None when it lies on another file system."""
    try:
        staging.link_open_file(published.fd, name, point="ingest.handover")
    except OSError:
        return None
    mode = stat.S_IMODE(published.before.st_mode)
    os.fchmod(published.fd, FILE_MODE)
    # The link and the mode changed the file's ctime; what is compared is what happens from here on.
    linked = replace(published, before=os.fstat(published.fd))
    try:
        with os.fdopen(published.fd, "rb", buffering=0, closefd=False) as source:
            digest = hash_stream(source, piece_length)
        linked.check_still_same()
        sync_file(published.fd, point="ingest.handover_file")
    except BaseException:
        os.fchmod(published.fd, mode)
        raise
    return digest


def _open_exact(folder: Folder, name: str, file: ContentFile) -> int:
    """Open a file of the promised size."""
    try:
        fd = folder.open_file(name)
    except FileNotFoundError as missing:
        raise VerificationFailed(f"{file.path} was not brought", path=file.path, expected=file.sha256) from missing
    size = os.fstat(fd).st_size
    if size != file.size:
        os.close(fd)
        raise VerificationFailed(
            f"{file.path} has {size} bytes, {file.size} were promised", path=file.path, expected=file.sha256
        )
    return fd


def _write_all(fd: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(fd, chunk) :]
