"""When a finished node may stop seeding."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.distributor.seeding import COPIES, Need, reason_to_seed

SEED_SECONDS = 900.0
DONE = Need(
    in_slots=False,
    wanted_by=frozenset({"b", "c"}),
    held_by=frozenset({"b", "c"}),
    settled_seconds=SEED_SECONDS,
)
names = st.frozensets(st.sampled_from("abcdef"))
needs = st.builds(Need, in_slots=st.booleans(), wanted_by=names, held_by=names, settled_seconds=st.floats(0, 1e6))


def test_node_rests_when_the_fleet_is_complete_and_late_nodes_were_waited_for() -> None:
    assert reason_to_seed(DONE, SEED_SECONDS) is None


@pytest.mark.parametrize(
    ("need", "why"),
    [
        (replace(DONE, in_slots=True), "a slot names it"),
        (replace(DONE, wanted_by=frozenset({"b", "c", "late"})), "late still to be served"),
        (replace(DONE, held_by=frozenset({"b"}), wanted_by=frozenset({"b"})), "fewer than 2"),
        (replace(DONE, settled_seconds=10), "for 10 s of the 900 s"),
    ],
)
def test_node_goes_on_seeding_and_says_why(need: Need, why: str) -> None:
    assert why in (reason_to_seed(need, SEED_SECONDS) or "")


def test_node_that_is_taken_away_seeds_what_nobody_else_holds_and_nothing_else() -> None:
    leaving = replace(DONE, in_slots=True, wanted_by=frozenset({"b", "c", "late"}), leaving=True)
    assert reason_to_seed(leaving, SEED_SECONDS) is None
    assert "no other node holds it" in (reason_to_seed(replace(leaving, held_by=frozenset()), SEED_SECONDS) or "")


@given(needs, st.floats(0, 1e6))
def test_nobody_rests_who_is_needed(need: Need, seed_seconds: float) -> None:
    if reason_to_seed(need, seed_seconds) is None:
        assert not need.in_slots
        assert need.wanted_by <= need.held_by
        assert len(need.held_by) >= COPIES
        assert need.settled_seconds >= seed_seconds
