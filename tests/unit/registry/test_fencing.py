"""What a run says has an effect under the claim that holds it, and once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.trainer.claims.values import NOW, run

from fleetcast.events.envelope import new_event
from fleetcast.events.payloads import ExportCompleted, ModelPromoted
from fleetcast.events.runs import RunCheckpointSaved
from fleetcast.events.training import TrainingPhase, TrainingRunState
from fleetcast.registry.commands import Promote, Transition
from fleetcast.registry.fencing import BRIEF_KEPT, Speech, committed, judge, speech, speech_of

PROMOTION = "model.promoted hex8@43"


def held(claim: int = 2, **changes: Any) -> TrainingRunState:
    return run(**{"claim": claim, "owner": "n2", "phase": TrainingPhase.RUNNING, **changes})


def said(claim: int | None = 2, event: str = "e1", what: str = PROMOTION) -> Speech:
    return Speech("hex8-1", claim, what, event)


def test_the_claim_that_holds_the_run_is_believed() -> None:
    assert judge(held(), said()) is None


def test_a_stalled_former_owner_is_refused_and_told_who_has_the_run_now() -> None:
    stale = judge(held(), said(claim=1))
    assert stale is not None
    assert stale.reason == "claim 1 of run hex8-1 is over"
    assert stale.winner == "claim 2 on n2"


def test_an_owner_whose_run_was_taken_back_is_refused_before_anybody_else_has_claimed_it() -> None:
    taken = held(owner=None, phase=TrainingPhase.QUEUED)
    assert judge(taken, said()) is not None


def test_what_a_run_said_before_its_end_is_believed_when_it_arrives_after_it() -> None:
    ended = held(phase=TrainingPhase.SUCCEEDED, ended_at="2026-11-21T12:00:00Z")
    assert judge(ended, said()) is None
    assert judge(held(phase=TrainingPhase.CANCELLED, ended_at="2026-11-21T12:00:00Z"), said()) is not None


@pytest.mark.parametrize("claim", [2, 1, None])
def test_of_a_run_that_was_cancelled_nothing_is_believed_and_who_cancelled_it_is_told(claim: int | None) -> None:
    ended = held(
        phase=TrainingPhase.CANCELLED, phase_detail="ann cancelled it: wrong labels", ended_at="2026-11-21T12:00:00Z"
    )
    stale = judge(ended, said(claim=claim))
    assert stale is not None
    assert (stale.reason, stale.winner) == ("run hex8-1 was cancelled", "nobody: ann cancelled it: wrong labels")


@pytest.mark.parametrize(
    ("claim", "refused"), [(2, False), (1, True), (None, True)], ids=["holds it", "former owner", "says none"]
)
def test_what_a_run_asks_of_the_registry_is_fenced_and_may_be_asked_again(claim: int | None, refused: bool) -> None:
    def asks(request: str) -> Speech | None:
        command = Promote(model="hex8", version="43")
        return speech_of(Transition(request=request, actor="/job", run_id="hex8-1", claim=claim, command=command))

    first, second = asks("r1"), asks("r2")
    assert first is not None
    assert second is not None
    assert (judge(held(), first) is not None) is refused
    if not refused:
        assert judge(committed(held(), first, NOW), second) is None


def test_a_run_that_asks_the_registry_with_every_epoch_keeps_a_short_record_and_forgets_no_effect() -> None:
    state = committed(held(), said(event="e0"), NOW)
    for number in range(3 * BRIEF_KEPT):
        state = committed(state, Speech("hex8-1", 2, "describe hex8 43", f"r{number}", once=False, brief=True), NOW)
    assert [commit.event for commit in state.commits] == [
        "e0",
        *(f"r{number}" for number in range(2 * BRIEF_KEPT, 3 * BRIEF_KEPT)),
    ]


def test_what_nobody_s_run_asks_of_the_registry_is_fenced_by_nothing() -> None:
    assert speech_of(Transition(actor="/ann", command=Promote(model="hex8", version="43"))) is None


def test_an_effect_that_was_had_is_repeated_by_its_own_event_and_by_no_other() -> None:
    once = committed(held(), said(), NOW)
    assert judge(once, said()) is None
    doubled = judge(once, said(event="e2"))
    assert doubled is not None
    assert doubled.winner == "claim 2, event e1"
    assert judge(once, said(event="e2", what="model.promoted hex8@44")) is None


def test_an_effect_that_was_noted_is_had_though_the_claim_has_moved_on_meanwhile() -> None:
    noted = committed(held(), said(), NOW)
    moved = noted.model_copy(update={"claim": 3, "owner": "n3"})
    assert judge(moved, said()) is None


def test_a_lane_s_run_that_says_no_claim_is_refused_until_it_has_ended() -> None:
    assert judge(held(), said(claim=None)) is not None
    ended = held(phase=TrainingPhase.SUCCEEDED, ended_at="2026-11-21T12:00:00Z")
    assert judge(ended, said(claim=None)) is None


def test_a_run_that_no_lane_started_is_fenced_by_nothing_and_may_say_no_claim() -> None:
    assert judge(None, said(claim=None)) is None
    assert judge(None, said(claim=1)) is not None


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (ModelPromoted(model="hex8", version="43", path="/m", node="n1", run_id="hex8-1", claim=2), PROMOTION),
        (
            ExportCompleted(
                lane="hex8", path="/d.npz", node="n1", samples_new=1, samples_total=9, run_id="hex8-1", claim=2
            ),
            "export.completed hex8 /d.npz 9",
        ),
        (
            RunCheckpointSaved(run_id="hex8-1", node="n1", claim=2, epoch=1, path="/c", size=1),
            "run.checkpoint.saved",
        ),
    ],
)
def test_events_of_runs_are_heard_with_their_run_their_claim_and_what_they_are_about(payload: Any, what: str) -> None:
    found = speech(new_event(payload, source="/test"))
    assert found is not None
    assert (found.run, found.claim, found.what) == ("hex8-1", 2, what)


def test_a_promotion_by_a_person_speaks_for_no_run() -> None:
    payload = ModelPromoted(model="hex8", version="43", path="/m", node="n1")
    assert speech(new_event(payload, source="/test")) is None


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5), st.booleans()), max_size=40),
)
def test_in_whatever_order_claims_speak_and_move_on_an_effect_is_had_by_one_event(
    steps: list[tuple[int, int, bool]],
) -> None:
    state, accepted = held(claim=1), set()
    for claim, event, moves in steps:
        if moves:
            state = state.model_copy(update={"claim": state.claim + 1, "owner": f"n{state.claim + 1}"})
        heard = said(claim=claim, event=f"e{event}")
        if judge(state, heard) is None:
            state = committed(state, heard, NOW)
            accepted.add(heard.event)
    assert len(accepted) <= 1
