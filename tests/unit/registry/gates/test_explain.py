"""Making a decision again from its audit record: the same, or what somebody changed."""

import json
from typing import Any

import pytest
from tests.unit.registry.gates.builders import NOW, PRODUCTION, committed, proven

from fleetcast.events.state import AuditRecord
from fleetcast.registry.gates.explain import METHOD, evidence_of, rejudge
from fleetcast.registry.gates.judge import judge
from fleetcast.registry.rules import dump


@pytest.fixture
def record() -> dict[str, Any]:
    given = proven()
    kept = evidence_of(committed(), given, judge(committed(), PRODUCTION, given))
    return dict(json.loads(json.dumps(kept)))


def test_record_holds_policy_inputs_and_gates_and_gives_the_same_judgement_again(record: dict[str, Any]) -> None:
    assert record["method"] == METHOD
    assert record["policy"]["confidence"] == 0.95
    assert record["inputs"]["facts"]["rating"]["elo"] == 1720
    assert [gate["name"] for gate in record["gates"]][:2] == ["games", "elo"]
    judged, differences = rejudge(record)
    assert judged.allowed
    assert differences == ()


def test_evidence_survives_the_audit_record_as_it_is_stored(record: dict[str, Any]) -> None:
    kept = AuditRecord(
        n=1,
        model="hex8_2p",
        action="promote",
        request="r",
        actor="ann",
        before=None,
        after=None,
        evidence={"steps": [record]},
        at=NOW,
        prev_sha256="0" * 64,
    )
    read = AuditRecord.model_validate_json(dump(kept)).evidence
    assert read is not None
    steps: Any = read["steps"]
    assert rejudge(steps[0])[1] == ()


def test_number_that_was_changed_afterwards_shows_in_the_gate_that_it_decided(record: dict[str, Any]) -> None:
    record["inputs"]["facts"]["rating"]["elo"] = 1500.0
    judged, differences = rejudge(record)
    assert not judged.allowed
    assert [line.split(":")[0] for line in differences] == ["allowed", "gate elo"]
    assert "kept pass (1720" in differences[1]
    assert "now fail (1500" in differences[1]


def test_verdict_that_was_changed_afterwards_shows(record: dict[str, Any]) -> None:
    record["gates"][0]["verdict"] = "fail"
    _, differences = rejudge(record)
    assert [line.split(":")[0] for line in differences] == ["gate games"]


def test_bound_that_differs_in_its_last_digit_shows(record: dict[str, Any]) -> None:
    record["gates"][1]["bound"] += 1e-9
    assert [line.split(":")[0] for line in rejudge(record)[1]] == ["gate elo"]


def test_gate_that_was_taken_out_or_added_shows(record: dict[str, Any]) -> None:
    last = record["gates"].pop()
    assert rejudge(record)[1] == (
        f"gate {last['name']}: kept nothing, now pass (nothing is; required nothing is frozen)",
    )
    record["gates"] += [last, last]
    assert rejudge(record)[1][0].endswith("now nothing")


def test_policy_that_was_changed_afterwards_shows_in_its_digest(record: dict[str, Any]) -> None:
    record["policy"]["gates"]["production"]["min_elo"] = 1200.0
    assert "policy_sha256" in {line.split(":")[0] for line in rejudge(record)[1]}


def test_record_of_another_method_says_so(record: dict[str, Any]) -> None:
    record["method"] = METHOD + 1
    assert rejudge(record)[1] == (f"method: kept {METHOD + 1}, now {METHOD}",)


@pytest.mark.parametrize("key", ["policy", "inputs", "target", "gates"])
def test_record_without_one_of_its_parts_cannot_be_judged_again(record: dict[str, Any], key: str) -> None:
    del record[key]
    with pytest.raises(ValueError, match=f"cannot be judged again: it has no '{key}'"):
        rejudge(record)


def test_record_of_a_newer_fleetcast_is_refused_with_the_field_it_does_not_know(record: dict[str, Any]) -> None:
    record["inputs"]["moon_phase"] = "full"
    with pytest.raises(ValueError, match="moon_phase"):
        rejudge(record)
