"""Publishing: a file enters the store when it is plain, within a publish root and still while it is read."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleetcast.config.settings import StoreSettings
from fleetcast.events.content import safe_relative_path
from fleetcast.transport.errors import ContentRefused
from fleetcast.transport.store import layout

FICLONE = 0x40049409
"""ioctl that shares the blocks of one file with another, on Btrfs, XFS and others (linux/fs.h)."""

_WRITE_ELSEWHERE = "write to another name, rename it to its name when it is complete, then publish it again"
_PUBLISH_AGAIN = "publish the path of one plain file: fleetcast promote MODEL VERSION FILE"


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file that may be published, held open.

    Attributes:
        fd: descriptor, open for reading.
        path: as it was asked for.
        real_path: where the open file lies, without symbolic links.
        before: its state when it was opened.
        handover: whether its root gives files over to the store.
    """

    fd: int
    path: Path
    real_path: Path
    before: os.stat_result
    handover: bool

    @property
    def name(self) -> str:
        """Its name, as it will be on every node.

        Raises:
            ContentRefused: it cannot be.
        """
        try:
            return safe_relative_path(self.path.name)
        except (ValueError, UnicodeEncodeError) as wrong:
            raise ContentRefused(
                f"the name of {self.path} cannot be used on every node: {wrong}",
                next_step="rename the file to letters, digits, dots and dashes, and publish it again",
            ) from wrong

    def check_still_same(self) -> None:
        """Make sure that what was read is what is there.

        Raises:
            ContentRefused: the file was written, replaced or removed since it was opened.
        """
        now = os.fstat(self.fd)
        try:
            by_path = self.path.stat()
        except OSError as gone:
            raise changed(self.path, "it is gone") from gone
        if _state(now) != _state(self.before):
            raise changed(self.path, "it was written meanwhile")
        if _state(by_path) != _state(self.before):
            raise changed(self.path, "another file took its place")


@contextlib.contextmanager
def published(path: str | Path, settings: StoreSettings) -> Iterator[PublishedFile]:
    """Open a file for publishing.

    The path is opened first and judged afterwards by where the open file lies (`/proc/self/fd`), so that no symbolic
    link and no race between looking and opening can leave the publish roots. O_PATH opens neither a pipe nor a device.

    Raises:
        ContentRefused: it is missing, no plain file, empty, too large, not readable, or not in a publish root.
    """
    wanted = absolute_path(path)
    with opened(wanted, os.O_PATH) as place:
        before = os.fstat(place)
        real = Path(f"/proc/self/fd/{place}").readlink()
        root = root_of(real, wanted, settings)
        _check_plain(before, wanted, settings)
        with opened(Path(f"/proc/self/fd/{place}"), os.O_RDONLY, shown=wanted) as fd:
            yield PublishedFile(fd, wanted, real, os.fstat(fd), handover=_is_handover(root, before, settings))


def clone(source: int, target: int) -> bool:
    """Let *target* share the blocks of *source*; False where the file system cannot."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError:
        return False
    return True


def absolute_path(path: str | Path) -> Path:
    """The path that was asked for.

    Raises:
        ContentRefused: it is relative.
    """
    text = os.fspath(path)
    if not text.startswith("/") or "\0" in text:
        raise ContentRefused(
            f"{text!r} is not an absolute path on this node",
            next_step="publish the whole path, starting with /",
        )
    return Path(text)


@contextlib.contextmanager
def opened(path: Path, flags: int, *, shown: Path | None = None) -> Iterator[int]:
    """Open what a producer wrote; *shown*: what it is called in a refusal.

    Raises:
        ContentRefused: it is missing, or this process may not.
    """
    shown = shown or path
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError as missing:
        raise ContentRefused(
            f"{shown} does not exist on this node",
            next_step=f"look with: ls -l '{shown}'; publish on the node that has the file",
        ) from missing
    except OSError as fault:
        raise ContentRefused(
            f"{shown} cannot be opened: {fault.strerror}",
            next_step=f"let the user of fleetcast read it: chmod a+r '{shown}'",
        ) from fault
    try:
        yield fd
    finally:
        os.close(fd)


def root_of(real: Path, wanted: Path, settings: StoreSettings) -> Path:
    """The publish root that something lies in.

    Raises:
        ContentRefused: it lies in none.
    """
    roots = (*settings.publish_roots, *settings.handover_roots)
    for root in (*roots, parcels(settings)):
        # A path of a removed file ends with " (deleted)" and is caught by its link count.
        if real != (place := Path(os.path.realpath(root))) and real.is_relative_to(place):
            return root
    named = f"{wanted} (which is {real})" if real != wanted else f"{wanted}"
    listed = ", ".join(map(str, roots)) or "none is set"
    raise ContentRefused(
        f"{named} is outside the publish roots of this node ({listed})",
        next_step=f'add its folder to store.publish_roots in fleetcast.toml: publish_roots = ["{real.parent}"]',
    )


def parcels(settings: StoreSettings) -> Path:
    """The publish root that daemons of this node put parcels into."""
    return settings.data / layout.PARCELS


def _check_plain(found: os.stat_result, path: Path, settings: StoreSettings) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise ContentRefused(f"{path} is a folder", next_step=_PUBLISH_AGAIN)
    if not stat.S_ISREG(found.st_mode):
        raise ContentRefused(f"{path} is no plain file but a pipe, socket or device", next_step=_PUBLISH_AGAIN)
    if found.st_nlink == 0:
        raise changed(path, "it was removed")
    if found.st_size == 0:
        raise ContentRefused(
            f"{path} is empty", next_step="write the file to a new name, rename it when it is complete, then publish it"
        )
    if found.st_size > settings.max_file_bytes:
        raise ContentRefused(
            f"{path} has {found.st_size} bytes, more than the {settings.max_file_bytes} that are taken",
            next_step=f"set store.max_file_bytes = {found.st_size} or more in fleetcast.toml",
        )


def _is_handover(root: Path, found: os.stat_result, settings: StoreSettings) -> bool:
    # Only the owner may be made to lose write access: chmod acts on the producer's own file.
    return root in (*settings.handover_roots, parcels(settings)) and found.st_uid == os.geteuid()


def _state(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def changed(path: Path, how: str, next_step: str = _WRITE_ELSEWHERE) -> ContentRefused:
    """The refusal of what is not what it was when it was opened."""
    return ContentRefused(f"{path} changed while it was read: {how}", next_step=next_step)
