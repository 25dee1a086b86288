"""Key rings: only the root key's word is taken, and never an older one."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.signing.rings import entry, ring

from fleetcast.events.signing import MANIFEST_TYPE, RING_TYPE
from fleetcast.transport.errors import RingRefused
from fleetcast.transport.signing.keys import SigningKey
from fleetcast.transport.signing.ring import MAX_BYTES, open_ring, seal_ring, succeeds

ROOT, KEY = SigningKey.new(), SigningKey.new()
SEALED = seal_ring(ring(entry(KEY)), ROOT)


def test_a_ring_comes_back_as_it_was_sealed() -> None:
    assert open_ring(SEALED, (SigningKey.new().public, ROOT.public)) == ring(entry(KEY))


def test_a_ring_that_another_key_signed_is_refused() -> None:
    with pytest.raises(RingRefused, match="none of which is a root key"):
        open_ring(seal_ring(ring(entry(KEY)), KEY), (ROOT.public,))
    with pytest.raises(RingRefused, match="signed by nobody"):
        open_ring(json.dumps({**json.loads(SEALED), "signatures": []}).encode(), (ROOT.public,))


def test_a_manifests_signature_is_none_of_a_ring() -> None:
    payload = ring(entry(KEY)).payload()
    stolen = ROOT.seal(MANIFEST_TYPE, payload)
    forged = json.dumps({**json.loads(SEALED), "signatures": [stolen.model_dump()]}).encode()
    with pytest.raises(RingRefused, match="none of which is a root key"):
        open_ring(forged, (ROOT.public,))


@given(st.integers(min_value=0, max_value=len(SEALED) - 1), st.integers(min_value=0, max_value=7))
def test_no_flipped_bit_gives_another_ring(place: int, bit: int) -> None:
    damaged = bytearray(SEALED)
    damaged[place] ^= 1 << bit
    try:
        found = open_ring(bytes(damaged), (ROOT.public,))
    except RingRefused:
        return
    assert found == ring(entry(KEY))  # a bit of white space, of a key id, of base 64's padding


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(RingRefused):
        open_ring(data, (ROOT.public,))


@pytest.mark.parametrize("payload", ["é", "AAAA\u2028", "=", "\u0000"])
def test_a_payload_that_is_no_base_64_is_refused(payload: str) -> None:
    data = {**json.loads(SEALED), "payload": payload}
    with pytest.raises(RingRefused, match="key ring"):
        open_ring(json.dumps(data, ensure_ascii=False).encode(), (ROOT.public,))


def test_a_huge_ring_is_refused_unread() -> None:
    with pytest.raises(RingRefused, match="at most"):
        open_ring(b"x" * (MAX_BYTES + 1), (ROOT.public,))


def test_a_ring_of_a_newer_fleetcast_is_understood() -> None:
    newer = ring(entry(KEY)).model_dump(mode="json", by_alias=True) | {"threshold": 2}
    payload = json.dumps(newer).encode()
    data = {"payload": base64.b64encode(payload).decode(), "signatures": [ROOT.seal(RING_TYPE, payload).model_dump()]}
    assert open_ring(json.dumps(data).encode(), (ROOT.public,)) == ring(entry(KEY))


def test_only_a_later_edition_takes_the_place_of_one() -> None:
    known = ring(entry(KEY), number=3)

    assert succeeds(None, known)
    assert succeeds(known, ring(number=4))
    assert not succeeds(known, known)
    with pytest.raises(RingRefused, match="key ring 2 is older than 3"):
        succeeds(known, ring(number=2))
    with pytest.raises(RingRefused, match="another key ring of number 3"):
        succeeds(known, ring(number=3))


def test_a_key_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="listed twice"):
        ring(entry(KEY), entry(KEY, "team-b"))
