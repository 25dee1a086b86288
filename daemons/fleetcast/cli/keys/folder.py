"""The folder that the root key lies in: `root.key`, `ring.json` as it is published, and a `NAME.key` per publisher.

Whoever has this folder decides whose models nodes take. It belongs on one machine that serves nothing else, and into a
safe place besides.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleetcast.cli.problems import Exit, Problem, not_found
from fleetcast.events.signing import KeyRing
from fleetcast.transport.errors import KeyUnusable, RingRefused
from fleetcast.transport.signing.keys import SigningKey, read_key
from fleetcast.transport.signing.ring import open_ring, seal_ring

ROOT, RING, LOCK = "root.key", "ring.json", ".lock"


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """An operator's folder, read."""

    path: Path
    root: SigningKey
    ring: KeyRing

    def seal(self, ring: KeyRing) -> bytes:
        """A ring as it is published, signed by this folder's root key."""
        return seal_ring(ring, self.root)

    def keep(self, data: bytes) -> None:
        """Put a sealed ring into the folder, all of it or nothing."""
        spare = self.path / f"{RING}.next"
        with spare.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        spare.replace(self.path / RING)

    def file_of(self, owner: str) -> Path:
        """Where a publisher's private key lies."""
        return self.path / f"{owner}.key"


def create(path: Path, ring: KeyRing) -> KeyFolder:
    """Make a folder with a new root key and an empty ring.

    Raises:
        Problem: one is there already.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = SigningKey.new()
    try:
        root.write(path / ROOT)
    except FileExistsError as taken:
        raise Problem(
            "exists",
            f"{path / ROOT} is there already",
            why="nodes that know its public half would not believe another one",
            next_step=f"fleetcast keys list --folder {path}",
        ) from taken
    made = KeyFolder(path, root, ring)
    made.keep(made.seal(ring))
    return made


@contextmanager
def opened(path: Path) -> Iterator[KeyFolder]:
    """The folder, for one change at a time.

    Raises:
        Problem: there is none, its key cannot be used, or its ring was not made by it.
    """
    if not (path / ROOT).is_file():
        raise not_found(f"{path} holds no {ROOT}", next_step=f"fleetcast keys init --folder {path}")
    with (path / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            root = read_key(path / ROOT)
            ring = open_ring((path / RING).read_bytes(), (root.public,))
        except (KeyUnusable, RingRefused, OSError) as broken:
            hint = getattr(broken, "next_step", "") or f"put {path} back from its copy"
            raise Problem("key_folder", f"{path} cannot be used: {broken}", next_step=hint) from broken
        yield KeyFolder(path, root, ring)


def made(folder: KeyFolder, owner: str) -> SigningKey:
    """A new private key for a publisher, in the folder. The one before is kept beside it, under its id.

    Raises:
        Problem: it cannot be written.
    """
    path, key = folder.file_of(owner), SigningKey.new()
    spare = path.with_suffix(".key.next")
    try:
        spare.unlink(missing_ok=True)
        key.write(spare)
        if path.exists():
            path.replace(path.with_suffix(f".{_id_of(path)}.key"))
        spare.replace(path)
    except OSError as fault:
        raise Problem("key_folder", f"{path} cannot be written: {fault.strerror}", exit_code=Exit.FAILED) from fault
    return key


def _id_of(path: Path) -> str:
    try:
        return read_key(path).id
    except KeyUnusable:
        return "unreadable"
