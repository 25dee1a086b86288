"""Disks of their own for servers: ext4 in image files, mounted by loop devices.

What a machine has written to a file and not synced is in its memory. The power is cut by copying the image: the copy is
what the disk holds at that moment, as after a cut. The journal is not committed by the clock (`commit=600`) and the
kernel does not write dirty pages back before they are 30 s old: nothing but a sync brings data to the disk while a
measurement of less than that runs.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MIB = 2**20
SECONDS = 60
FREEZE, THAW = 0xC0045877, 0xC0045878
"""FIFREEZE and FITHAW of linux/fs.h."""
WRITEBACK_SECONDS = 30.0
"""vm.dirty_expire_centisecs: data that nobody synced stays in memory for so long."""


@dataclass
class Disk:
    """A file system in an image, mounted at `place`."""

    image: Path
    place: Path
    mib: int = 256
    _ballast: list[Path] = field(default_factory=list)

    def make(self) -> None:
        """Make the file system, and mount it."""
        self.place.mkdir(parents=True, exist_ok=True)
        with self.image.open("wb") as image:
            image.truncate(self.mib * MIB)
        # Everything is initialised at once: no kernel thread writes to the image later on.
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-m", "0", str(self.image))
        self.mount()

    def mount(self) -> None:
        _run("mount", "-o", "loop,commit=600", str(self.image), str(self.place))

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.place)], check=False, timeout=SECONDS, capture_output=True)

    def copied(self) -> Path:
        """A copy of what the disk holds at this moment, without what is only in memory."""
        copy = self.image.with_suffix(".cut")
        _run("cp", "--sparse=always", "--reflink=auto", str(self.image), str(copy))
        return copy

    def replace_by(self, copy: Path) -> None:
        """Mount a copy instead: the machine starts again after the cut."""
        self.unmount()
        copy.replace(self.image)
        self.mount()

    # -- a full disk

    @property
    def free(self) -> int:
        """Bytes that may still be written."""
        found = os.statvfs(self.place)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int) -> None:
        """Take all room but *leave* bytes."""
        ballast = self.place / f"ballast{len(self._ballast)}"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(self.free - leave, 1))
        self._ballast.append(ballast)

    def make_room(self) -> None:
        """Give the room back."""
        while self._ballast:
            self._ballast.pop().unlink(missing_ok=True)

    # -- a disk that hangs

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let every write and sync hang. It thaws with this process, however that ends."""
        guard = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, str(self.place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert guard.stdin is not None
        assert guard.stdout is not None
        try:
            if not guard.stdout.readline():
                raise RuntimeError(f"{self.place} does not freeze")
            yield
        finally:
            guard.stdin.close()
            guard.wait(SECONDS)
            guard.stdout.close()


@contextlib.contextmanager
def disk(image: Path, place: Path, *, mib: int = 256) -> Iterator[Disk]:
    """A disk for as long as the context lasts.

    Raises:
        subprocess.CalledProcessError: this machine mounts no images.
    """
    made = Disk(image, place, mib)
    try:
        made.make()
        yield made
    finally:
        made.unmount()
        image.unlink(missing_ok=True)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, timeout=SECONDS, capture_output=True, text=True)


def _freeze_until_told(place: str) -> None:
    """Freeze a file system until stdin ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    handle = os.open(place, os.O_RDONLY)
    fcntl.ioctl(handle, FREEZE, 0)
    try:
        print("frozen", flush=True)
        sys.stdin.read()
    finally:
        fcntl.ioctl(handle, THAW, 0)


if __name__ == "__main__":
    _freeze_until_told(sys.argv[1])
