"""A control group for one command: what is inside can neither leave it nor outrun its end. Standard library only.

Made below the supervisor's own group, where nobody else keeps order there: in a unit whose group was delegated to it,
or on a machine without systemd (one writer per tree: docs/CGROUP_DELEGATION.md of systemd).
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

PREFIX = "fleetcast-"
EMPTY_SECONDS = 600.0
"""After which a group in which there is nothing is nobody's."""


class Cage:
    """One control group (cgroup v2)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._members = str(folder / "cgroup.procs")

    @classmethod
    def make(cls, name: str) -> Self | None:
        """A group below this process's own; None: that is not allowed here, or there are no such groups."""
        parent = own_group()
        if parent is None or not is_ours(parent):
            return None
        _clear(parent)
        cage = cls(parent / (PREFIX + name))
        try:
            cage.folder.mkdir()
        except OSError:
            return None
        if not (cage.folder / "cgroup.kill").exists():
            # Before Linux 5.14.
            cage.remove()
            return None
        return cage

    def enter(self) -> None:
        """Put this process inside. Between fork and exec: one open and one write.

        Raises:
            OSError: it is not allowed.
        """
        handle = os.open(self._members, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(handle, b"0")
        finally:
            os.close(handle)

    def kill(self) -> None:
        """SIGKILL everything inside at once, what is being forked too."""
        with suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1")

    def members(self) -> set[int]:
        """What is inside."""
        with suppress(OSError, ValueError):
            return {int(line) for line in Path(self._members).read_text().split()}
        return set()

    def remove(self) -> None:
        """Take the group away; it stays while something is inside."""
        with suppress(OSError):
            self.folder.rmdir()


def _clear(parent: Path) -> None:
    """Take away what supervisors have left that were killed: groups with nothing in them, which were not made just now
    by one that is about to put a command there."""
    for each in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if time.time() - each.stat().st_mtime > EMPTY_SECONDS:
                each.rmdir()


def is_ours(folder: Path, root: Path = Path("/")) -> bool:
    """Whether groups may be made below this one: there is no systemd, or it says that it has delegated it (252 and
    newer do, by `user.delegate`)."""
    if not (root / "run/systemd/system").is_dir():
        return True
    with suppress(OSError):
        return os.getxattr(folder, "user.delegate") == b"1"
    return False


def own_group() -> Path | None:
    """Folder of the control group (v2) that this process is in; None: there is none to be seen."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    path = next((line[3:] for line in groups if line.startswith("0::")), None)
    # proc(5): id, parent, device, root, mount point, options…, a dash, type.
    place = next((line.split()[4] for line in mounts if " - cgroup2 " in line), None)
    if path is None or place is None or ".." in path:
        return None
    return Path(place + path)
