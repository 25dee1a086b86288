"""Bundles of OpenSSF Model Signing 1.0 (github.com/ossf/model-signing-spec): what others verify without fleetcast.

A bundle is a Sigstore bundle around a DSSE envelope around an in-toto statement that lists every file with its SHA-256.
It says what the files are and who vouches for them; it knows nothing of revocation, and no time.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleetcast.events.content import Content
from fleetcast.events.signing import pre_authentication
from fleetcast.transport.errors import KeyUnusable
from fleetcast.transport.signing.keys import pem_of, read_private

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"


@dataclass(frozen=True, slots=True)
class BundleKey:
    """A private key, ECDSA on P-256: the tools of Model Signing take no ed25519."""

    _private: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls) -> "BundleKey":
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @property
    def public_pem(self) -> str:
        """Its public half in PEM, for whoever verifies."""
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return self._private.public_key().public_bytes(*form).decode()

    def sign(self, data: bytes) -> bytes:
        """A signature with SHA-256, in DER."""
        return self._private.sign(data, ec.ECDSA(hashes.SHA256()))

    @property
    def pem(self) -> str:
        """The private key itself, PKCS #8 in PEM."""
        return pem_of(self._private)


def read_bundle_key(path: Path) -> BundleKey:
    """The private key in a file.

    Raises:
        KeyUnusable: there is none, others may read it, or it is not an ECDSA key on P-256 in PEM.
    """
    key = read_private(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != ec.SECP256R1.name:
        raise KeyUnusable(f"{path} is no ECDSA key on P-256", next_step="make one: fleetcast keys init-oms")
    return BundleKey(key)


def bundle(content: Content, name: str, key: BundleKey) -> str:
    """The bundle for content, as JSON: it holds for a folder with these files and no others.

    Args:
        name: what the content is called, for people.
    """
    payload = json.dumps(_statement(content, name), separators=(",", ":")).encode()
    signature = key.sign(pre_authentication(PAYLOAD_TYPE, payload))
    made = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(key.public_pem.encode()).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": _text(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": _text(signature), "keyid": ""}],
        },
    }
    return json.dumps(made) + "\n"


def _statement(content: Content, name: str) -> dict[str, object]:
    files = content.files
    # Of all digests, one after the other: by it, other documents speak of the model as a whole.
    whole = hashlib.sha256(b"".join(bytes.fromhex(file.sha256) for file in files)).hexdigest()
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": whole}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [{"name": f.path, "algorithm": "sha256", "digest": f.sha256} for f in files],
        },
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
