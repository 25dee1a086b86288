"""`why`: the causal chain of an event, built from events alone."""

from tests.unit.cli.builders import ARTIFACT, CHECKS, event

from fleetcast.cli.chain import chain
from fleetcast.events import payloads as p
from fleetcast.events.envelope import Event
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.incidents import IncidentChanged, IncidentOpened, IncidentRaised

PROMOTED = event(p.ModelPromoted(model="hex8", version="2", path="/m.pt", node="node-1"), sequence=1, name="FIRST1")


def fact(node: str) -> dict[str, object]:
    return {
        "transfer": "t",
        "artifact": ARTIFACT,
        "node": node,
        "transport": "bittorrent",
        "model": "hex8",
        "version": "2",
    }


def installed(node: str, after: float, sequence: int) -> Event:
    payload = p.VersionInstalled(
        model="hex8", version="2", artifact=ARTIFACT, node=node, checks=CHECKS, bytes=2**26, transport="bittorrent"
    )
    return event(payload, after=after, cause=PROMOTED, sequence=sequence)


def test_a_chain_has_the_events_of_one_cause_only_with_times_from_the_first() -> None:
    other = event(p.ModelPromoted(model="hex8", version="3", path="/m", node="node-1"), sequence=2, name="OTHER1")
    found = chain([other, installed("node-2", 1.5, 3), PROMOTED], "FIRST1")
    assert found is not None
    assert [link.event.type.name for link in found.links] == ["model.promoted", "version.installed"]
    assert [link.after_seconds for link in found.links] == [0.0, 1.5]
    assert [link.depth for link in found.links] == [0, 1]


def test_an_unknown_cause_has_no_chain() -> None:
    assert chain([PROMOTED], "NOTHERE") is None


def test_an_event_that_was_delivered_twice_is_told_once() -> None:
    found = chain([PROMOTED, PROMOTED], "FIRST1")
    assert found is not None
    assert len(found.links) == 1


def test_the_event_that_was_asked_about_is_marked() -> None:
    last = installed("node-2", 1.0, 2)
    found = chain([PROMOTED, last], "FIRST1", asked=last.id)
    assert found is not None
    assert [link.text.startswith(">") for link in found.links] == [False, True]


def test_order_is_that_of_the_stream_even_when_clocks_disagree() -> None:
    early_clock = installed("node-2", -0.3, 5)
    found = chain([early_clock, PROMOTED], "FIRST1")
    assert found is not None
    assert found.links[0].event is PROMOTED
    assert "+0.00 s" in found.links[1].text


def test_the_verdict_names_nodes_and_the_time_of_the_last_one() -> None:
    found = chain([PROMOTED, installed("node-2", 1.0, 2), installed("node-3", 2.5, 3)], "FIRST1")
    assert found is not None
    assert found.verdict == ("installed on node-2, node-3; the last one 2.50 s after the first event",)


def test_a_failure_that_was_made_good_later_is_not_in_the_verdict() -> None:
    failed = event(
        p.TransferFailed.model_validate(fact("node-2") | {"reason": "no source"}),
        after=1.0,
        cause=PROMOTED,
        sequence=2,
    )
    open_failure = chain([PROMOTED, failed], "FIRST1")
    made_good = chain([PROMOTED, failed, installed("node-2", 3.0, 3)], "FIRST1")
    assert open_failure is not None
    assert made_good is not None
    assert open_failure.verdict == ("node-2 has not got it: no source",)
    assert not [words for words in made_good.verdict if "has not got it" in words]


def test_a_refusal_is_told_with_winner_and_next_step() -> None:
    refusal = event(
        p.EventRejected(
            event="FIRST1",
            subject="fc.ev.model.promoted.hex8",
            reason="version 2 exists",
            winner="node-9",
            next_step="use another version",
        ),
        after=0.1,
        sequence=2,
        name="REFUSED",
    )
    found = chain([PROMOTED, refusal], "FIRST1")
    assert found is not None
    assert found.verdict == ("refused: version 2 exists (node-9 holds it); next: use another version",)


def test_an_event_without_consequences_says_so() -> None:
    found = chain([PROMOTED], "FIRST1")
    assert found is not None
    assert found.verdict == ("nothing has followed from it yet",)


def test_the_document_carries_the_numbers_that_decided() -> None:
    found = chain([PROMOTED, installed("node-2", 1.0, 2)], "FIRST1")
    assert found is not None
    links = found.document()["links"]
    assert isinstance(links, list)
    assert links[1]["data"]["bytes"] == 2**26
    assert links[1]["after_seconds"] == 1.0


def test_a_chain_ends_with_where_its_incidents_stand() -> None:
    raised = event(IncidentRaised.model_validate(EXAMPLES["incident.raised"]), sequence=1, name="RAISED")
    opened = event(IncidentOpened.model_validate(EXAMPLES["incident.opened"]), cause=raised, sequence=2)
    changed = event(IncidentChanged.model_validate(EXAMPLES["incident.changed"]), cause=raised, after=1.0, sequence=3)
    found = chain([raised, opened, changed], "RAISED")
    assert found is not None
    (said,) = found.verdict
    assert "is mitigated: model_rollback: 3 of 3 nodes serve 3.1.5" in said
