"""Files with secrets: written whole or not at all, for their owner alone; and the nkeys in them."""

import os
import secrets
import stat
from pathlib import Path

import nkeys  # type: ignore[import-untyped]

from fleetcast.security.errors import SecretDamaged

PRIVATE, PUBLIC = 0o600, 0o644


def write(path: Path, data: str, *, mode: int = PRIVATE) -> None:
    """Write a file so that it is there whole or as it was, whatever happens in between.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


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
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


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
