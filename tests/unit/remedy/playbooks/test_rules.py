"""What a run of a playbook does next, whatever happens to it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.remedy.playbooks import rules
from fleetcast.daemons.remedy.playbooks.rules import StepResult
from fleetcast.events.remedies import RUN_ENDED, PlaybookRunState, RunPhase, StepOutcome, StepRecord
from fleetcast.events.state import Cause

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def made(*steps: StepRecord, **changes: object) -> PlaybookRunState:
    run = PlaybookRunState(
        run="pb-1",
        playbook="test",
        phase=RunPhase.RUNNING,
        resource_id="m",
        model="m",
        by="ana",
        asked_at="2026-11-21T09:30:00Z",
        at="2026-11-21T09:30:00Z",
        steps=steps,
        cause=Cause(event="e", sequence=1, by="ana", correlation="e"),
    )
    return run.model_copy(update=changes)


def step(name: str, **changes: object) -> StepRecord:
    return StepRecord(name=name, action="command").model_copy(update=changes)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_each_step_is_written_as_under_way_with_its_deadline_before_it_is_taken() -> None:
    run = rules.advanced(made(step("one", timeout_seconds=5.0), step("two")), NOW)

    assert (run.steps[0].outcome, run.steps[0].attempt) == (StepOutcome.RUNNING, 1)
    assert run.steps[0].deadline == "2026-11-21T09:30:05.000Z"
    assert run.steps[1].outcome is StepOutcome.PENDING


def test_a_step_that_is_under_way_is_not_begun_again() -> None:
    run = rules.advanced(made(step("one")), NOW)

    assert rules.advanced(run, later(1)) is run


def test_a_failed_attempt_is_made_again_after_a_pause_that_doubles() -> None:
    run = rules.advanced(made(step("one", attempts_at_most=3, backoff_seconds=2.0)), NOW)
    run = rules.settled(run, StepResult(False, "no"), NOW)
    assert rules.advanced(run, later(1.9)) is run

    run = rules.settled(rules.advanced(run, later(2)), StepResult(False, "no"), later(2))
    assert run.steps[0].not_before == "2026-11-21T09:30:06.000Z"
    run = rules.settled(rules.advanced(run, later(6)), StepResult(False, "never"), later(6))
    assert (run.phase, run.phase_detail) == (RunPhase.FAILED, "one: never")


def test_a_failed_step_stops_the_run_and_no_later_one_comes() -> None:
    run = rules.settled(rules.advanced(made(step("one"), step("two")), NOW), StepResult(False, "no"), NOW)

    assert run.phase is RunPhase.FAILED
    assert [each.outcome for each in run.steps] == [StepOutcome.FAILED, StepOutcome.SKIPPED]


def test_a_step_that_may_fail_is_told_and_passed() -> None:
    run = made(step("tell", go_on=True), step("verify", action="verify_rollback"))
    run = rules.advanced(rules.settled(rules.advanced(run, NOW), StepResult(False, "down"), NOW), NOW)
    run = rules.advanced(rules.settled(run, StepResult(True, "3 of 3"), NOW), NOW)

    assert (run.phase, run.phase_detail) == (RunPhase.SUCCEEDED, "3 of 3; failed on the way: tell")


def test_what_was_filled_in_is_not_read_again_by_a_later_attempt() -> None:
    run = made(step("one", params={"say": "{reason}"}, attempts_at_most=2, backoff_seconds=0), reasons=("{model}",))
    run = rules.settled(rules.advanced(run, NOW), StepResult(False, "no"), NOW)

    assert rules.advanced(run, later(1)).steps[0].params == {"say": "{model}"}


def test_a_run_that_is_taken_over_repeats_its_step_under_the_same_number() -> None:
    run = rules.taken(rules.advanced(made(step("one"), owner="gone/1"), NOW), "here/2", later(60))

    assert (run.owner, run.steps[0].attempt, run.steps[0].interrupted) == ("here/2", 1, 1)
    assert run.steps[0].deadline == "2026-11-21T09:31:30.000Z"


def test_a_step_that_ends_every_daemon_ends_the_run() -> None:
    run = rules.advanced(made(step("one")), NOW)
    for number in range(rules.MOST_INTERRUPTIONS):
        assert run.phase is RunPhase.RUNNING
        run = rules.taken(run, f"here/{number}", later(number))

    assert run.phase is RunPhase.FAILED
    assert "gone 10 times" in run.phase_detail


def test_an_approval_waits_and_lapses() -> None:
    run = rules.advanced(made(step("approval", action="approval", timeout_seconds=60.0), step("one")), NOW)
    assert run.phase is RunPhase.APPROVAL
    assert not rules.expired(run, later(59))
    assert rules.expired(run, later(60))

    lapsed = rules.lapsed(run, later(60))
    assert (lapsed.phase, lapsed.phase_detail) == (RunPhase.EXPIRED, "nobody agreed within 60 s")
    agreed = rules.advanced(rules.approved(run, "ana", "seen", later(5)), later(5))
    assert (agreed.phase, agreed.steps[1].outcome) == (RunPhase.RUNNING, StepOutcome.RUNNING)


RESULTS = st.builds(
    StepResult,
    ok=st.booleans(),
    detail=st.text(max_size=20),
    again=st.booleans(),
    nothing=st.booleans(),
)
STEPS = st.lists(
    st.builds(lambda number, attempts, go_on: (number, attempts, go_on), st.just(0), st.integers(1, 4), st.booleans()),
    min_size=1,
    max_size=5,
)


@given(STEPS, st.lists(st.one_of(RESULTS, st.just("taken")), max_size=40))
def test_whatever_happens_a_run_goes_forward_and_never_leaves_its_end(
    steps: list[tuple[int, int, bool]], happens: list[StepResult | str]
) -> None:
    run = made(
        *(
            step(f"s{index}", attempts_at_most=attempts, go_on=go_on, backoff_seconds=1.0)
            for index, (_, attempts, go_on) in enumerate(steps)
        )
    )
    clock = 0.0
    done = 0
    for what in happens:
        clock += 100.0
        run = rules.advanced(run, later(clock))
        run = (
            rules.taken(run, f"o/{clock}", later(clock))
            if isinstance(what, str)
            else rules.settled(run, what, later(clock))
        )
        settled = [s.outcome in {StepOutcome.SUCCEEDED, StepOutcome.FAILED} for s in run.steps]
        assert settled == sorted(settled, reverse=True), "steps are settled in order"
        assert sum(settled) >= done
        done = sum(settled)
        assert all(s.attempt <= s.attempts_at_most for s in run.steps)
        assert all(s.attempt <= 1 or s.outcome is not StepOutcome.SKIPPED for s in run.steps)
        if run.phase in RUN_ENDED:
            assert rules.advanced(run, later(clock)) is run
            assert rules.settled(run, StepResult(True), later(clock)) is run


@pytest.mark.parametrize("phase", sorted(RUN_ENDED))
def test_an_end_is_an_end(phase: RunPhase) -> None:
    run = rules.ended(made(step("one")), phase, "because", NOW)

    assert rules.advanced(run, later(1)) is run
    assert run.owner == ""
