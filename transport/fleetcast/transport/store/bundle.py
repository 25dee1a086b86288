"""Publishing a folder: which of its names become a bundle, and the proof that they are of one moment.

A folder has no state of its own that tells whether somebody writes below it. So every file is noted before the first is
read, and all of them again after the last: where nothing differs, what was taken is what lay there all the time.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetcast.config.settings import StoreSettings
from fleetcast.events.content import MAX_FILES, safe_relative_path
from fleetcast.transport.errors import ContentRefused
from fleetcast.transport.store.intake import PublishedFile, absolute_path, changed, opened, published, root_of

MAX_NAMES = 4 * MAX_FILES
"""Names looked at, those that are left out included: a folder of millions is a wrong path."""
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNFINISHED = re.compile(
    r".+\.(tmp|temp|part|partial|incomplete|crdownload|download|aria2|swp)|.+~|\.nfs[0-9a-f]+|\.~lock\..*"
    r"|\..+\.[A-Za-z0-9]{6}"  # rsync and mkstemp: a dot, the name, six characters
)
_AGAIN = "write the folder under another name, rename it when it is complete, then publish it again"


@dataclass(frozen=True, slots=True)
class PublishedFolder:
    """A folder that may be published.

    Attributes:
        path: as it was asked for.
        real_path: where it lies, without symbolic links.
        files: state of every file that belongs to the bundle, by path below the folder, in order.
        left_out: names that do not belong to it: those that start with a dot.
        handover: whether its root gives files over to the store.
    """

    fd: int
    path: Path
    real_path: Path
    files: Mapping[str, os.stat_result]
    left_out: tuple[str, ...]
    handover: bool

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(found.st_size for found in self.files.values())

    def read(self, path: str, limit_bytes: int) -> bytes:
        """The first bytes of one file."""
        with opened(self.path / path, os.O_RDONLY | os.O_NOFOLLOW) as fd:
            return os.read(fd, limit_bytes)

    @contextlib.contextmanager
    def file(self, path: str, settings: StoreSettings) -> Iterator[PublishedFile]:
        """Open one file for publishing.

        Raises:
            ContentRefused: it is not the file that was listed, or may not be published itself.
        """
        with published(self.path / path, settings) as found:
            listed = self.files[path]
            # Handing one of several links of a file over changes the ctime of the others.
            exact = not (self.handover and listed.st_nlink > 1)
            if found.real_path != self.real_path / path or _state(found.before, exact) != _state(listed, exact):
                raise changed(found.path, "it is not the file that was there at first", _AGAIN)
            yield found

    def check_still_same(self) -> None:
        """Make sure that all files are those that were listed, and that none came or went.

        Raises:
            ContentRefused: somebody wrote below the folder; what was read may be of two versions.
        """
        now = _listed(self.fd, self.path).files
        for path in sorted(self.files.keys() | now.keys()):
            if path not in now:
                raise changed(self.path / path, "it is gone", _AGAIN)
            if path not in self.files:
                raise changed(self.path / path, "it is new", _AGAIN)
            # A file that was handed over got a link and lost its write permission: its ctime says nothing.
            if _state(now[path], not self.handover) != _state(self.files[path], not self.handover):
                raise changed(self.path / path, "it was written or replaced meanwhile", _AGAIN)


@contextlib.contextmanager
def published_folder(path: str | Path, settings: StoreSettings) -> Iterator[PublishedFolder]:
    """Open a folder for publishing.

    As for a file, the folder is judged by where the open one lies, and nothing below it is reached through a link.

    Raises:
        ContentRefused: it is missing, not in a publish root, holds no file or too many, or one that cannot be part of
            a bundle: a link, a device, an empty or unfinished file, a name that not every node could write.
    """
    wanted = absolute_path(path)
    with opened(wanted, os.O_PATH) as place:
        real = Path(f"/proc/self/fd/{place}").readlink()
        root = root_of(real, wanted, settings)
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            raise ContentRefused(f"{wanted} is no folder", next_step="publish the path of a folder or of one file")
        with opened(Path(f"/proc/self/fd/{place}"), os.O_RDONLY | os.O_DIRECTORY, shown=wanted) as fd:
            listing = _listed(fd, wanted)
            _check(listing, wanted, settings)
            files = dict(sorted(listing.files.items()))
            handover = root in settings.handover_roots
            yield PublishedFolder(fd, wanted, real, files, tuple(sorted(listing.left_out)), handover)


def is_folder(path: str | Path) -> bool:
    """Whether *path* is a folder now; whoever publishes it finds out again with the folder open."""
    return Path(path).is_dir()


class _Listing:
    """Names found so far."""

    def __init__(self) -> None:
        self.files: dict[str, os.stat_result] = {}
        self.left_out: list[str] = []
        self.names = 0


def _listed(fd: int, shown: Path) -> _Listing:
    listing = _Listing()
    _walk(fd, "", shown, listing)
    return listing


def _walk(fd: int, below: str, shown: Path, listing: _Listing) -> None:
    with os.scandir(fd) as entries:
        for entry in entries:
            listing.names += 1
            if listing.names > MAX_NAMES:
                raise _too_many(shown)
            _take(fd, below + entry.name, entry, shown, listing)


def _take(fd: int, path: str, entry: "os.DirEntry[str]", shown: Path, listing: _Listing) -> None:
    if _UNFINISHED.fullmatch(entry.name):
        raise ContentRefused(
            f"{shown / path} looks unfinished: its name is that of a file that is being written",
            next_step=f"let its writer end, or remove it: rm -r '{shown / path}'; then publish the folder again",
        )
    if entry.name.startswith("."):
        listing.left_out.append(path)
        return
    found = entry.stat(follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        inner = os.open(entry.name, _OPEN_FOLDER, dir_fd=fd)
        try:
            _walk(inner, f"{path}/", shown, listing)
        finally:
            os.close(inner)
    elif stat.S_ISREG(found.st_mode):
        listing.files[path] = found
        if len(listing.files) > MAX_FILES:
            raise _too_many(shown)
    elif stat.S_ISLNK(found.st_mode):
        raise ContentRefused(
            f"{shown / path} is a symbolic link, which other nodes cannot follow",
            next_step=f"copy the folder with what its links point to: cp -rL '{shown}' '{shown}-whole'; publish that",
        )
    else:
        raise ContentRefused(
            f"{shown / path} is no plain file but a pipe, socket or device",
            next_step=f"remove it: rm '{shown / path}'; then publish the folder again",
        )


def _check(listing: _Listing, shown: Path, settings: StoreSettings) -> None:
    if not listing.files:
        raise ContentRefused(
            f"{shown} holds no file",
            next_step="publish the folder that the files lie in; names that start with a dot do not count",
        )
    _check_names(listing.files, shown)
    for path, found in listing.files.items():
        if found.st_size == 0:
            raise ContentRefused(
                f"{shown / path} is empty", next_step=f"write it, or remove it: rm '{shown / path}'; then publish again"
            )
    size = sum(found.st_size for found in listing.files.values())
    if size > settings.max_file_bytes:
        raise ContentRefused(
            f"{shown} has {size} bytes, more than the {settings.max_file_bytes} that are taken",
            next_step=f"set store.max_file_bytes = {size} or more in fleetcast.toml",
        )


def _check_names(files: Mapping[str, os.stat_result], shown: Path) -> None:
    folded: dict[str, str] = {}
    for path in sorted(files):
        try:
            safe_relative_path(path)
        except (ValueError, UnicodeEncodeError) as wrong:
            raise ContentRefused(
                f"a name in {shown} cannot be used on every node: {wrong!s:.300}",
                next_step="rename it to letters, digits, dots and dashes, and publish the folder again",
            ) from wrong
        other = folded.setdefault(path.casefold(), path)
        if other != path:
            raise ContentRefused(
                f"{shown / path} and {other} differ only in case, and not every node can hold both",
                next_step="rename one of them, and publish the folder again",
            )


def _too_many(shown: Path) -> ContentRefused:
    return ContentRefused(
        f"{shown} holds more than {MAX_FILES} files",
        next_step="pack what belongs together into one file (tar, safetensors, npz), and publish the folder again",
    )


def _state(found: os.stat_result, exact: bool) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns if exact else 0)
