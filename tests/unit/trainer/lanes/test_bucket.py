"""When a lane is due, and what it pays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.trainer.lanes.builders import CAUSE, at, counted, data, lane, ledger, trained

from fleetcast.daemons.trainer.lanes import bucket
from fleetcast.daemons.trainer.lanes.definition import Bucket
from fleetcast.events.training import LaneState

RULES = Bucket(required=200)
SEED = {
    "square8_2p": (1152, "ready"),
    "square8_4p": (11514, "ready"),
    "hex8_2p": (295, "ready"),
    "hex8_3p": (528, "ready"),
    "hex8_4p": (1284, "ready"),
    "square8_3p": (67, "scaling"),
    "square19_2p": (56, "scaling"),
    "hexagonal_4p": (10, "scaling"),
}
"""Seed 001's table: games per configuration, and what it says of each."""


@pytest.mark.parametrize("name", SEED)
def test_the_seeds_configurations_stand_as_its_table_says(name: str) -> None:
    games, standing = SEED[name]
    state = counted(ledger(name), RULES, data("a", games))
    assert (bucket.volume(state), bucket.standing(state, RULES)) == (games, standing)


def test_what_is_missing_is_said_in_samples() -> None:
    state = counted(ledger(), RULES, data("a", 67))
    due = bucket.due(state, lane(), at(1))
    assert not due.yes
    assert due.at is None
    assert "133 of 200 new samples are missing" in due.reasons
    assert "scaling: the newest data set has 67 of 200 samples" in due.reasons


def test_a_data_set_counts_once_under_whatever_version_it_comes_again() -> None:
    state = counted(ledger(), RULES, data("a", 150))
    again = data("a", 150).model_copy(update={"version": "b"})
    assert counted(state, RULES, again) == state


def test_bursts_are_taken_together_after_the_quiet_period() -> None:
    definition = lane(bucket={"quiet_seconds": 60})
    state = counted(ledger(), RULES, data("a", 200, seconds=0))
    state = counted(state, RULES, data("b", 40, 240, seconds=50), seconds=50)
    waiting = bucket.due(state, definition, at(100))
    assert (waiting.yes, waiting.at) == (False, at(110))
    assert bucket.due(state, definition, at(110)).yes
    assert state.latest is not None
    assert state.latest.version == "b"


def test_a_run_waits_for_the_minimum_interval_whatever_the_bucket_holds() -> None:
    definition = lane(bucket={"min_interval_seconds": 600})
    state = trained(counted(ledger(), RULES, data("a", 200)), RULES, "r1", seconds=10)
    state = counted(state, RULES, data("b", 200, 400), seconds=20)
    waiting = bucket.due(state, definition, at(30))
    assert (waiting.yes, waiting.at) == (False, at(610))
    assert bucket.due(state, definition, at(610)).yes


def test_after_the_maximum_interval_any_new_sample_is_enough_and_the_rest_becomes_debt() -> None:
    definition = lane(bucket={"max_interval_seconds": 3600})
    state = trained(counted(ledger(), RULES, data("a", 200)), RULES, "r1")
    state = counted(state, RULES, data("b", 5, 205), seconds=60)
    assert bucket.due(state, definition, at(3599)).at == at(3600)
    assert bucket.due(state, definition, at(3600)).yes
    owing = trained(state, RULES, "r2", seconds=3600)
    assert owing.tokens == -195
    # The debt is paid before the next one: 200 new samples are not enough now.
    paying = counted(owing, RULES, data("c", 200, 405), seconds=3700)
    due = bucket.due(paying, definition, at(3700))
    assert not due.yes
    assert "195 of 200 new samples are missing" in due.reasons


def test_the_maximum_interval_starts_nothing_over_data_that_was_trained_on() -> None:
    definition = lane(bucket={"max_interval_seconds": 10})
    state = trained(counted(ledger(), RULES, data("a", 300)), RULES, "r1")
    due = bucket.due(state, definition, at(1000))
    assert (due.yes, due.at) == (False, None)
    assert "there is no data set that the last run did not have" in due.reasons


def test_a_flood_of_data_is_carried_over_by_half_a_run_only() -> None:
    state = counted(ledger(), RULES, data("a", 11514))
    assert (state.tokens, state.samples_capped) == (300, 11214)
    after = trained(state, RULES, "r1")
    assert after.tokens == 100
    few = counted(after, RULES, data("b", 99, 11613))
    assert not bucket.due(few, lane(), at(1)).yes
    assert bucket.due(counted(few, RULES, data("c", 1, 11614)), lane(), at(1)).yes


def test_one_run_at_a_time() -> None:
    state = bucket.spend(counted(ledger(), RULES, data("a", 300)), RULES, "r1", at(0), CAUSE)
    state = counted(state, RULES, data("b", 300, 600))
    assert bucket.due(state, lane(), at(1)).reasons == ("run r1 is under way: one at a time",)
    assert bucket.ended(state, "another", at(1), CAUSE) is None


def test_a_person_may_ask_for_a_run_before_there_is_enough() -> None:
    state = counted(ledger(), RULES, data("a", 10))
    asked = bucket.asked(state, "new loss", "ann", at(1), CAUSE)
    assert bucket.due(asked, lane(), at(1)).yes
    spent = bucket.spend(asked, RULES, "r1", at(1), CAUSE)
    assert (spent.tokens, spent.forced) == (-190, None)


def test_nothing_starts_without_data_whoever_asks() -> None:
    asked = bucket.asked(ledger(), "now", "ann", at(1), CAUSE)
    assert not bucket.due(asked, lane(), at(1)).yes


def test_a_paused_lane_counts_and_starts_nothing() -> None:
    paused = bucket.paused(ledger(), "wrong labels", "ann", at(0), CAUSE)
    state = counted(paused, RULES, data("a", 300))
    due = bucket.due(state, lane(), at(1))
    assert not due.yes
    assert "wrong labels" in due.reasons[0]
    assert state.tokens == 300
    assert bucket.due(bucket.resumed(state, at(2), CAUSE), lane(), at(2)).yes


def test_a_withdrawn_data_set_takes_back_what_it_added_and_is_never_counted_again() -> None:
    state = counted(ledger(), RULES, data("a", 150), data("b", 150, 300))
    without = bucket.withdrawn(state, RULES, "b", at(1), CAUSE)
    assert without is not None
    assert without.latest is not None
    assert (without.tokens, without.samples_in, without.latest.version) == (150, 150, "a")
    assert counted(without, RULES, data("b", 150, 300)) == without
    assert bucket.withdrawn(without, RULES, "b", at(2), CAUSE) is None


def test_withdrawing_what_was_spent_leaves_a_debt() -> None:
    state = trained(counted(ledger(), RULES, data("a", 200)), RULES, "r1")
    without = bucket.withdrawn(state, RULES, "a", at(1), CAUSE)
    assert without is not None
    assert (without.tokens, without.latest) == (-200, None)


def test_a_run_that_is_cancelled_because_its_data_was_withdrawn_gets_back_what_it_paid() -> None:
    paid = bucket.spend(counted(ledger(), RULES, data("a", 250)), RULES, "r1", at(0), CAUSE)
    without = bucket.withdrawn(paid, RULES, "a", at(1), CAUSE)
    assert without is not None
    after = bucket.refunded(without, RULES)
    assert (after.tokens, after.samples_spent, after.samples_in) == (0, 0, 0)


def test_samples_weigh_as_the_ratio_says() -> None:
    rules = Bucket(required=400, volume=100, ratio=4)
    state = counted(ledger(), rules, data("a", 100))
    assert state.tokens == 400
    assert bucket.due(state, lane(bucket=rules.model_dump()), at(1)).yes


def test_the_export_command_runs_at_its_interval_and_not_while_the_lane_is_paused() -> None:
    definition = lane(export={"command": ["export"], "every_seconds": 60, "time_limit_seconds": 30})
    begun = bucket.begun_export(ledger(), at(0), CAUSE)
    assert bucket.export_due(ledger(), definition, at(0))
    assert not bucket.export_due(begun, definition, at(59))
    assert bucket.export_due(begun, definition, at(60))
    assert not bucket.export_due(bucket.paused(begun, "x", "ann", at(1), CAUSE), definition, at(60))
    assert not bucket.export_due(ledger(), lane(), at(0))


Step = tuple[str, int]
steps = st.lists(
    st.tuples(st.sampled_from(["data", "again", "look", "force", "withdraw"]), st.integers(0, 500)), max_size=60
)


@given(steps=steps, required=st.integers(1, 300))
def test_no_sample_is_spent_twice_or_lost_whatever_happens_in_which_order(steps: list[Step], required: int) -> None:
    rules = Bucket(required=required, volume=0)
    definition = lane(bucket=rules.model_dump())
    state = ledger()
    for number, (step, amount) in enumerate(steps):
        state = _after(state, rules, step, f"v{number}", amount)
        due = bucket.due(state, definition, at(number))
        if step in {"look", "force"} and due.yes:
            state = trained(state, rules, f"r{number}", seconds=number)
        assert -rules.most <= state.tokens <= rules.most
        assert state.samples_spent == state.runs * required
        # A run has its data to itself: the same bytes never make the lane due a second time.
        assert state.runs <= sum(each[0] in {"data", "force"} for each in steps)
    kept = [each for each in state.exports if not each.withdrawn]
    assert sum(each.added for each in kept) <= sum(each.samples for each in kept)


def _after(state: LaneState, rules: Bucket, step: str, version: str, amount: int) -> LaneState:
    if step == "data":
        return counted(state, rules, data(version, amount))
    if step == "again" and state.exports:
        before = counted(state, rules, state.exports[-1])
        assert before.tokens == state.tokens
        return before
    if step == "force":
        return bucket.asked(state, "now", "ann", at(0), CAUSE)
    if step == "withdraw" and state.exports:
        return bucket.withdrawn(state, rules, state.exports[0].version, at(0), CAUSE) or state
    return state
