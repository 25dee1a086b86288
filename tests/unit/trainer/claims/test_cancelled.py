"""What becomes of a run's record when a person cancels it."""

from pathlib import Path

import pytest
from tests.unit.trainer.claims.values import NOW, run

from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.commands import AllowNode, CancelRun, order_of
from fleetcast.daemons.trainer.claims.rules import Again, ClaimLost, Ended
from fleetcast.events.recipes import recipes
from fleetcast.events.runs import RunOutcome
from fleetcast.events.training import RUNS_SUBJECT, Cancellation, TrainingPhase, TrainingRunState

DOCS = Path(__file__).parents[4] / "docs"
WHY = Cancellation(reason="wrong\nlabels", by="ann", at="2026-11-21T12:00:00Z", request="q1")


def claimed() -> TrainingRunState:
    return rules.claimed(run(), node="n1", pid=1, device="cpu", now=NOW)


@pytest.mark.parametrize(
    "there",
    [run(), claimed(), rules.running(claimed(), NOW), rules.queued_again(claimed(), Ended("oom"), Again(), NOW)],
    ids=["waits", "is prepared", "runs", "waits for its next try"],
)
def test_a_run_that_is_cancelled_has_ended_and_is_held_by_nobody(there: TrainingRunState) -> None:
    over = rules.cancelled(there, WHY, NOW)
    assert over is not None
    assert (over.phase, over.cancelled, over.ended_at) == (TrainingPhase.CANCELLED, WHY, "2026-11-21T12:00:00.000Z")
    assert over.phase_detail == "ann cancelled it: wrong labels"
    assert all(attempt.ended_at is not None for attempt in over.attempts)
    with pytest.raises(ClaimLost) as lost:
        rules.held(over, "n1", 1)
    assert lost.value.cancelled == WHY


def test_it_spends_no_try_of_any_class_of_faults() -> None:
    over = rules.cancelled(rules.running(claimed(), NOW), WHY, NOW)
    assert over is not None
    assert (over.faults, over.attempts[-1].outcome) == ({}, "cancelled")


@pytest.mark.parametrize("phase", [TrainingPhase.SUCCEEDED, TrainingPhase.FAILED])
def test_a_run_that_has_ended_stays_as_it_is(phase: TrainingPhase) -> None:
    ended = rules.finished(claimed(), phase, Ended(phase.value), NOW)
    assert rules.cancelled(ended, WHY, NOW) is None


def test_cancelled_again_it_stays_the_first_one_s_and_may_only_end_sooner() -> None:
    over = rules.cancelled(claimed(), WHY, NOW)
    assert over is not None
    later = WHY.model_copy(update={"by": "bob", "reason": "x"})
    assert rules.cancelled(over, later, NOW) is None
    sooner = rules.cancelled(over, later.model_copy(update={"now": True}), NOW)
    assert sooner is not None
    assert sooner.cancelled == WHY.model_copy(update={"now": True})
    assert rules.cancelled(sooner, later.model_copy(update={"now": True}), NOW) is None


def test_the_end_of_a_run_is_told_of_the_node_that_had_it_last_and_of_none_where_none_had() -> None:
    waits = rules.queued_again(claimed(), Ended("oom"), Again(), NOW)
    over = rules.cancelled(waits, WHY, NOW)
    assert over is not None
    (told,) = rules.told_end(over, RunOutcome.CANCELLED)
    assert (told.node, told.claim, told.reason) == ("n1", 1, "ann cancelled it: wrong labels")
    never = rules.cancelled(run(), WHY, NOW)
    assert never is not None
    assert rules.told_end(never, RunOutcome.CANCELLED) == ()


def test_the_recipes_for_the_nats_cli_are_requests() -> None:
    page = recipes((DOCS / "nats-cli.md").read_text())
    cancels, allows = (order_of(recipe.command[3].encode()) for recipe in page if RUNS_SUBJECT in recipe.command)
    assert (type(cancels), type(allows)) == (CancelRun, AllowNode)
    assert {cancels.by, allows.by} == {"ana"}
