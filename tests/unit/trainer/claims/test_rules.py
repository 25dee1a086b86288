"""What becomes of a run's record."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.trainer.claims.values import NOW, run

from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.rules import Again, ClaimLost, Ended
from fleetcast.events.runs import FaultClass
from fleetcast.events.training import TRAINING_OWNED, TrainingPhase, TrainingRunState
from fleetcast.registry.commands import stamp


def claimed(state: TrainingRunState, node: str = "n1", at: datetime = NOW) -> TrainingRunState:
    return rules.claimed(state, node=node, pid=7, device="cuda:0", now=at)


def test_a_claim_is_one_more_than_every_earlier_one_whoever_had_them() -> None:
    first = claimed(run())
    second = claimed(rules.queued_again(first, Ended("lost"), Again(), NOW), "n2")
    assert (first.claim, second.claim) == (1, 2)
    assert [(a.claim, a.node, a.outcome) for a in second.attempts] == [(1, "n1", "lost"), (2, "n2", None)]


def test_the_former_owner_of_a_run_that_was_taken_back_may_write_nothing_to_it() -> None:
    back = rules.queued_again(claimed(run()), Ended("lost"), Again(), NOW)
    with pytest.raises(ClaimLost, match="it waits for a node"):
        rules.held(back, "n1", 1)
    with pytest.raises(ClaimLost, match="claim 2 on n2 holds it"):
        rules.held(claimed(back, "n2"), "n1", 1)


def test_the_same_node_under_an_older_claim_is_a_former_owner_too() -> None:
    again = claimed(rules.queued_again(claimed(run()), Ended("lost"), Again(), NOW))
    with pytest.raises(ClaimLost):
        rules.held(again, "n1", 1)
    assert rules.held(again, "n1", 2) is again


def test_a_fault_spends_its_budget_and_a_preemption_none() -> None:
    state = claimed(run())
    faulty = rules.queued_again(state, Ended("oom", fault_class=FaultClass.OOM), Again(), NOW)
    taken = rules.queued_again(state, Ended("reclaimed", fault_class=FaultClass.PREEMPTED, counts=False), Again(), NOW)
    assert faulty.faults == {"oom": 1}
    assert taken.faults == {}


def test_a_run_waits_until_its_moment_and_is_claimed_then() -> None:
    later = NOW + timedelta(seconds=30)
    waiting = rules.queued_again(claimed(run()), Ended("oom"), Again(not_before=later), NOW)
    assert rules.claimable(waiting, NOW) == f"not before {stamp(later)}"
    assert rules.claimable(waiting, later) == ""
    assert rules.claimable(claimed(waiting), later) == "it is claimed"


def test_a_run_on_the_cpu_is_degraded_since_it_began_to_be() -> None:
    first = rules.running(claimed(run(cpu=True)), NOW)
    again = rules.running(claimed(rules.queued_again(first, Ended("unknown"), Again(cpu=True), NOW)), NOW)
    assert (first.phase, first.degraded_at) == (TrainingPhase.DEGRADED, stamp(NOW))
    assert again.degraded_at == first.degraded_at
    back = rules.queued_again(again, Ended("returns"), Again(), NOW)
    assert rules.running(claimed(back), NOW).phase is TrainingPhase.RUNNING


def test_exclusions_that_are_over_are_forgotten() -> None:
    state = claimed(run(excluded={"n8": stamp(NOW - timedelta(1)), "n9": stamp(NOW + timedelta(1))}))
    after = rules.queued_again(state, Ended("oom"), Again(away_from="n1", away_until=NOW + timedelta(1)), NOW)
    assert sorted(after.excluded) == ["n1", "n9"]


@given(st.lists(st.sampled_from(["claim", "start", "back", "end"]), max_size=60))
def test_whatever_happens_a_claim_never_shrinks_and_only_an_owned_run_has_an_owner(steps: list[str]) -> None:
    state = run()
    for number, step in enumerate(steps):
        before = state.claim
        if step == "claim" and not rules.claimable(state, NOW):
            state = claimed(state, f"n{number}")
            assert state.claim == before + 1
        elif step == "start" and state.phase is TrainingPhase.CLAIMED:
            state = rules.running(state, NOW)
        elif step == "back" and state.phase in TRAINING_OWNED:
            state = rules.queued_again(state, Ended("lost"), Again(), NOW)
        elif step == "end" and state.phase in TRAINING_OWNED:
            state = rules.finished(state, TrainingPhase.SUCCEEDED, Ended("succeeded"), NOW)
        assert state.claim >= before
        assert len(state.attempts) <= rules.ATTEMPTS_KEPT
        assert (state.owner is None) == (state.phase is TrainingPhase.QUEUED)
