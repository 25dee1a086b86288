"""What may be done to a key ring."""

from datetime import timedelta

import pytest
from tests.unit.signing.rings import NOW, entry, ring

from fleetcast.events.signing import Revocation
from fleetcast.security.publishers import changes
from fleetcast.security.publishers.errors import ChangeRefused, PublisherUnknown, RevokedBefore
from fleetcast.transport.signing.keys import SigningKey

A, B, C = SigningKey.new(), SigningKey.new(), SigningKey.new()
GONE = Revocation(at=NOW.isoformat(), reason="laptop lost")


def test_every_change_is_the_next_edition() -> None:
    start = ring(entry(A), number=7)
    assert changes.add(start, entry(B, "team-b"), NOW).number == 8
    assert changes.rotate(start, entry(B), NOW).number == 8
    assert changes.revoke(start, "team-a", GONE, NOW)[0].number == 8


def test_a_publisher_has_one_key_at_a_time() -> None:
    with pytest.raises(ChangeRefused, match="team-a has key"):
        changes.add(ring(entry(A)), entry(B), NOW)
    for before in (entry(A, revoked=True), entry(A, until=timedelta(days=-1))):
        assert len(changes.add(ring(before), entry(B), NOW).keys) == 2


def test_a_rotated_key_signs_nothing_new_and_the_keys_of_others_stay() -> None:
    after = changes.rotate(ring(entry(A), entry(B, "team-b")), entry(C), NOW)
    states = {key.public: changes.state(key, NOW) for key in after.keys}
    assert states == {A.public: "ended", B.public: "in use", C.public: "in use"}


def test_rotation_never_makes_a_key_live_longer() -> None:
    ended = entry(A, until=timedelta(days=-5))
    after = changes.rotate(ring(ended, entry(B, revoked=True)), entry(C), NOW)
    assert after.keys[:2] == (ended, entry(B, revoked=True))


def test_all_keys_of_a_publisher_are_revoked_at_once_or_one_by_its_id() -> None:
    start = ring(entry(A, until=timedelta(days=-1)), entry(B), entry(C, "team-b"))
    everything, gone = changes.revoke(start, "team-a", GONE, NOW)
    assert [k.revoked for k in everything.keys] == [GONE, GONE, None]
    assert {k.id for k in gone} == {A.id, B.id}
    one, _ = changes.revoke(start, B.id, GONE, NOW)
    assert [k.revoked for k in one.keys] == [None, GONE, None]


def test_what_cannot_be_revoked_is_said() -> None:
    with pytest.raises(PublisherUnknown, match="nobody in the key ring is called team-z"):
        changes.revoke(ring(entry(A)), "team-z", GONE, NOW)
    with pytest.raises(RevokedBefore, match="was revoked already"):
        changes.revoke(ring(entry(A, revoked=True)), "team-a", GONE, NOW)


@pytest.mark.parametrize("name", ["root", "oms"])
def test_no_publisher_takes_the_name_of_a_key_that_has_other_work(name: str) -> None:
    with pytest.raises(ChangeRefused, match=f"no publisher can be called {name}"):
        changes.add(ring(entry(A)), entry(B, name), NOW)
