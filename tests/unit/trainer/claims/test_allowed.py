"""A run that somebody lets go to a node again, by its record."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.trainer.claims.values import NOW, lane, node, run

from fleetcast.cli.training.reasons import run_told
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.allowing import allowed, told
from fleetcast.daemons.trainer.claims.commands import AllowNode, CancelRun, order_of
from fleetcast.daemons.trainer.claims.eligibility import eligible
from fleetcast.daemons.trainer.claims.rules import Again, Ended
from fleetcast.events.training import RunNodeAllowed, TrainingPhase, TrainingRunState
from fleetcast.registry.commands import stamp

UNTIL = NOW + timedelta(minutes=30)


def asked(**changes: Any) -> AllowNode:
    return AllowNode(
        **{"run": "hex8-1", "node": "n1", "reason": "new riser cable", "by": "ann", "request": "q1", **changes}
    )


def faulted() -> TrainingRunState:
    """A run that waits, and is kept away from the node of its fault."""
    had = rules.claimed(run(), node="n1", pid=7, device="cuda:0", now=NOW)
    return rules.queued_again(had, Ended("hardware"), Again(away_from="n1", away_until=UNTIL), NOW)


def test_the_node_may_take_the_run_at_once_and_others_are_still_kept_from_it() -> None:
    before = faulted().model_copy(update={"excluded": {"n1": stamp(UNTIL), "n2": stamp(UNTIL)}})
    assert not eligible(lane(), before, node(), NOW).ok
    change = allowed(before, asked(), NOW)
    assert change is not None
    assert eligible(lane(), change.run, node(), NOW).ok
    assert change.run.excluded == {"n2": stamp(UNTIL)}
    # Nothing else of the run has changed: neither its phase nor its claim, which is its fence.
    assert change.run.model_copy(update={"excluded": before.excluded, "allowed": (), "at": before.at}) == before


def test_who_did_it_and_why_stays_with_the_run_and_is_told() -> None:
    change = allowed(faulted(), asked(), NOW)
    assert change is not None
    (kept,), (fact,) = change.run.allowed, change.facts
    assert (kept.node, kept.until, kept.by, kept.reason) == ("n1", stamp(UNTIL), "ann", "new riser cable")
    assert isinstance(fact, RunNodeAllowed)
    assert (fact.run_id, fact.node, fact.claim, fact.by, fact.until) == ("hex8-1", "n1", 1, "ann", stamp(UNTIL))


def test_a_later_fault_keeps_it_away_anew() -> None:
    change = allowed(faulted(), asked(), NOW)
    assert change is not None
    again = rules.claimed(change.run, node="n1", pid=7, device="cuda:0", now=NOW)
    over = rules.queued_again(again, Ended("hardware"), Again(away_from="n1", away_until=UNTIL), NOW)
    assert over.excluded == {"n1": stamp(UNTIL)}
    assert len(over.allowed) == 1


@pytest.mark.parametrize(
    "there",
    [
        run(),
        run(excluded={"n2": stamp(UNTIL)}),
        run(excluded={"n1": stamp(NOW)}),
        faulted().model_copy(update={"phase": TrainingPhase.FAILED, "ended_at": stamp(NOW)}),
    ],
)
def test_where_nothing_keeps_it_away_or_it_has_ended_nothing_is_written(there: TrainingRunState) -> None:
    assert allowed(there, asked(), NOW) is None


def test_the_answer_says_where_the_run_stands_and_a_second_one_names_what_is_kept_away() -> None:
    before = faulted()
    change = allowed(before, asked(), NOW)
    assert change is not None
    done = told(asked(), before, change.run, NOW)
    assert (
        done.message == f"hex8-1 may go to n1 again, from which it was kept until {stamp(UNTIL)}; it waits for a node"
    )
    # The same request, whose first answer was lost.
    assert told(asked(), change.run, change.run, NOW) == done
    other = told(asked(request="q2", node="n9"), before, before, NOW)
    assert other.message == f"nothing keeps hex8-1 away from n9; it is kept away from n1 until {stamp(UNTIL)}"
    tried = told(asked(dry_run=True), before, before, NOW)
    assert tried.message.startswith("dry run: hex8-1 might go to n1 again")


def test_why_says_what_keeps_it_away_how_to_lift_that_and_who_has() -> None:
    before = faulted()
    said = "\n".join(run_told(before, [node()], NOW))
    assert "it is kept away from n1 until" in said
    assert "fleetcast runs allow hex8-1 n1 --reason TEXT" in said
    change = allowed(before, asked(), NOW)
    assert change is not None
    after = "\n".join(run_told(change.run, [node()], NOW))
    assert "it may go to n1 again: ann: new riser cable" in after
    assert "kept away" not in after
    assert "n1 may take it" in after


def test_an_order_without_a_word_for_it_cancels_as_it_always_did_and_one_without_a_reason_is_none() -> None:
    assert isinstance(order_of(b'{"run":"hex8-1","reason":"x","by":"ann"}'), CancelRun)
    with pytest.raises(ValidationError, match="reason"):
        order_of(b'{"ask":"allow","run":"hex8-1","node":"n1","by":"ann"}')
    with pytest.raises(ValidationError, match="ask"):
        order_of(b'{"ask":"burn","run":"hex8-1","reason":"x","by":"ann"}')
