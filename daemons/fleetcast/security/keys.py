"""Files with secrets: written whole or not at all, for their owner alone; and the nkeys in them."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nkeys  # type: ignore[import-untyped]

from fleetcast.config.credentials import readable_by_others
from fleetcast.security.errors import SecretDamaged

PRIVATE, PUBLIC = 0o600, 0o644


def write(path: Path, data: str, *, mode: int = PRIVATE) -> None:
    """Write a file so that it is there whole or as it was, whatever happens in between.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    with _beside(path, data, mode) as fresh:
        fresh.replace(path)
    sync_folder(path.parent)


def write_new(path: Path, data: str, *, mode: int = PRIVATE) -> None:
    """As `write`, of a file that is not there yet.

    Raises:
        FileExistsError: something is there, be it a link; it stays as it is.
        OSError: the disk is full, or the folder cannot be written.
    """
    with _beside(path, data, mode) as fresh:
        path.hardlink_to(fresh)
    sync_folder(path.parent)


@contextmanager
def _beside(path: Path, data: str, mode: int) -> Iterator[Path]:
    """The file under another name, until it has its own."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make what was renamed in *folder* last."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def others_may_read(path: Path) -> bool:
    """Whether anybody but the owner of a secret's file may use it.

    Raises:
        OSError: there is no such file.
    """
    return readable_by_others(path, path.stat().st_mode)


def new_seed() -> str:
    """The seed of a new user nkey (ed25519; NATS ADR-14)."""
    return str(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode())


def public_key(seed: str, *, where: Path) -> str:
    """The public key that belongs to a seed.

    Raises:
        SecretDamaged: it is no whole seed of a user.
    """
    try:
        pair = nkeys.from_seed(bytearray(seed.strip().encode()))
        public = str(pair.public_key.decode())
        pair.wipe()
    except Exception as e:  # the library raises whatever its decoders raise
        raise SecretDamaged(f"{where} holds no whole nkey seed", next_step="fleetcast fleet rotate NAME") from e
    if not public.startswith("U"):
        raise SecretDamaged(f"{where} is no seed of a user", next_step="fleetcast fleet rotate NAME")
    return public
