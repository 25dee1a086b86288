import math

import pytest
from pydantic import ValidationError
from tests.unit.registry.transitions.scene import MODEL, Scene, version_state

from fleetcast.events.decisions import EvidenceRecorded, StageChanged
from fleetcast.events.lifecycle import Evaluation, Facts, Rating, StageName
from fleetcast.registry.commands import COMMAND, Describe, Evaluate, FlagSet, Move, Promote, Reserve
from fleetcast.registry.description import described
from fleetcast.registry.errors import DescriptionInvalid
from fleetcast.registry.gates.policy import ModelPolicy, RejectRule


def test_a_version_registers_itself_with_what_its_producer_says() -> None:
    scene = Scene()
    state = version_state("1", metrics={"accuracy": 0.9}).model_copy(
        update={"metadata": {"owner": "ann", "git_sha": "abcdef1", "odd": [1]}, "run_id": "r1"}
    )
    scene.ask(Reserve(state=state))

    entry = scene.entry("1")
    assert entry.stage is StageName.DEVELOPMENT
    assert (entry.facts.owner, entry.facts.git_commit, entry.facts.run_id) == ("ann", "abcdef1", "r1")
    assert entry.facts.evaluation_metrics == {"accuracy": 0.9}
    assert entry.metadata == {"odd": [1]}


def test_the_same_content_again_is_no_second_record_and_other_content_a_conflict() -> None:
    scene = Scene()
    scene.register("1")
    again = scene.ask(Reserve(state=version_state("1")))
    other = scene.ask(Reserve(state=version_state("1", size=77)))

    assert (again.outcome, again.repeated) == ("done", True)
    assert other.outcome == "conflict"
    assert version_state("1").artifact in other.winner
    assert scene.actions == ["version.reserved"]


def test_facts_and_flags_are_kept_name_by_name_with_who_said_them() -> None:
    scene = Scene()
    scene.register("1")
    scene.ask(Describe(model=MODEL, version="1", facts=Facts(owner="ann", evaluation_metrics={"a": 1.0})))
    scene.ask(
        Describe(
            model=MODEL,
            version="1",
            facts=Facts(evaluation_metrics={"b": 2.0}),
            flags={"bias_check_passed": FlagSet(value=True)},
            metadata={"x": 1},
        ),
        reason="audit",
    )

    entry = scene.entry("1")
    assert entry.facts.owner == "ann"
    assert entry.facts.evaluation_metrics == {"a": 1.0, "b": 2.0}
    flag = entry.flags["bias_check_passed"]
    assert (flag.value, flag.by, flag.reason) == (True, "/fleet/n1/cli", "audit")
    assert isinstance(scene.told[-1], EvidenceRecorded)
    assert scene.told[-1].fields == ("evaluation_metrics", "bias_check_passed", "metadata.x")


def test_saying_nothing_is_refused() -> None:
    scene = Scene()
    scene.register("1")
    assert scene.ask(Describe(model=MODEL, version="1")).code == "nothing"
    assert scene.ask(Evaluate(model=MODEL, version="1")).code == "nothing"


def test_a_version_that_is_far_too_weak_is_rejected_by_its_results() -> None:
    scene = Scene(policy=ModelPolicy(reject=RejectRule(elo_below=1400, min_games=100)))
    scene.register("1", "2")
    scene.ask(Evaluate(model=MODEL, version="1", rating=Rating(elo=1200, error=40, games=400)))
    scene.ask(Evaluate(model=MODEL, version="2", rating=Rating(elo=1200, error=40, games=20)))

    assert scene.stage("1") is StageName.REJECTED
    assert scene.stage("2") is StageName.DEVELOPMENT
    changed = [t for t in scene.told if isinstance(t, StageChanged)]
    assert len(changed) == 1
    assert "1400" in (changed[0].reason or "")


def test_what_is_served_is_not_rejected_by_results() -> None:
    scene = Scene(policy=ModelPolicy(decides="external", reject=RejectRule(elo_below=1400)))
    scene.register("1")
    scene.ask(Promote(model=MODEL, version="1"))
    scene.ask(Evaluate(model=MODEL, version="1", rating=Rating(elo=1000, error=10, games=999)))
    assert scene.stage("1") is StageName.PRODUCTION


def test_what_a_slot_names_is_not_taken_away() -> None:
    scene = Scene()
    scene.register("1", "2")
    scene.ask(Promote(model=MODEL, version="1"))
    scene.ask(Promote(model=MODEL, version="2"))

    assert scene.ask(Move(model=MODEL, version="2", stage=StageName.QUARANTINED)).code == "slot"
    assert scene.ask(Move(model=MODEL, version="1", stage=StageName.ARCHIVED)).code == "slot"
    assert scene.ask(Move(model=MODEL, version="1", stage=StageName.QUARANTINED)).outcome == "done"


def test_a_verdict_needs_a_reason_and_is_lifted_only_with_one() -> None:
    scene = Scene()
    scene.register("1")
    quarantine = Move(model=MODEL, version="1", stage=StageName.QUARANTINED)
    release = Move(model=MODEL, version="1", stage=StageName.DEVELOPMENT)

    assert scene.ask(quarantine, reason=None).code == "reason"
    assert scene.ask(quarantine).outcome == "done"
    assert scene.ask(release, reason=None).code == "reason"
    assert scene.ask(release).outcome == "done"
    assert scene.ask(release).code == "nothing"
    assert scene.entry("1").quarantine is None


@pytest.mark.parametrize(
    ("metrics", "metadata", "field"),
    [
        ({"win_rate_random": 1.7}, None, "metrics.win_rate_random"),
        ({"loss": math.nan}, None, "metrics.loss"),
        ({"elo": math.inf}, None, "metrics.elo"),
        (None, {"evaluations": {"random": {"wins": -1, "losses": 2}}}, "metadata.evaluations.random.wins"),
        (None, {"calibration_error": 1.7}, "metadata.calibration_error"),
        (None, {"stage": "archived"}, "metadata.stage"),
        (None, {"git_commit": "not a hash"}, "metadata.git_commit"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_name(
    metrics: dict[str, object] | None, metadata: dict[str, object] | None, field: str
) -> None:
    with pytest.raises(DescriptionInvalid) as refused:
        described(metrics, metadata)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "fields",
    [
        {"do": "evaluate", "model": "m", "version": "1", "games": {"random": {"wins": -1, "losses": 0}}},
        {"do": "evaluate", "model": "m", "version": "1", "rating": {"elo": math.nan, "games": 1}},
        {"do": "approve", "model": "m", "version": "1", "by": ""},
        {"do": "promote", "model": "m", "version": "1", "percent": 0},
        {"do": "promote", "model": "M m", "version": "1"},
        {"do": "move", "model": "m", "version": "1", "stage": "production"},
        {"do": "nothing", "model": "m"},
    ],
)
def test_malformed_commands_do_not_reach_a_decision(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        COMMAND.validate_python(fields)


def test_a_later_report_about_an_opponent_replaces_the_earlier_one() -> None:
    scene = Scene()
    scene.register("1")
    for wins in (5, 9):
        scene.ask(Evaluate(model=MODEL, version="1", games={"random": Evaluation(wins=wins, losses=1)}))
    evaluations = scene.entry("1").facts.evaluations
    assert evaluations is not None
    assert evaluations["random"].wins == 9
