"""Key rings as they travel: signed by the root key, and taken only when they are newer than the one that is known."""

import base64
from collections.abc import Iterable

from pydantic import ValidationError

from fleetcast.events.signing import RING_TYPE, KeyRing, SignedRing
from fleetcast.transport.errors import RingRefused
from fleetcast.transport.signing.keys import SigningKey, holds

MAX_BYTES = 256 * 1024


def seal_ring(ring: KeyRing, root: SigningKey) -> bytes:
    """A ring as it travels."""
    payload = ring.payload()
    made = SignedRing(payload=base64.b64encode(payload).decode(), signatures=(root.seal(RING_TYPE, payload),))
    return made.model_dump_json().encode()


def open_ring(data: bytes, roots: Iterable[str]) -> KeyRing:
    """The ring in *data*, once it is shown that one of the root keys signed it.

    Args:
        roots: public keys, as text.

    Raises:
        RingRefused: it is none, or nobody who may has signed it.
    """
    if len(data) > MAX_BYTES:
        raise RingRefused(f"a key ring of {len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        signed = SignedRing.model_validate_json(data)
        payload = base64.b64decode(signed.payload, validate=True)
    except ValueError as broken:  # also of text that is not ASCII, which base 64 says no more of
        raise RingRefused(f"not a key ring: {str(broken).splitlines()[0]}") from broken
    if not any(holds(seal, root, RING_TYPE, payload) for root in roots for seal in signed.signatures):
        said_by = ", ".join(seal.keyid for seal in signed.signatures) or "nobody"
        raise RingRefused(f"the key ring is signed by {said_by}, none of which is a root key of this node")
    try:
        return KeyRing.model_validate_json(payload)
    except ValidationError as broken:
        raise RingRefused(f"not a key ring: {str(broken).splitlines()[0]}") from broken


def succeeds(known: KeyRing | None, found: KeyRing) -> bool:
    """Whether *found* takes the place of the one that is known.

    Raises:
        RingRefused: it is older, or another one of the same number.
    """
    if known is None or found.number > known.number:
        return True
    if found == known:
        return False
    if found.number == known.number:
        raise RingRefused(f"another key ring of number {known.number} is known already", next_step=_PUBLISH)
    raise RingRefused(
        f"key ring {found.number} is older than {known.number}, which is known already", next_step=_PUBLISH
    )


_PUBLISH = "publish the newest one: fleetcast keys publish"
