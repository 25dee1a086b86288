"""Events as one line for a person."""

import pytest
from tests.unit.cli.builders import ARTIFACT, event

from fleetcast.cli.narrate import line, printable, sentence
from fleetcast.events import payloads as p
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.incidents import IncidentChanged, IncidentOpened, IncidentRaised, VerdictChanged
from fleetcast.events.names import CATALOGUE
from fleetcast.events.remedies import PlaybookRunChanged


def test_every_event_of_the_catalogue_has_a_sentence_of_its_own() -> None:
    told = {}
    for entry in CATALOGUE:
        made = event(entry.payload.model_validate(EXAMPLES[entry.name]))
        told[entry.name] = sentence(made)
        assert "\n" not in told[entry.name]
        assert not told[entry.name].startswith(f"{made.source}: "), f"{entry.name} has no sentence of its own"
        assert not set("{}") & set(told[entry.name]), told[entry.name]
    assert len(set(told.values())) == len(told)


def test_a_transfer_tells_its_rate_and_who_gave_what() -> None:
    payload = p.TransferVerified(
        transfer="t",
        artifact=ARTIFACT,
        node="node-3",
        transport="bittorrent",
        model="hex8",
        version="2",
        seconds=2.0,
        bytes_by_source={"node-1": 2**20, "node-2": 3 * 2**20},
    )
    assert sentence(event(payload)) == (
        "node-3 has proven hex8@2 by bittorrent in 2.00 s at 2.0 MiB/s: 3.0 MiB from node-2, 1.0 MiB from node-1"
    )


def test_a_line_has_type_and_id() -> None:
    told = line(event(p.ModelPromoted(model="m", version="1", path="/x", node="n"), name="ABCDEF"))
    assert "model.promoted" in told
    assert told.endswith("[ABCDEF]")


def test_what_strangers_wrote_cannot_move_the_cursor() -> None:
    payload = p.ModelPromoted(model="m", version="1", path="/x", node="n", metadata={"reason": "\x1b[2J\nfake line"})
    told = line(event(payload))
    assert "\x1b" not in told
    assert "\n" not in told
    assert printable("ä→…") == "ä→…"


def test_what_has_no_value_is_left_out_of_a_sentence() -> None:
    opened = EXAMPLES["incident.opened"]
    told = sentence(event(IncidentOpened.model_validate(opened)))
    assert told.startswith("incident inc-01kagn2x4h opened, medium: fraud_detector@3.2.1: error rate above its limit: ")
    assert "silenced" not in told
    silenced = sentence(event(IncidentOpened.model_validate({**opened, "silenced": True, "runbook": "r.md"})))
    assert silenced.endswith("; silenced; see r.md")


def test_a_change_of_an_incident_is_told_with_its_times() -> None:
    told = sentence(event(IncidentChanged.model_validate(EXAMPLES["incident.changed"])))
    assert told == (
        "incident inc-01kagn2x4h (error_rate of fraud_detector@3.2.1) is mitigated: "
        "model_rollback: 3 of 3 nodes serve 3.1.5 (detected after 3 m 0 s, mitigated after 3 m 1 s)"
    )


def test_a_breach_is_said_in_words() -> None:
    told = sentence(event(VerdictChanged.model_validate(EXAMPLES["verdict.changed"])))
    assert told.startswith("error_rate of fraud_detector@3.2.1 as production is in breach, was ok, medium: ")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"position": 1, "attempt": 1, "outcome": "running"}, "begins with step 1 of 5 move"),
        ({"position": 2, "outcome": "succeeded", "step_seconds": 0.5}, "step 2 of 5 move succeeded in 0.50 s: news"),
        (
            {"position": 2, "attempt": 1, "outcome": "pending"},
            "step 2 of 5 move is tried again (attempt 1 failed): news",
        ),
        ({"position": 2, "attempt": 2, "outcome": "running"}, "step 2 of 5 move is under way (attempt 2)"),
        ({"phase": "approval", "outcome": "running"}, "waits until somebody agrees: news"),
        ({"phase": "failed", "outcome": "failed"}, "has failed: news"),
        ({"phase": "nothing"}, "had nothing to do: news"),
    ],
)
def test_a_run_of_a_playbook_is_told_in_a_sentence(fields: dict[str, object], said: str) -> None:
    changed = {**EXAMPLES["playbook.run.changed"], "phase": "running", "step": "move", "detail": "news", "seconds": 1}
    told = sentence(event(PlaybookRunChanged.model_validate({**changed, "step_seconds": 0, **fields})))
    assert told.endswith(f" {said} (1.00 s after the request)")


def test_a_node_is_not_named_like_a_version_of_a_model() -> None:
    about = {"resource_type": "node", "resource_id": "gpu-2", "version": "43"}
    told = sentence(event(IncidentRaised.model_validate({**EXAMPLES["incident.raised"], **about})))
    assert "of gpu-2 (version 43), " in told


def test_brackets_and_braces_that_strangers_wrote_stay_as_they_are() -> None:
    raised = IncidentRaised.model_validate({**EXAMPLES["incident.raised"], "title": "[{node}|x] {model}"})
    assert "[{node}|x] {model}" in sentence(event(raised))


def test_a_sentence_says_otherwise_where_there_is_nothing_to_say() -> None:
    moved = p.TransferMoved.model_validate({**EXAMPLES["transfer.moved"], "bytes_kept": 0, "reason": None})
    assert sentence(event(moved)).endswith("from bittorrent to aria2, had nothing yet: no reason")
