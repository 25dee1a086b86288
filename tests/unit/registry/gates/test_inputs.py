"""What gates look at: taken from an entry, the same after a trip through JSON, and without numbers out of range."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.unit.registry.gates.builders import NOW, ago, approval, flag, freeze, inputs

from fleetcast.events.ids import canonical_json
from fleetcast.events.lifecycle import FLEET, EntryState, Evaluation, Facts, Rating, StageName
from fleetcast.events.state import Cause
from fleetcast.registry.gates.inputs import GateInputs, Readiness, inputs_of

numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**53)
evaluations = st.builds(Evaluation, wins=counts, losses=counts, draws=counts)
ratings = st.builds(
    Rating,
    elo=numbers,
    games=counts,
    error=st.none() | st.floats(1e-3, 1e3),
    delta=st.none() | numbers,
    delta_error=st.none() | st.floats(1e-3, 1e3),
)
texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)
facts = st.builds(
    Facts,
    evaluations=st.none() | st.dictionaries(texts, evaluations, max_size=4),
    rating=st.none() | ratings,
    calibration_error=st.none() | st.floats(0, 1),
    evaluation_metrics=st.none() | st.dictionaries(texts, numbers, max_size=4),
    git_commit=st.none() | st.just("0123abc"),
    tags=st.none() | st.lists(texts, max_size=3).map(tuple),
)


def entry(version: str = "43", **given: Any) -> EntryState:
    base: dict[str, Any] = {
        "model": "hex8_2p",
        "version": version,
        "artifact": "a" * 64,
        "since": ago(60),
        "format": "torch",
        "origin": "gpu-1",
        "registered_at": ago(60),
        "registered_by": "job",
        "cause": Cause(event="e", sequence=1, by="job", correlation="c"),
    }
    return EntryState.model_validate({**base, **given})


def taken(of: EntryState, **given: Any) -> GateInputs:
    return inputs_of(of, **{"now": NOW, "freeze": {}, "readiness": None, **given})


@given(facts=facts, metadata=st.dictionaries(texts, numbers | texts | st.none(), max_size=3))
def test_inputs_are_the_same_after_a_trip_through_an_audit_record(facts: Facts, metadata: dict[str, Any]) -> None:
    before = inputs(
        facts=facts,
        metadata=metadata,
        flags={"parity": flag(True)},
        approvals=(approval("bob"),),
        freezes={FLEET: freeze()},
        readiness=Readiness(verified=1, wanting=2),
    )

    record = canonical_json(before.model_dump(mode="json", by_alias=True))
    after = GateInputs.model_validate(json.loads(record))

    assert after == before
    assert canonical_json(after.model_dump(mode="json", by_alias=True)) == record


def test_entry_becomes_inputs_with_everything_that_gates_read() -> None:
    given = entry(
        facts=Facts(git_commit="0123abc"),
        flags={"parity": flag(True)},
        approvals=(approval("bob"),),
        metadata={"k": 1},
        stage="staging",
    )

    found = taken(given, asked_by="ann", readiness=Readiness(verified=1, wanting=3))

    assert (found.model, found.version, found.artifact) == ("hex8_2p", "43", "a" * 64)
    assert (found.stage, found.since, found.now) == (StageName.STAGING, given.since, NOW)
    assert (found.facts, found.flags, found.approvals) == (given.facts, given.flags, given.approvals)
    assert (found.metadata, found.asked_by) == ({"k": 1}, "ann")
    assert found.readiness == Readiness(verified=1, wanting=3)


@pytest.mark.parametrize(
    ("named", "check"),
    [
        ("torch", "ok"),
        ("safetensors", "ok"),
        ("pickle", "not tested (pickle)"),
        ("opaque", "not tested (opaque)"),
        ("mixed", ""),
        ("", ""),
    ],
)
def test_format_without_a_test_is_visible_to_gates(named: str, check: str) -> None:
    assert taken(entry(format=named)).format_check == check


def test_what_the_nodes_say_of_the_format_counts_more_than_its_name() -> None:
    said = "not tested (weights/a.pkl: pickle)"
    assert taken(entry(format="mixed"), format_check=said).format_check == said


def test_freezes_that_are_over_or_lifted_are_no_inputs() -> None:
    given = {"hex8_2p": freeze(until=ago(1)), FLEET: freeze(frozen=False), "other": freeze()}
    assert taken(entry(), freeze=given).freezes == {}
    assert taken(entry(), freeze={"hex8_2p": freeze(until=ago(-1)), FLEET: None}).freezes.keys() == {"hex8_2p"}
    assert taken(entry(), freeze={FLEET: freeze()}).freezes.keys() == {FLEET}


def test_version_is_not_compared_with_itself() -> None:
    rated = Facts(rating=Rating(elo=1500, games=100))
    baseline = taken(entry(), production_entry=entry("42", facts=rated)).production
    assert baseline is not None
    assert (baseline.version, baseline.rating) == ("42", rated.rating)
    assert taken(entry(), production_entry=entry()).production is None


def test_games_are_those_by_opponent_or_those_of_the_rating_whichever_are_more() -> None:
    played = {"a": Evaluation(wins=10, losses=5), "b": Evaluation(wins=1, losses=1, draws=3)}
    assert inputs(facts=Facts(evaluations=played)).games == 20
    assert inputs(facts=Facts(evaluations=played, rating=Rating(elo=1500, games=30))).games == 30
    assert inputs().games == 0


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Evaluation, {"wins": -1, "losses": 1}),
        (Evaluation, {"wins": 1, "losses": -1}),
        (Evaluation, {"wins": 1, "losses": 1, "draws": -1}),
        (Evaluation, {"wins": 2**60, "losses": 0}),
        (Evaluation, {"wins": 1.7, "losses": 0}),
        (Evaluation, {"wins": float("nan"), "losses": 0}),
        (Rating, {"elo": float("nan"), "games": 1}),
        (Rating, {"elo": float("inf"), "games": 1}),
        (Rating, {"elo": 1500, "games": -1}),
        (Rating, {"elo": 1500, "games": 1, "error": 0}),
        (Rating, {"elo": 1500, "games": 1, "error": float("nan")}),
        (Rating, {"elo": 1500, "games": 1, "delta": float("inf")}),
        (Rating, {"elo": 1500, "games": 1, "delta_error": -3}),
        (Facts, {"calibration_error": 1.7}),
        (Facts, {"calibration_error": -0.1}),
        (Facts, {"calibration_error": float("nan")}),
        (Facts, {"expected_latency_p95_ms": 0}),
        (Facts, {"expected_latency_p95_ms": float("inf")}),
        (Facts, {"evaluation_metrics": {"accuracy": float("nan")}}),
        (Facts, {"training_dataset_size": -1}),
        (Facts, {"win_rate": 0.9}),
        (Readiness, {"verified": -1, "wanting": 1}),
    ],
)
def test_numbers_out_of_range_never_reach_a_gate(kind: type, values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(values)  # type: ignore[attr-defined]  # every one of them is a pydantic type


@pytest.mark.parametrize("now", ["yesterday", "2026-11-20T12:00:00", ""])
def test_moment_without_a_zone_is_refused(now: str) -> None:
    with pytest.raises(ValidationError):
        inputs(now=now)
