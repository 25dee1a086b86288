"""Which manifests count on a node: signed by who may, then, for that model; the reason is said otherwise."""

from datetime import datetime, timedelta

import pytest
from pydantic import ValidationError
from tests.unit.signing.rings import NOW, entry, ring
from tests.unit.store.test_manifest import content

from fleetcast.events.payloads import ManifestEnvelope, ManifestSignature
from fleetcast.events.signing import MANIFEST_TYPE, KeyRing
from fleetcast.transport.errors import ManifestRefused
from fleetcast.transport.manifest import Trust, Unsigned, check, revoked, signed_bytes, state, with_signature
from fleetcast.transport.signing.keys import SigningKey

KEY, OTHER = SigningKey.new(), SigningKey.new()
HEX8 = content("a")


def signed(key: SigningKey = KEY, at: datetime = NOW, version: str = "1") -> ManifestEnvelope:
    envelope = state(HEX8, "hex8", version)
    text = at.isoformat()
    return with_signature(envelope, key.seal(MANIFEST_TYPE, signed_bytes(envelope.statement, text)), text)


def refused(envelope: ManifestEnvelope, known: KeyRing | None, unsigned: Unsigned = "refuse") -> str:
    with pytest.raises(ManifestRefused) as refusal:
        check(envelope, HEX8, now=NOW, trust=Trust(unsigned, known))
    assert "new version" in refusal.value.next_step
    return refusal.value.reason


def test_what_a_publisher_signed_counts_under_either_policy() -> None:
    for policy in ("allow", "refuse"):
        assert check(signed(), HEX8, now=NOW, trust=Trust(policy, ring(entry(KEY)))).version == "1"


def test_one_good_signature_is_enough() -> None:
    both = state(HEX8, "hex8", "1")
    for key in (OTHER, KEY):
        both = with_signature(
            both, key.seal(MANIFEST_TYPE, signed_bytes(both.statement, NOW.isoformat())), NOW.isoformat()
        )
    for known in (ring(entry(KEY)), ring(entry(KEY), entry(OTHER, "team-b", revoked=True))):
        check(both, HEX8, now=NOW, trust=Trust("refuse", known))


def test_what_cannot_be_looked_up_counts_as_unsigned() -> None:
    for known in (None, ring(entry(OTHER))):
        check(signed(), HEX8, now=NOW, trust=Trust("allow", known))
    assert "no key ring has reached this node" in refused(signed(), None)
    assert "which key ring 1 lacks" in refused(signed(), ring(entry(OTHER)))
    assert "is not signed" in refused(state(HEX8, "hex8", "1"), ring(entry(KEY)))


@pytest.mark.parametrize("policy", ["allow", "refuse"])
def test_what_speaks_against_a_known_key_is_said_under_either_policy(policy: Unsigned) -> None:
    said = {
        "which was revoked at": refused(signed(), ring(entry(KEY, revoked=True)), policy),
        "which is for go_* only": refused(signed(), ring(entry(KEY, models=("go_*",))), policy),
        "which counts from": refused(signed(), ring(entry(KEY, until=timedelta(days=-1))), policy),
        "that key": refused(mixed(), ring(entry(KEY)), policy),
    }
    assert all(words in reason for words, reason in said.items() if words != "that key"), said
    assert "did not make for it" in said["that key"]


def mixed() -> ManifestEnvelope:
    """The statement about one version with the signature of another."""
    return state(HEX8, "hex8", "1").model_copy(update={"signatures": signed(version="2").signatures})


def test_what_was_signed_before_a_key_ended_stays_good() -> None:
    ended = ring(entry(KEY, until=timedelta(days=-1)))
    check(signed(at=NOW - timedelta(days=2)), HEX8, now=NOW, trust=Trust("refuse", ended))


def test_a_clock_that_is_minutes_off_loses_nothing() -> None:
    early = ring(entry(KEY, added=timedelta(minutes=4)))
    check(signed(at=NOW), HEX8, now=NOW - timedelta(minutes=4), trust=Trust("refuse", early))


def test_a_node_whose_clock_is_hours_late_loses_nothing() -> None:
    check(signed(at=NOW), HEX8, now=NOW - timedelta(hours=5), trust=Trust("refuse", ring(entry(KEY))))


def with_more(envelope: ManifestEnvelope, *more: ManifestEnvelope) -> ManifestEnvelope:
    signatures = (*envelope.signatures, *(s for e in more for s in e.signatures))
    return envelope.model_copy(update={"signatures": signatures})


def test_a_revoked_key_is_not_hidden_behind_signatures_that_count_no_more_than_it() -> None:
    known = ring(entry(KEY, revoked=True))
    junk = ManifestSignature(keyid="0" * 16, signed_at=NOW.isoformat(), sig="AAAA")
    forged = ManifestSignature(keyid=OTHER.id, signed_at=NOW.isoformat(), sig="AAAA")
    assert "laptop lost" in (revoked(signed(), known) or "")
    for extra, there in ((junk, known), (forged, ring(entry(KEY, revoked=True), entry(OTHER, "team-b")))):
        hidden = state(HEX8, "hex8", "1").model_copy(update={"signatures": (extra, *signed().signatures)})
        assert "laptop lost" in (revoked(hidden, there) or "")


def test_a_good_signature_beside_one_of_a_revoked_key_keeps_a_version_in_use() -> None:
    known = ring(entry(KEY, revoked=True), entry(OTHER, "team-b"))
    assert revoked(with_more(signed(), signed(OTHER)), known) is None
    assert revoked(signed(OTHER), known) is None
    assert revoked(state(HEX8, "hex8", "1"), known) is None


def test_nobody_takes_a_version_out_of_use_by_naming_a_revoked_key() -> None:
    forged = ManifestSignature(keyid=KEY.id, signed_at=NOW.isoformat(), sig="AAAA")
    named = state(HEX8, "hex8", "1").model_copy(update={"signatures": (forged,)})
    assert revoked(named, ring(entry(KEY, revoked=True))) is None


def test_a_manifest_with_a_thousand_signatures_is_no_manifest() -> None:
    one = signed()
    with pytest.raises(ValidationError, match="at most 8"):
        ManifestEnvelope(statement=one.statement, signatures=one.signatures * 9)


def test_a_signature_cannot_be_moved_to_another_time() -> None:
    made = signed(at=NOW - timedelta(days=2)).signatures[0]
    moved = made.model_copy(update={"signed_at": NOW.isoformat()})
    forged = state(HEX8, "hex8", "1").model_copy(update={"signatures": (moved,)})
    assert "did not make for it" in refused(forged, ring(entry(KEY)))
