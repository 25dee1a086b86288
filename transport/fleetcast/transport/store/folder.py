"""An open folder, and the durable steps in it. No step follows a symbolic link: each segment is opened from the last.

This is the only module of the store that renames, links, syncs or removes. Each such step stands between failpoints,
`<point>.before` and `<point>.after`; a test reads the source to hold that.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from fleetcast.transport.errors import PathRefused, StoreError, StoreFull, TransferFailed
from fleetcast.transport.failpoints import failpoint
from fleetcast.transport.store import layout

FILE_MODE = 0o444
FOLDER_MODE = 0o755
RECORD_MODE = 0o644
FREE_SPACE = "free space below store.data"
"""What to do when there is none."""
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_PLAIN = frozenset({errno.ELOOP, errno.ENOTDIR})


@contextlib.contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turn the operating system's errors into those of the store.

    Raises:
        StoreFull: there is no space.
        PathRefused: a symbolic link or a file stands where a folder has to be.
        StoreError: anything else, for example an I/O error.
    """
    try:
        yield
    except OSError as fault:
        where = f" ({fault.filename})" if fault.filename else ""
        if fault.errno in _FULL:
            raise StoreFull(f"{doing}: {fault.strerror}{where}", next_step=FREE_SPACE) from fault
        if fault.errno in _NOT_PLAIN:
            raise PathRefused(f"{doing}: a name in the way is no plain folder{where}") from fault
        raise StoreError(f"{doing}: {fault.strerror or fault}{where}") from fault


@contextlib.contextmanager
def transfer_errors(doing: str) -> Iterator[None]:
    """Turn the operating system's errors into those of a transfer.

    Raises:
        StoreFull: there is no space; another transport would fail in the same way.
        TransferFailed: anything else.
    """
    try:
        yield
    except OSError as fault:
        reason = f"{doing}: {fault.strerror or fault}"
        raise (StoreFull(reason, next_step=FREE_SPACE) if fault.errno in _FULL else TransferFailed(reason)) from fault


class Folder:
    """A folder below the data folder, held open by its descriptor; a context manager. Names are single segments."""

    def __init__(self, fd: int, path: Path, data: Path) -> None:
        self.fd = fd
        self.path = path
        self._data = data

    @classmethod
    def open(cls, data: Path, names: tuple[str, ...] = (), *, create: bool = False) -> "Folder":
        """Open the folder *names* below *data*. Only *data* itself, which the settings name, may be a symbolic link.

        Raises:
            OSError: there is none (and *create* is not set), or a segment is no plain folder.
        """
        if create:
            data.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder = cls(os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), data, data)
        for name in names:
            with folder:
                folder = folder.enter(name, create=create)
        return folder

    def staging(self) -> "Folder":
        """The folder of the same file system where things are made before they get their name."""
        return Folder.open(self._data, layout.STAGING, create=True)

    def enter(self, name: str, *, create: bool = False) -> "Folder":
        """Open a folder in this one; one that was created lasts."""
        if name in {"", ".", ".."} or "/" in name:
            raise PathRefused(f"{name!r} is not the name of a folder in {self.path}")
        if create:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, FOLDER_MODE, dir_fd=self.fd)
                self.sync(point="folder.create")
        return Folder(os.open(name, _OPEN_FOLDER, dir_fd=self.fd), self.path / name, self._data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        os.close(self.fd)

    def names(self) -> list[str]:
        """What lies here, in the order of names."""
        with os.scandir(self.fd) as entries:
            return sorted(entry.name for entry in entries)

    def stat(self, name: str) -> os.stat_result | None:
        """The entry itself, never what a link points to; None when there is none."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_folder(self, name: str) -> bool:
        found = self.stat(name)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def is_file(self, name: str) -> bool:
        found = self.stat(name)
        return found is not None and stat.S_ISREG(found.st_mode)

    def open_file(self, name: str) -> int:
        """Open a plain file for reading; returns its descriptor.

        Raises:
            OSError: there is none, or it is a symbolic link, or no plain file.
        """
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.ELOOP, "not a plain file", str(self.path / name))
        return fd

    def read(self, name: str) -> bytes:
        with os.fdopen(self.open_file(name), "rb") as file:
            return file.read()

    def target(self, name: str) -> str | None:
        """What a symbolic link here says; None when it is none."""
        try:
            return os.readlink(name, dir_fd=self.fd)
        except OSError:
            return None

    def create_file(self, name: str) -> int:
        """Create a file that is not there yet, for writing; returns its descriptor."""
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.fd)

    def sync(self, *, point: str) -> None:
        """Make the entries of this folder last."""
        failpoint(f"{point}.before")
        os.fsync(self.fd)
        failpoint(f"{point}.after")

    def rename(self, name: str, to: "Folder", new_name: str, *, point: str) -> None:
        """Move an entry, replacing what is there, in one step; the caller syncs the folders."""
        failpoint(f"{point}.before")
        os.replace(name, new_name, src_dir_fd=self.fd, dst_dir_fd=to.fd)
        failpoint(f"{point}.after")

    def link(self, name: str, to: "Folder", new_name: str, *, point: str) -> None:
        """Give a file a second name.

        Raises:
            FileExistsError: the name is taken.
        """
        failpoint(f"{point}.before")
        os.link(name, new_name, src_dir_fd=self.fd, dst_dir_fd=to.fd, follow_symlinks=False)
        failpoint(f"{point}.after")

    def link_open_file(self, fd: int, new_name: str, *, point: str) -> None:
        """Give an open file a name here, whatever its path is by now."""
        failpoint(f"{point}.before")
        os.link(f"/proc/self/fd/{fd}", new_name, dst_dir_fd=self.fd, follow_symlinks=True)
        failpoint(f"{point}.after")

    def remove(self, name: str, *, point: str) -> None:
        """Remove a file or a symbolic link; nothing happens when it is gone."""
        failpoint(f"{point}.before")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)
        failpoint(f"{point}.after")

    def remove_tree(self, name: str, *, point: str) -> None:
        """Remove an entry and everything below it."""
        if not self.is_folder(name):
            self.remove(name, point=point)
            return
        with self.enter(name) as inner:
            for entry in inner.names():
                inner.remove_tree(entry, point=point)
        failpoint(f"{point}.before")
        os.rmdir(name, dir_fd=self.fd)
        failpoint(f"{point}.after")

    def replace_by_link(self, source: "Folder", name: str, new_name: str, *, point: str) -> None:
        """Let *new_name* here be the file *name* of *source*, in one step, whatever it was before."""
        spare = spare_name()
        with self.staging() as staging:
            failpoint(f"{point}.before")
            os.link(name, spare, src_dir_fd=source.fd, dst_dir_fd=staging.fd, follow_symlinks=False)
            failpoint(f"{point}.between")
            os.replace(spare, new_name, src_dir_fd=staging.fd, dst_dir_fd=self.fd)
            failpoint(f"{point}.after")

    def flip(self, name: str, target: str, *, point: str) -> None:
        """Let the symbolic link *name* point to *target*, in one step, and make it last."""
        spare = spare_name()
        with self.staging() as staging:
            failpoint(f"{point}.before")
            os.symlink(target, spare, dir_fd=staging.fd)
            failpoint(f"{point}.between")
            os.replace(spare, name, src_dir_fd=staging.fd, dst_dir_fd=self.fd)
            failpoint(f"{point}.after")
        self.sync(point=f"{point}.sync")

    def write(self, name: str, data: bytes, *, point: str) -> None:
        """Write a small file so that its name holds the old or the new content at any time, and make it last."""
        spare = spare_name()
        with self.staging() as staging:
            with os.fdopen(staging.create_file(spare), "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), RECORD_MODE)
                sync_file(file.fileno(), point=f"{point}.file")
            staging.rename(spare, self, name, point=point)
        self.sync(point=f"{point}.sync")


def sync_file(fd: int, *, point: str) -> None:
    """Make the bytes of an open file last."""
    failpoint(f"{point}.before")
    os.fsync(fd)
    failpoint(f"{point}.after")


def spare_name() -> str:
    """A name in the staging folder that nothing has."""
    return secrets.token_hex(8)


def same_file(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    """Whether two entries are names of one file."""
    return one is not None and other is not None and (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
