"""Whose ban is taken back, and whose is not."""

from hypothesis import given
from hypothesis import strategies as st

from fleetcast.transport.bittorrent.pardons import DOUBT_SECONDS, Pardons


def test_who_is_banned_shortly_before_somebody_else_gets_another_chance() -> None:
    bans = Pardons()
    assert bans.banned("honest", "a:1", 0.0) == ()
    assert bans.banned("liar", "b:1", DOUBT_SECONDS) == ("a:1",)


def test_who_was_banned_long_before_does_not() -> None:
    bans = Pardons()
    bans.banned("first", "a:1", 0.0)
    assert bans.banned("second", "b:1", DOUBT_SECONDS + 0.1) == ()


def test_the_last_one_stays_banned_and_so_does_who_is_banned_again() -> None:
    bans = Pardons()
    bans.banned("liar", "a:1", 0.0)
    assert bans.banned("other liar", "b:1", 1.0) == ("a:1",)
    assert bans.banned("liar", "a:1", 2.0) == ("b:1",)
    assert bans.banned("other liar", "b:1", 3.0) == ()
    assert bans.banned("third", "c:1", 4.0) == ()


def test_a_liar_with_two_connections_is_no_reason_to_let_it_in_again() -> None:
    bans = Pardons()
    bans.banned("liar", "a:1", 0.0)
    assert bans.banned("liar", "a:51234", 0.5) == ()
    assert bans.banned("other", "b:1", 1.0) == ("a:1", "a:51234")


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 30)), max_size=40))
def test_nobody_is_let_in_again_twice_and_nobody_for_a_ban_of_its_own(said: list[tuple[str, float]]) -> None:
    bans, pardoned, now = Pardons(), list[str](), 0.0
    for who, after in said:
        now += after
        free = bans.banned(who, who, now)
        assert who not in free
        pardoned += free
    assert len(pardoned) == len(set(pardoned))
