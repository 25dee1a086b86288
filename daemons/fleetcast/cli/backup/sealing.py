"""Sealed to a public key, so that whoever makes backups cannot read them: keys, and bytes in chunks.

A fresh key per file, wrapped for every recipient by HPKE (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305); the bytes
in numbered chunks of which the last is marked (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár,
2015), so that none can be left out, swapped or cut off unseen. docs/adr/0040 says why.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fleetcast.cli.problems import Problem
from fleetcast.security.keys import others_may_read

CHUNK_BYTES: Final = 256 * 1024
TAG_BYTES: Final = 16
KEY_BYTES: Final = 32
PUBLIC_PREFIX: Final = "fleetcast-backup-public-"
PRIVATE_PREFIX: Final = "FLEETCAST-BACKUP-PRIVATE-"
WRAP_PURPOSE: Final = b"fleetcast backup 1: file key"
BYTES_PURPOSE: Final = b"fleetcast backup 1: bytes"
SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def damaged(what: str) -> Problem:
    """The file is not what was written, or is not whole."""
    return Problem(
        "backup_damaged",
        what,
        why="the file was cut off or changed after it was written",
        next_step="fleetcast backup list    (take another one, or another copy of it)",
    )


class PublicKey:
    """What seals. `id` names it in files and lists."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._key = X25519PublicKey.from_public_bytes(raw)

    @property
    def text(self) -> str:
        """As settings have it."""
        return PUBLIC_PREFIX + _encode(self.raw)

    @property
    def id(self) -> str:
        """Short, for people."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def wrap(self, file_key: bytes) -> bytes:
        """The key of a file, for the owner of the private key alone."""
        return SUITE.encrypt(file_key, self._key, WRAP_PURPOSE)


class PrivateKey:
    """What opens; `public` is its other half."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._key = X25519PrivateKey.from_private_bytes(raw)
        self.public = PublicKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def new(cls) -> "PrivateKey":
        """Made of the system's randomness."""
        return cls(os.urandom(KEY_BYTES))

    @property
    def text(self) -> str:
        """As its file has it."""
        return PRIVATE_PREFIX + _encode(self._raw)

    def unwrap(self, wrapped: bytes) -> bytes:
        """The key of a file.

        Raises:
            Problem: it was wrapped for somebody else, or changed.
        """
        try:
            return SUITE.decrypt(wrapped, self._key, WRAP_PURPOSE)
        except (InvalidTag, ValueError) as e:
            raise damaged("the key inside the backup cannot be opened") from e


def read_public(text: str) -> PublicKey:
    """A public key as settings have it.

    Raises:
        Problem: it is none.
    """
    try:
        return PublicKey(_decode(text.strip(), PUBLIC_PREFIX))
    except ValueError as e:
        step = "fleetcast backup keys FILE    (makes a pair, and prints the public half)"
        raise Problem("backup_key", f"{text.strip()[:60]!r} is no public key for backups", next_step=step) from e


def read_private(path: Path) -> PrivateKey:
    """The private key in a file that only its owner may read.

    Raises:
        Problem: there is none, others may read it, or it is no such key.
    """
    try:
        if others_may_read(path):
            raise Problem("backup_key", f"{path} may be read by others", next_step=f"chmod 600 {path}")
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as e:
        what = getattr(e, "strerror", None) or "no text"
        step = "--identity FILE: the private key that `fleetcast backup keys` made, from where it is kept"
        raise Problem("backup_key", f"{path}: {what}", next_step=step) from e
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        return PrivateKey(_decode(lines[0].strip() if len(lines) == 1 else "", PRIVATE_PREFIX))
    except ValueError as e:
        raise Problem("backup_key", f"{path} holds no private key for backups") from e


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str, prefix: str) -> bytes:
    if not text.startswith(prefix):
        raise ValueError("another prefix")
    body = text.removeprefix(prefix)
    raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    if len(raw) != KEY_BYTES:
        raise ValueError("another length")
    return raw


def _cipher(file_key: bytes, header: bytes) -> ChaCha20Poly1305:
    # The header is part of the key: under another header nothing opens.
    salt = hashlib.sha256(header).digest()
    return ChaCha20Poly1305(HKDF(hashes.SHA256(), KEY_BYTES, salt, BYTES_PURPOSE).derive(file_key))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class Sealer:
    """Takes bytes, and hands sealed chunks to *write*; holds one chunk at most."""

    def __init__(self, file_key: bytes, header: bytes, write: Callable[[bytes], object]) -> None:
        self._cipher = _cipher(file_key, header)
        self._write = write
        self._waiting = bytearray()
        self._number = 0

    def add(self, data: bytes) -> None:
        """Seal what fills chunks; the last one waits, for it may be the last of all."""
        self._waiting += data
        while len(self._waiting) > CHUNK_BYTES:
            self._seal(bytes(self._waiting[:CHUNK_BYTES]), last=False)
            del self._waiting[:CHUNK_BYTES]

    def finish(self) -> None:
        """Seal the rest, marked as the end."""
        self._seal(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _seal(self, data: bytes, *, last: bool) -> None:
        self._write(self._cipher.encrypt(_nonce(self._number, last=last), data, None))
        self._number += 1


def opened(file_key: bytes, header: bytes, read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    """The bytes in *size* sealed bytes that *read* gives, chunk by chunk.

    Raises:
        Problem: a chunk is not what was sealed, or the end is missing.
    """
    cipher, number, left = _cipher(file_key, header), 0, size
    while left > 0:
        sealed = read(min(left, CHUNK_BYTES + TAG_BYTES))
        if not sealed:
            raise damaged("the backup ends in the middle")
        left -= len(sealed)
        try:
            yield cipher.decrypt(_nonce(number, last=left == 0), sealed, None)
        except InvalidTag as e:
            raise damaged(f"chunk {number} of the backup is not what was sealed") from e
        number += 1
    if number == 0:
        raise damaged("the backup is empty")
