"""The files of one transfer and the folder that aria2 works in. Every function blocks.

aria2 writes through links that are numbered like the files, in a folder of its own: so its control files never lie
among the content, no name of the content reaches it, and a name such as `model.aria2` means nothing to it.
"""

import os
import shutil
from pathlib import Path

from fleetcast.events.content import Content, ContentFile
from fleetcast.transport.aria2.control import ControlFile, encode
from fleetcast.transport.metainfo import torrent_name
from fleetcast.transport.store.folder import Folder, spare_name, transfer_errors

PREFIX = "aria2-"
_CONTROL = ".aria2"


class WorkFolder:
    """Where one transfer's files are, and what aria2 sees of them.

    Args:
        folder: save path of the artifact (`FetchRequest.folder`).
        staging: where folders for a short time are made.
    """

    def __init__(self, content: Content, folder: Path, staging: Path) -> None:
        self._content, self._folder = content, folder
        self._name = torrent_name(content.artifact)
        self.path = staging.absolute() / f"{PREFIX}{spare_name()}"

    def prepare(self) -> None:
        """Make aria2's folder, and every file, sparse and of its full size, with a link to it.

        Raises:
            OSError: there is no room, or something else stands there.
        """
        self.path.mkdir(mode=0o700, parents=True)
        for index, file in enumerate(self._content.files):
            os.close(self._open(file, create=True))
            target = self._folder.absolute() / self._name / file.path
            (self.path / str(index)).symlink_to(target)

    def order(self, index: int, control: ControlFile) -> None:
        """Write down what is there of a file, for aria2 to go on from.

        Raises:
            StoreFull: there is no space.
            TransferFailed: it cannot be written.
        """
        with transfer_errors("aria2's folder cannot be written"):
            (self.path / f"{index}{_CONTROL}").write_bytes(encode(control))

    def forget(self, index: int) -> None:
        """Remove what aria2 noted about a file."""
        (self.path / f"{index}{_CONTROL}").unlink(missing_ok=True)

    def write(self, index: int, data: bytes, at: int) -> None:
        """Write into a file.

        Raises:
            StoreFull: there is no space.
            TransferFailed: it cannot be written.
        """
        with transfer_errors("a file cannot be written"):
            fd = self._open(self._content.files[index])
            try:
                view = memoryview(data)
                while view:
                    count = os.pwrite(fd, view, at)
                    view, at = view[count:], at + count
            finally:
                os.close(fd)

    def read(self, index: int, start: int, count: int) -> bytes:
        """Read from a file.

        Raises:
            TransferFailed: it cannot be read.
        """
        with transfer_errors("a file cannot be read"):
            fd = self._open(self._content.files[index])
            try:
                return os.pread(fd, count, start)
            finally:
                os.close(fd)

    def remove(self) -> None:
        """Remove aria2's folder; the files stay."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _open(self, file: ContentFile, *, create: bool = False) -> int:
        *folders, name = file.path.split("/")
        with Folder.open(self._folder, (self._name, *folders), create=create) as folder:
            if create:
                _break_link(folder, name)
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
            fd = os.open(name, flags, 0o600, dir_fd=folder.fd)
        if create:
            os.ftruncate(fd, file.size)
        return fd


def _break_link(folder: Folder, name: str) -> None:
    """A file that has a second name, such as one in the store, is never written to: a copy takes its place."""
    found = folder.stat(name)
    if found is None or found.st_nlink == 1:
        return
    spare = spare_name()
    shutil.copyfile(folder.path / name, folder.path / spare, follow_symlinks=False)
    os.replace(spare, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
