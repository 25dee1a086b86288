"""Whose ban is taken back, and whose is not."""

from hypothesis import given
from hypothesis import strategies as st

from fleetcast.transport.bittorrent.pardons import DOUBT_SECONDS, Pardons, named
from fleetcast.transport.bittorrent.wire import peer_tag


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


HONEST, OTHER = "10.0.0.2:6881", "10.0.0.2:7000"
KNOWN = (HONEST, "10.0.0.9:6881", "[fd00::9]:1")


@given(st.text(max_size=20))
def test_a_liar_that_calls_itself_something_new_each_time_stays_the_same_one(tag: str) -> None:
    assert named("10.0.0.9:51234", tag, KNOWN) == named("10.0.0.9:6881", "", KNOWN) == "10.0.0.9"
    assert named("[fd00::9]:51234", tag, KNOWN) == "fd00::9"
    assert named("10.0.0.77:51234", tag, KNOWN) == "10.0.0.77"


def test_a_liar_that_calls_itself_what_an_honest_node_does_is_not_taken_for_it() -> None:
    both = (*KNOWN, OTHER)
    assert named("10.0.0.9:51234", peer_tag(HONEST), both) == "10.0.0.9"
    assert named("10.0.0.2:51234", peer_tag(HONEST), both) == HONEST


def test_nodes_on_one_host_are_told_apart_and_who_is_none_of_them_is_the_host() -> None:
    both = (*KNOWN, OTHER)
    assert named(OTHER, "", both) == named("10.0.0.2:51234", peer_tag(OTHER), both) == OTHER
    assert named("10.0.0.2:51234", "-FC0100-of-nobody---", both) == "10.0.0.2"


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 30)), max_size=40))
def test_nobody_is_let_in_again_twice_and_nobody_for_a_ban_of_its_own(said: list[tuple[str, float]]) -> None:
    bans, pardoned, now = Pardons(), list[str](), 0.0
    for who, after in said:
        now += after
        free = bans.banned(who, who, now)
        assert who not in free
        pardoned += free
    assert len(pardoned) == len(set(pardoned))
