"""Private keys in files that only their owner reads: ed25519 for what fleetcast signs; and what a public one says of a
signature."""

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from fleetcast.config import credentials
from fleetcast.events import signing
from fleetcast.events.signing import Seal
from fleetcast.transport.errors import KeyUnusable

MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key."""

    _private: Ed25519PrivateKey

    @classmethod
    def new(cls) -> "SigningKey":
        return cls(Ed25519PrivateKey.generate())

    @property
    def public(self) -> str:
        """Its public half, `ed25519:` and base 64."""
        return signing.written(self._public_bytes())

    @property
    def id(self) -> str:
        return signing.key_id(self._public_bytes())

    def seal(self, payload_type: str, payload: bytes) -> Seal:
        """Sign *payload* as one of *payload_type*."""
        made = self._private.sign(signing.pre_authentication(payload_type, payload))
        return Seal(keyid=self.id, sig=base64.b64encode(made).decode())

    @property
    def pem(self) -> str:
        """The private key itself, PKCS #8 in PEM."""
        return pem_of(self._private)

    def _public_bytes(self) -> bytes:
        return self._private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def pem_of(key: PrivateKeyTypes) -> str:
    """A private key of any kind, PKCS #8 in PEM."""
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


def read_key(path: Path) -> SigningKey:
    """The private key in a file.

    Raises:
        KeyUnusable: there is none, others may read it, or it is not an ed25519 key in PEM.
    """
    key = read_private(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"{path} is no ed25519 key", next_step="make one: fleetcast keys add NAME")
    return SigningKey(key)


def read_private(path: Path) -> PrivateKeyTypes:
    """The private key of any kind in a file.

    Raises:
        KeyUnusable: there is none, others may read it, or it is not one in PEM.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_FILE_BYTES)
    except OSError as fault:
        raise KeyUnusable(f"{path} cannot be read: {fault.strerror}") from fault
    if credentials.readable_by_others(path, mode):
        raise KeyUnusable(f"{path} can be read by others (mode {mode & 0o777:04o})", next_step=f"chmod 600 {path}")
    try:
        return serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as broken:
        raise KeyUnusable(f"{path} is no private key in PEM: {broken}") from broken


def holds(seal: Seal, public: str, payload_type: str, payload: bytes) -> bool:
    """Whether *seal* is the signature of that payload by that key."""
    try:
        key = Ed25519PublicKey.from_public_bytes(signing.public_bytes(public))
        key.verify(base64.b64decode(seal.sig, validate=True), signing.pre_authentication(payload_type, payload))
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True
