"""Which commit a job's code is at, read from the files of git: a program that hangs would hang the job."""

import os
import stat

_DIGITS = frozenset("0123456789abcdef")
_MOST_BYTES = 8 * 2**20
"""Of a file of git: `packed-refs` of a large project has some."""
_MOST_LINKS = 5


def commit_of(folder: str) -> str | None:
    """The commit that is checked out in *folder* or in the nearest folder above it; None: it cannot be told."""
    place = _git_folder(os.path.abspath(folder))
    if place is None:
        return None
    common = _common(place)
    name = "HEAD"
    for _ in range(_MOST_LINKS):
        text = _read(os.path.join(place, name)) or _read(os.path.join(common, name))
        if text is None:
            return _packed(common, name)
        if not text.startswith("ref:"):
            return text if _is_commit(text) else None
        name = text.removeprefix("ref:").strip()
        if name.startswith("/") or ".." in name.split("/"):
            return None
    return None


def _git_folder(folder: str) -> str | None:
    while True:
        place = os.path.join(folder, ".git")
        if os.path.isdir(place):
            return place
        # A linked working tree and a submodule have a file that says where.
        said = _read(place)
        if said is not None and said.startswith("gitdir:"):
            return os.path.join(folder, said.removeprefix("gitdir:").strip())
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def _common(place: str) -> str:
    """Where the references of all working trees are."""
    said = _read(os.path.join(place, "commondir"))
    return os.path.join(place, said) if said else place


def _packed(common: str, name: str) -> str | None:
    for line in (_read(os.path.join(common, "packed-refs")) or "").split("\n"):
        commit, _, known = line.partition(" ")
        if known.strip() == name and _is_commit(commit):
            return commit
    return None


def _is_commit(text: str) -> bool:
    return len(text) in (40, 64) and _DIGITS.issuperset(text)


def _read(path: str) -> str | None:
    """A file's text without blanks around; None: there is no plain file, or nobody may read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)
