"""An incident as a person reads it."""

from fleetcast.cli.narrate import printable
from fleetcast.cli.remedy.reasons import _fact
from fleetcast.cli.remedy.telling import told
from fleetcast.cli.units import clock, moment
from fleetcast.events.incidents import IncidentPhase, IncidentState, ResourceType, Severity

AT = "2026-11-21T09:30:00.000Z"
STATE = IncidentState(
    incident="inc-7f3k9m2x4h",
    source="monitor",
    resource_type=ResourceType.MODEL,
    resource_id="hex8_2p",
    version="43",
    trigger="error_rate",
    severity=Severity.HIGH,
    phase=IncidentPhase.MITIGATED,
    title="hex8_2p@43: too many errors",
    description="hex8_2p@43, since 09:30 UTC:\n- High error rate: 20.00%\nno other version answered",
    context={"reasons": ["High error rate: 20.00%"], "cause": "no other version answered", "bad": 20, "path": "fast"},
    began_at=AT,
    opened_at=AT,
    updated_at=AT,
    raised_at=AT,
    correlation="c1",
)


def test_a_description_of_several_lines_is_told_in_lines_and_says_nothing_twice() -> None:
    lines = [printable(line) for line in told(STATE)]

    assert "hex8_2p@43, since 09:30 UTC:" in lines
    assert sum("High error rate: 20.00%" in line for line in lines) == 1
    assert not [line for line in lines if "\\x0a" in line]


def test_words_have_lines_of_their_own_among_the_numbers() -> None:
    lines = told(STATE)

    assert "  cause: no other version answered" in lines
    assert "  bad 20, path fast" in lines


def test_an_incident_is_not_said_to_be_in_its_phase_since_it_began() -> None:
    assert f"(error_rate), mitigated: began {clock(moment(AT))}, said 1 time" in _fact(STATE)
