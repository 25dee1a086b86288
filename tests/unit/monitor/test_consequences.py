"""What is said when a verdict changes: once, whoever says it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.monitor.consequences import Retired, Said, Saying, changed, retired
from fleetcast.daemons.monitor.verdicts import Remedy, VerdictEvent
from fleetcast.events.event import Event
from fleetcast.events.incidents import (
    Health,
    IncidentCleared,
    IncidentRaised,
    RollbackRequested,
    Severity,
    Verdict,
    VerdictChanged,
)
from fleetcast.events.remedies import PlaybookRequested
from fleetcast.events.verdicts import ModelVerdicts

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
SAYING = Saying("/fleet/a/monitor", AT, fence=7)
NOTHING = ModelVerdicts(model="hex8", at="2026-11-21T12:00:00Z")


def event(verdict: Verdict, **changes: Any) -> VerdictEvent:
    made = VerdictEvent(
        model="hex8",
        version="2",
        slot="production",
        signal="error_rate",
        verdict=verdict,
        before=None,
        health=Health.CRITICAL,
        at=AT.timestamp(),
        began_at=AT.timestamp() - 60,
        required="error rate <= 0.05",
        actual="300 of 1000 requests failed",
        generation=3,
        title="Model performance degradation detected: hex8@2",
        description="it fails",
        reasons=("High error rate: 30.00%",),
    )
    return replace(made, **changes)


BREACH = event(
    Verdict.BREACH, severity=Severity.HIGH, remedy=Remedy.ROLL_BACK, action="roll_back", incident=True, mode="auto"
)
OK = event(Verdict.OK, actual="2 of 1000 requests failed", before=Verdict.BREACH, incident=True)


def kinds(said: Said) -> list[type]:
    return [type(fact.payload) for fact in said.facts]


def test_a_breach_says_verdict_incident_and_request_and_each_follows_from_the_verdict() -> None:
    said = changed(NOTHING, BREACH, SAYING)
    assert kinds(said) == [VerdictChanged, IncidentRaised, RollbackRequested]
    verdict, *following = said.facts
    assert {fact.causationid for fact in following} == {verdict.id}
    assert (said.after.n, said.after.fence) == (1, 7)


def test_the_same_again_is_no_news() -> None:
    said = changed(NOTHING, BREACH, SAYING)
    again = changed(said.after, BREACH, SAYING)
    assert (again.after, again.facts) == (said.after, ())


def test_another_monitor_that_says_the_same_gives_it_the_same_ids() -> None:
    other = Saying("/fleet/b/monitor", AT, fence=9)
    ids = [[fact.id for fact in changed(NOTHING, BREACH, who).facts] for who in (SAYING, other)]
    assert ids[0] == ids[1]


def test_a_breach_that_became_worse_is_told_and_not_asked_for_again() -> None:
    known = changed(NOTHING, replace(BREACH, severity=Severity.MEDIUM), SAYING).after
    assert kinds(changed(known, BREACH, SAYING)) == [VerdictChanged, IncidentRaised]


def test_a_breach_that_a_replay_finds_a_little_milder_is_no_news() -> None:
    known = changed(NOTHING, BREACH, SAYING).after
    assert changed(known, replace(BREACH, severity=Severity.MEDIUM), SAYING).facts == ()


def test_too_little_data_takes_no_breach_back_and_good_data_does() -> None:
    known = changed(NOTHING, BREACH, SAYING).after
    assert changed(known, event(Verdict.INSUFFICIENT), SAYING).facts == ()
    over = changed(known, OK, SAYING)
    assert kinds(over) == [VerdictChanged, IncidentCleared]
    assert over.after.said[0].raised is None


def test_an_incident_is_cleared_though_the_judge_that_raised_it_is_gone() -> None:
    """After a restart the judge does not know that it had been in breach."""
    known = changed(NOTHING, BREACH, SAYING).after
    young = event(Verdict.OK, before=Verdict.INSUFFICIENT, incident=False)
    assert kinds(changed(known, young, SAYING)) == [VerdictChanged, IncidentCleared]


def test_a_bad_node_is_an_incident_of_the_node_and_a_request_to_drain_it() -> None:
    on_node = replace(BREACH, node="gpu-3", remedy=Remedy.DRAIN, action="drain")
    said = changed(NOTHING, on_node, SAYING)
    assert kinds(said) == [VerdictChanged, IncidentRaised, PlaybookRequested]
    raised, request = said.facts[1].payload, said.facts[2].payload
    assert isinstance(raised, IncidentRaised)
    assert isinstance(request, PlaybookRequested)
    assert (raised.resource_type, raised.resource_id) == ("node", "gpu-3")
    assert (request.playbook, request.resource_id, request.requested_by) == ("node_drain", "gpu-3", "monitor")


@pytest.mark.parametrize("action", ["observe", "none"])
def test_who_may_only_observe_asks_for_nothing(action: str) -> None:
    said = changed(NOTHING, replace(BREACH, action=action), SAYING)
    assert kinds(said) == [VerdictChanged, IncidentRaised]


def test_a_version_that_is_not_served_any_more_has_no_open_incident() -> None:
    known = changed(NOTHING, BREACH, SAYING).after
    gone = retired(known, Retired("2", "hex8@2 is not served any more"), SAYING)
    assert kinds(gone) == [IncidentCleared]
    assert gone.after.said == ()
    assert retired(gone.after, Retired("2", "again"), SAYING).facts == ()
    assert changed(gone.after, BREACH, SAYING).facts, "served again, it is judged again"


VERDICTS = st.sampled_from(
    [
        BREACH,
        replace(BREACH, severity=Severity.MEDIUM),
        replace(BREACH, remedy=Remedy.PAGE, action="page", severity=Severity.CRITICAL),
        OK,
        event(Verdict.INSUFFICIENT),
        event(Verdict.STALE, signal="snapshots", severity=Severity.LOW, incident=True),
        event(Verdict.OK, signal="snapshots", before=Verdict.STALE, incident=True),
    ]
)


@given(st.lists(VERDICTS, max_size=20))
def test_whatever_comes_every_id_is_used_once_and_what_was_raised_is_open_or_cleared(news: list[VerdictEvent]) -> None:
    known = NOTHING
    facts: list[Event] = []
    for each in news:
        said = changed(known, each, SAYING)
        assert changed(said.after, each, SAYING).facts == (), "said, it is no news"
        known, facts = said.after, [*facts, *said.facts]
    assert len({fact.id for fact in facts}) == len(facts)
    is_open: dict[str, bool] = {}
    for fact in facts:
        if isinstance(fact.payload, IncidentRaised | IncidentCleared):
            is_open[fact.payload.trigger] = isinstance(fact.payload, IncidentRaised)
    kept = {said.raised.trigger for said in known.said if said.raised is not None}
    assert kept == {trigger for trigger, still in is_open.items() if still}
