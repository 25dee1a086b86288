"""What vouches for manifests: publishers' keys, and the key ring that says which of them count. Pure values.

The ring is one document, signed by a root key of which every node knows the public half from its settings. Nobody who
can merely write to the bus can change it, and its number only grows, so that an older one is not taken again.
"""

import base64
import hashlib
from fnmatch import fnmatchcase
from typing import Annotated, Final

from pydantic import Field, StringConstraints, model_validator

from fleetcast.events.content import Stored
from fleetcast.events.ids import Name, canonical_json
from fleetcast.events.payloads import Moment

RING_SUBJECT: Final = "fc.reg.state.keyring.fleet"
"""Where the key ring is kept, in `FC_REGISTRY`."""
MANIFEST_TYPE: Final = "application/vnd.fleetcast.manifest.v1+json"
RING_TYPE: Final = "application/vnd.fleetcast.keyring.v1+json"
ALGORITHM: Final = "ed25519"
KEY_BYTES: Final = 32

KeyId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
"""First 16 hexadecimal digits of the SHA-256 of a public key."""
PublicKey = Annotated[str, StringConstraints(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$")]
"""`ed25519:` and the 32 bytes of a public key in base 64."""


def written(public: bytes) -> str:
    """A public key of 32 bytes as text."""
    return f"{ALGORITHM}:{base64.b64encode(public).decode()}"


def public_bytes(key: str) -> bytes:
    """The 32 bytes of a public key that is written as text.

    Raises:
        ValueError: it is none.
    """
    algorithm, _, data = key.partition(":")
    found = base64.b64decode(data, validate=True) if algorithm == ALGORITHM else b""
    if len(found) != KEY_BYTES:
        raise ValueError(f"{key!r} is no public key; they look like ed25519:{'A' * 43}=")
    return found


def key_id(public: bytes) -> str:
    """The name under which a public key is looked up."""
    return hashlib.sha256(public).hexdigest()[:16]


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """The bytes that a signature is about: DSSE's pre-authentication encoding, so that no payload passes for another
    type (https://github.com/secure-systems-lab/dsse, protocol.md)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


class Revocation(Stored):
    """Since when nothing that a key signed counts any more, and why."""

    at: Moment
    reason: str
    by: str = ""


class RingKey(Stored):
    """One publisher's key.

    Attributes:
        models: shell patterns of the models and lanes that it may sign for.
        added_at, not_after: it may sign in between; what it signed then stays good afterwards.
    """

    owner: Name
    public: PublicKey
    models: tuple[str, ...] = ("*",)
    added_at: Moment
    not_after: Moment
    revoked: Revocation | None = None

    @property
    def id(self) -> str:
        return key_id(public_bytes(self.public))

    def may_sign(self, model: str) -> bool:
        """Whether it is for this model or lane."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


class KeyRing(Stored):
    """The keys that count.

    Attributes:
        number: of this edition; a node never takes a lower one again.
    """

    schema_: int = Field(default=1, alias="schema")
    number: int = Field(ge=1)
    issued_at: Moment
    keys: tuple[RingKey, ...] = ()

    @model_validator(mode="after")
    def _has_each_key_once(self) -> "KeyRing":
        if len({key.id for key in self.keys}) != len(self.keys):
            raise ValueError("a key is listed twice")
        return self

    def find(self, keyid: str) -> RingKey | None:
        """The key of that id."""
        return next((key for key in self.keys if key.id == keyid), None)

    def payload(self) -> bytes:
        """The bytes that the root key signs."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))


class Seal(Stored):
    """A signature of a document as a whole: by which key, in base 64."""

    keyid: KeyId
    sig: str


class SignedRing(Stored):
    """A key ring as it travels; `payload` is its exact bytes, so that a newer form with more fields verifies too."""

    payload: str
    signatures: tuple[Seal, ...]
