"""What becomes of an incident, decided on values alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.config.incidents import IncidentSettings
from fleetcast.daemons.remedy.incidents import rules
from fleetcast.daemons.remedy.incidents.rules import NOTHING, Cleared, Decision, Raised, Said
from fleetcast.events.ids import is_name
from fleetcast.events.incidents import IncidentCleared, IncidentPhase, IncidentRaised, IncidentState, Severity

BEGIN = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
LIMITS = IncidentSettings()
KEY = {"source": "monitor", "resource_id": "hex8_2p", "version": "43", "trigger": "error_rate"}


def said(seconds: float, number: int = 0, by: str = "/fleet/n1/monitor") -> Said:
    """An event that the stream took so many seconds after the beginning."""
    name = f"event-{seconds}-{number}"
    return Said(id=name, correlation="c1", at=BEGIN + timedelta(seconds=seconds), by=by, sequence=number)


def raise_(
    current: IncidentState | None, seconds: float, number: int = 0, severity: Severity = Severity.MEDIUM, **more: object
) -> Decision:
    about = IncidentRaised(
        **KEY, severity=severity, title="too many errors", context={"reasons": ["8.5 %, limit 5 %"]}, **more
    )
    return rules.raised(current, Raised(about=about, said=said(seconds, number)), LIMITS)


def clear(current: IncidentState | None, seconds: float, number: int = 0) -> Decision:
    about = IncidentCleared(**KEY, reason="0.8 %, limit 5 %")
    return rules.cleared(current, Cleared(about=about, said=said(seconds, number)), LIMITS)


def state_of(decision: Decision) -> IncidentState:
    assert decision.state is not None
    return decision.state


def kinds(decision: Decision) -> list[str]:
    return [each.what for each in decision.told]


OPEN = state_of(raise_(None, 0))


def test_the_first_evidence_opens_it_and_tells_with_its_first_reason() -> None:
    decision = raise_(None, 0, began_at="2026-11-21T09:27:00Z")
    state = state_of(decision)
    assert (state.phase, state.occurrences) == (IncidentPhase.OPEN, 1)
    assert [(each.what, each.detail) for each in decision.told] == [("opened", "8.5 %, limit 5 %")]
    assert rules.times(state).detect_seconds == 180
    assert state.runbook == "docs/runbooks/error_rate.md"
    assert is_name(state.incident)
    assert len(state.incident) == len("inc-") + 10


def test_evidence_from_the_future_of_a_node_with_a_fast_clock_makes_no_negative_time() -> None:
    assert rules.times(state_of(raise_(None, 0, began_at="2026-12-24T00:00:00Z"))).detect_seconds == 0


def test_whoever_opens_it_for_the_same_event_gives_it_the_same_id() -> None:
    assert state_of(raise_(None, 0)).incident == OPEN.incident
    assert state_of(raise_(None, 1)).incident != OPEN.incident


def test_the_same_event_counts_once_and_another_one_counts_without_being_told() -> None:
    assert raise_(OPEN, 0) is NOTHING
    again = raise_(OPEN, 5)
    assert (state_of(again).occurrences, kinds(again)) == (2, [])


def test_it_becomes_worse_and_milder_with_its_evidence() -> None:
    worse = raise_(OPEN, 5, severity=Severity.CRITICAL)
    assert kinds(worse) == ["severity"]
    milder = raise_(worse.state, 6)
    assert (state_of(milder).severity, kinds(milder)) == (Severity.MEDIUM, ["severity"])


def test_what_fails_again_and_again_becomes_worse_by_itself() -> None:
    state: IncidentState | None = None
    for number in range(3):
        about = IncidentRaised(**KEY, severity=Severity.LOW, title="cannot be fetched")
        news = Raised(about=about, said=said(number), worse_after=3)
        decision = rules.raised(state, news, LIMITS)
        state = decision.state
    assert kinds(decision) == ["severity"]
    assert state_of(decision).severity is Severity.MEDIUM


def test_cleared_it_is_mitigated_and_resolved_once_the_hold_down_is_over() -> None:
    decision = clear(OPEN, 60)
    state = state_of(decision)
    assert kinds(decision) == ["mitigated"]
    assert rules.passed(state, said(60 + 299), LIMITS) is NOTHING
    over = rules.passed(state, said(60 + 300), LIMITS)
    assert kinds(over) == ["resolved"]
    assert rules.times(state_of(over)) == rules.Times(0, 60, 360)


def test_raised_within_the_hold_down_it_was_never_over() -> None:
    decision = raise_(clear(OPEN, 60).state, 100)
    state = state_of(decision)
    assert kinds(decision) == ["reopened"]
    assert (state.phase, state.cleared_at, state.mitigated_at) == (IncidentPhase.OPEN, None, None)
    assert rules.resolves_at(state, LIMITS) is None


def resolved_at(seconds: float) -> IncidentState:
    return state_of(rules.resolved(OPEN, said(seconds, by="ana"), "fixed by hand"))


def test_raised_soon_after_its_end_it_is_opened_anew_under_its_id() -> None:
    decision = raise_(resolved_at(100), 100 + LIMITS.reopen_seconds)
    state = state_of(decision)
    assert (state.incident, state.phase, state.reopened) == (OPEN.incident, IncidentPhase.OPEN, 1)
    assert (kinds(decision), decision.past) == (["reopened"], None)
    assert state.acknowledged_at is None


def test_raised_long_after_its_end_it_is_another_one_and_the_former_is_kept() -> None:
    former = resolved_at(100)
    decision = raise_(former, 101 + LIMITS.reopen_seconds)
    assert state_of(decision).incident != former.incident
    assert (kinds(decision), decision.past) == (["opened"], former)


def test_acknowledged_once_is_acknowledged() -> None:
    decision = rules.acknowledged(OPEN, said(5, by="ana"), "looking")
    state = state_of(decision)
    assert (state.phase, state.acknowledged_by) == (IncidentPhase.ACKNOWLEDGED, "ana")
    assert rules.acknowledged(state, said(6, by="bob"), "me too") is NOTHING


def test_what_a_remedy_cures_may_be_reported_for_a_moment_longer() -> None:
    mitigated = rules.noted(OPEN, said(10), "rollback", "3 of 3", phase=IncidentPhase.MITIGATED, run="r1")
    assert kinds(mitigated) == ["mitigated"]
    assert kinds(raise_(mitigated.state, 10 + LIMITS.settle_seconds)) == []
    assert kinds(raise_(mitigated.state, 11 + LIMITS.settle_seconds)) == ["reopened"]


def test_what_a_remedy_cured_resolves_though_nobody_clears_it() -> None:
    mitigated = rules.noted(OPEN, said(10), "rollback", "3 of 3", phase=IncidentPhase.MITIGATED, run="r1")
    assert rules.resolves_at(state_of(mitigated), LIMITS) == BEGIN + timedelta(seconds=310)


def test_what_the_surroundings_do_has_a_page_of_its_own() -> None:
    about = IncidentRaised(**KEY, severity=Severity.CRITICAL, title="both are bad")
    decision = rules.raised(None, Raised(about=about, said=said(0)), LIMITS)
    assert state_of(decision).runbook == "docs/runbooks/environment.md"


def test_a_run_that_goes_on_after_the_effect_is_over_takes_nothing_back() -> None:
    mitigated = state_of(clear(OPEN, 10))
    later = rules.noted(mitigated, said(11), "playbook", "begins", phase=IncidentPhase.MITIGATING, run="r1")
    state = state_of(later)

    assert state.phase is IncidentPhase.MITIGATED
    assert rules.times(state).mitigate_seconds == 10
    assert state.runs == ("r1",)
    raised_again = state_of(raise_(state, 60))
    again = rules.noted(raised_again, said(61), "playbook", "begins", phase=IncidentPhase.MITIGATING, run="r2")
    assert state_of(again).phase is IncidentPhase.MITIGATING


def test_a_step_of_a_run_stands_in_the_timeline_and_is_told_only_where_it_changes_the_phase() -> None:
    begun = rules.noted(OPEN, said(10), "playbook", "begins", phase=IncidentPhase.MITIGATING, run="r1", told=False)
    step = rules.noted(
        state_of(begun), said(11), "playbook", "step 1", phase=IncidentPhase.MITIGATING, run="r1", told=False
    )

    assert (kinds(begun), kinds(step)) == (["mitigating"], [])
    assert [each.detail for each in state_of(step).timeline][-2:] == ["begins", "step 1"]


def test_a_note_of_the_same_request_is_noted_once() -> None:
    noted = rules.noted(OPEN, said(10), "note", "looked at it", phase=None, run=None)
    assert kinds(noted) == ["note"]
    assert rules.noted(state_of(noted), said(10), "note", "looked at it", phase=None, run=None) is NOTHING


def test_an_older_statement_changes_nothing_of_whether_it_holds() -> None:
    gone = state_of(clear(state_of(raise_(None, 0, 10)), 60, 20))
    late = raise_(gone, 61, 15)
    assert (kinds(late), state_of(late).cleared_at) == ([], gone.cleared_at)
    back = state_of(raise_(gone, 62, 30))
    assert clear(back, 63, 25) is NOTHING


def test_a_consumer_that_begins_anew_reopens_nothing() -> None:
    ended = state_of(rules.resolved(state_of(raise_(None, 0, 10)), said(100), "done"))
    assert kinds(raise_(ended, 101, 7)) == []
    assert state_of(raise_(ended, 101, 7)).ended


def test_it_is_over_when_the_last_that_is_affected_is_well() -> None:
    state: IncidentState | None = None
    about = IncidentRaised(**KEY, severity=Severity.HIGH, title="the hook fails")
    for number, node in enumerate(("gpu-1", "gpu-2"), 1):
        state = rules.raised(state, Raised(about=about, said=said(number, number), affected=node), LIMITS).state
    over = Cleared(about=IncidentCleared(**KEY, reason="it works"), said=said(3, 3), affected="gpu-1")
    first = rules.cleared(state, over, LIMITS)
    assert (state_of(first).affected, kinds(first)) == (("gpu-2",), [])
    stranger = replace(over, said=said(4, 4), affected="gpu-9")
    assert rules.cleared(first.state, stranger, LIMITS) is NOTHING
    last = rules.cleared(first.state, replace(over, said=said(5, 5), affected="gpu-2"), LIMITS)
    assert kinds(last) == ["mitigated"]


def test_what_comes_and_goes_is_told_once_and_stays_open_until_it_holds_still() -> None:
    state, told = OPEN, ["opened"]
    for number in range(1, 20):
        step = raise_(state, number * 10) if number % 2 == 0 else clear(state, number * 10)
        state = state_of(step)
        told += kinds(step)
    assert told.count("flapping") == 1
    assert len(told) <= 2 * LIMITS.flap_changes
    assert state.flapping
    due = rules.resolves_at(state, LIMITS)
    assert due == BEGIN + timedelta(seconds=190 + LIMITS.flap_window_seconds)


def test_silenced_it_is_kept_and_told_when_that_ends() -> None:
    hushed = rules.hushed(OPEN, said(5), "sil-1", "known")
    assert kinds(hushed) == ["silenced"]
    assert rules.hushed(state_of(hushed), said(6), "sil-1", "known") is NOTHING
    assert kinds(rules.hushed(state_of(hushed), said(7), None, "over")) == ["unsilenced"]


@pytest.mark.parametrize("count", [101, 250])
def test_its_timeline_is_bounded_and_keeps_how_it_began(count: int) -> None:
    state = OPEN
    for number in range(count):
        state = state_of(rules.noted(state, said(number + 1), "note", f"note {number}", phase=None, run=None))
    assert len(state.timeline) == rules.TIMELINE_ENTRIES
    assert state.timeline[0].what == "opened"
    assert state.timeline[-1].detail == f"note {count - 1}"
    assert len(state.seen) == rules.SEEN_IDS


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["raise", "clear", "ack", "mitigating", "mitigated", "resolve", "pass", "hush", "again"]),
        st.integers(0, 4000),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_it_stays_an_incident_that_makes_sense(steps: list[tuple[str, int]]) -> None:
    state: IncidentState | None = None
    seconds, last = 0.0, None
    ids: set[str] = set()
    for number, (step, wait) in enumerate(steps, 1):
        seconds += wait
        decision = _step(state, step, seconds, number, last)
        if decision.state is not None:
            last = (step, seconds, number)
            after = decision.state
            assert len(after.timeline) <= rules.TIMELINE_ENTRIES
            assert after.ended == (after.resolved_at is not None)
            assert (after.phase in {IncidentPhase.MITIGATED, IncidentPhase.RESOLVED}) == (
                after.mitigated_at is not None
            )
            measured = rules.times(after)
            assert all(each is None or each >= 0 for each in (measured.mitigate_seconds, measured.resolve_seconds))
            if "opened" in kinds(decision):
                assert after.incident not in ids
                ids.add(after.incident)
            elif state is not None:
                assert after.incident == state.incident
                assert after.occurrences >= state.occurrences
            state = after
    if state is not None and (due := rules.resolves_at(state, LIMITS)) is not None:
        assert kinds(rules.passed(state, Said(id="t", correlation="c", at=due, by="r"), LIMITS)) == ["resolved"]


def _step(
    state: IncidentState | None, step: str, seconds: float, number: int, last: tuple[str, float, int] | None
) -> Decision:
    if step == "raise":
        return raise_(state, seconds, number)
    if step == "clear":
        return clear(state, seconds, number)
    if state is None:
        return NOTHING
    if step == "again" and last is not None and last[0] in {"raise", "clear"}:
        # The same event, delivered once more: nothing follows from it.
        repeated = _step(state, last[0], last[1], last[2], None)
        assert repeated is NOTHING
        return NOTHING
    now = said(seconds, number)
    if step == "ack":
        return rules.acknowledged(state, now, "looking")
    if step in {"mitigating", "mitigated"}:
        return rules.noted(state, now, step, "by a playbook", phase=IncidentPhase(step), run=f"r{number}")
    if step == "resolve":
        return rules.resolved(state, now, "done")
    if step == "pass":
        return rules.passed(state, now, LIMITS)
    if step == "hush":
        return rules.hushed(state, now, None if state.silenced else "sil-1", "known")
    return NOTHING
