"""The folder that the root key lies in: `root.key`, `ring.json` as it is published, a `NAME.key` per publisher, and
`oms.key` with `oms.pub` for bundles that others verify.

Whoever has this folder decides whose models nodes take. It belongs on one machine that serves nothing else, and into a
safe place besides.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleetcast.events.signing import KeyRing
from fleetcast.security import keys
from fleetcast.security.publishers.changes import text
from fleetcast.security.publishers.errors import KeysThere, KeysUnusable, PublisherUnknown
from fleetcast.transport.errors import KeyUnusable, RingRefused
from fleetcast.transport.signing.keys import SigningKey, read_key
from fleetcast.transport.signing.oms import BundleKey, read_bundle_key
from fleetcast.transport.signing.ring import open_ring, seal_ring

ROOT, RING, LOCK = "root.key", "ring.json", ".lock"
OMS, OMS_PUBLIC = "oms.key", "oms.pub"


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
        """Put a sealed ring into the folder, all of it or nothing; it is there also after the power fails.

        Raises:
            KeysUnusable: it cannot be written.
        """
        try:
            keys.write(self.path / RING, data.decode(), mode=keys.PUBLIC)
        except OSError as fault:
            raise KeysUnusable(f"{self.path / RING} cannot be written: {fault.strerror}") from fault

    def file_of(self, owner: str) -> Path:
        """Where a publisher's private key lies."""
        return self.path / f"{owner}.key"


def create(path: Path, *, edition: int = 1, now: datetime) -> KeyFolder:
    """Make a folder with a new root key and an empty ring.

    Args:
        edition: number of the ring.

    Raises:
        KeysThere: one is there already.
        KeysUnusable: the folder cannot be written.
    """
    ring, root = KeyRing(schema=1, number=edition, issued_at=text(now)), SigningKey.new()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys.write_new(path / ROOT, root.pem)
    except FileExistsError as taken:
        raise KeysThere(
            f"{path / ROOT} is there already",
            why="nodes that know its public half would not believe another one",
            next_step=f"fleetcast keys list --folder {path}",
        ) from taken
    except OSError as fault:
        raise KeysUnusable(f"{path} cannot be written: {fault.strerror}") from fault
    made = KeyFolder(path, root, ring)
    made.keep(made.seal(ring))
    return made


@contextmanager
def opened(path: Path) -> Iterator[KeyFolder]:
    """The folder, for one change at a time.

    Raises:
        PublisherUnknown: there is none.
        KeysUnusable: its key cannot be used, or its ring was not made by it.
    """
    if not (path / ROOT).is_file():
        raise PublisherUnknown(f"{path} holds no {ROOT}", next_step=f"fleetcast keys init --folder {path}")
    with (path / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            root = read_key(path / ROOT)
            ring = open_ring((path / RING).read_bytes(), (root.public,))
        except (KeyUnusable, RingRefused, OSError) as broken:
            hint = getattr(broken, "next_step", "") or f"put {path} back from its copy"
            raise KeysUnusable(f"{path} cannot be used: {broken}", next_step=hint) from broken
        yield KeyFolder(path, root, ring)


def made(folder: KeyFolder, owner: str) -> SigningKey:
    """A new private key for a publisher, in the folder. The one before is kept beside it, under its id.

    Raises:
        KeysUnusable: it cannot be written.
    """
    path, key = folder.file_of(owner), SigningKey.new()
    try:
        if path.exists():
            with contextlib.suppress(FileExistsError):
                path.with_suffix(f".{_id_of(path)}.key").hardlink_to(path)
        keys.write(path, key.pem)
    except OSError as fault:
        raise KeysUnusable(f"{path} cannot be written: {fault.strerror}") from fault
    return key


def create_oms(folder: KeyFolder) -> BundleKey:
    """A key for bundles of OpenSSF Model Signing, and beside it the public half that others verify with.

    Raises:
        KeysThere: there is one already.
        KeysUnusable: it cannot be written.
    """
    path, key = folder.path / OMS, BundleKey.new()
    try:
        keys.write_new(path, key.pem)
        keys.write(folder.path / OMS_PUBLIC, key.public_pem, mode=keys.PUBLIC)
    except FileExistsError as taken:
        why = "others have its public half, and verify with that"
        raise KeysThere(f"{path} is there already", why=why, next_step="move it away first") from taken
    except OSError as fault:
        raise KeysUnusable(f"{path} cannot be written: {fault.strerror}") from fault
    return key


def read_oms(folder: KeyFolder) -> BundleKey:
    """The key for bundles.

    Raises:
        KeysUnusable: there is none that can be used.
    """
    try:
        return read_bundle_key(folder.path / OMS)
    except KeyUnusable as unusable:
        hint = unusable.next_step or f"fleetcast keys init-oms --folder {folder.path}"
        raise KeysUnusable(unusable.reason, next_step=hint) from unusable


def _id_of(path: Path) -> str:
    try:
        return read_key(path).id
    except KeyUnusable:
        return "unreadable"
