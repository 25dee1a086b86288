"""What holds for all evidence: more wins never hurt, what is missing never passes, a judgement can be made again."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.registry.gates.builders import PRODUCTION, ago, approval, asking, flag, freeze, games, inputs, result

from fleetcast.events.ids import canonical_json
from fleetcast.events.lifecycle import Evaluation, Facts, Rating, StageName
from fleetcast.registry.gates.explain import evidence_of, rejudge
from fleetcast.registry.gates.inputs import Baseline, GateInputs, Readiness
from fleetcast.registry.gates.judge import judge
from fleetcast.registry.gates.policy import (
    UPWARD,
    Approvals,
    FreezeWindow,
    Gates,
    ModelPolicy,
    Range,
    RejectRule,
    StageGates,
)

ORDER = {"fail": 0, "insufficient": 1, "pass": 2}
confidences = st.floats(0.5, 0.9999)
rates = st.floats(0.01, 0.99)
counts = st.integers(0, 500)
few = st.integers(0, 3000)
flag_names = st.sampled_from(["a", "b", "c"])
elos = st.floats(-1000, 4000)
half_widths = st.none() | st.floats(1, 500)
ratings = st.builds(
    Rating, elo=elos, error=half_widths, games=few, delta=st.none() | st.floats(-500, 500), delta_error=half_widths
)
gates = st.builds(
    StageGates,
    min_games=few,
    min_elo=st.none() | elos,
    elo_delta_above=st.none() | st.floats(-50, 50),
    win_rates=st.dictionaries(st.sampled_from(["random", "heuristic"]), rates),
    flags=st.lists(flag_names, unique=True).map(tuple),
    max_calibration_error=st.none() | st.floats(0, 1),
    reproducibility_hash=st.booleans(),
    latency_objective=st.booleans(),
    metrics=st.dictionaries(st.sampled_from(["x", "y"]), st.builds(Range, min=st.floats(-1, 1))),
    tested_format=st.booleans(),
    soak_seconds=st.floats(0, 1e6),
    approvals=st.builds(Approvals, count=st.integers(0, 3)),
)
windows = st.builds(
    lambda days, hour, zone: FreezeWindow.model_validate(
        {"days": days, "from": f"{hour:02}:00", "to": f"{(hour + 5) % 24:02}:30", "zone": zone}
    ),
    st.lists(st.sampled_from(["mon", "fri", "sun"]), min_size=1, unique=True).map(tuple),
    st.integers(0, 23),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
)
policies = st.builds(
    ModelPolicy,
    decides=st.sampled_from(["gates", "gates", "gates", "external"]),
    confidence=confidences,
    metadata=st.lists(st.sampled_from(["git_commit", "checksums", "ticket"]), unique=True).map(tuple),
    reject=st.none() | st.builds(RejectRule, elo_below=elos, min_games=few),
    gates=st.builds(Gates, staging=gates, production=gates),
    freeze=st.lists(windows, max_size=2).map(tuple),
    quorum_ratio=st.floats(0, 1),
)
played = st.dictionaries(
    st.sampled_from(["random", "Random", "heuristic"]), st.builds(Evaluation, wins=few, losses=few, draws=few)
)


evidence = st.builds(
    inputs,
    facts=st.builds(
        Facts,
        evaluations=st.none() | played,
        rating=st.none() | ratings,
        calibration_error=st.none() | st.floats(0, 1),
        evaluation_metrics=st.none() | st.dictionaries(st.sampled_from(["x", "y"]), st.floats(-2, 2)),
        git_commit=st.none() | st.just("0123abc"),
    ),
    flags=st.dictionaries(flag_names, st.builds(flag, st.booleans())),
    approvals=st.lists(st.builds(approval, st.sampled_from(["bob", "carl", "ann"])), max_size=4).map(tuple),
    since=st.builds(ago, st.floats(-1e6, 1e6)),
    format_check=st.sampled_from(["ok", "", "not tested (pickle)"]),
    freezes=st.sampled_from([{}, {"hex8_2p": freeze()}]),
    readiness=st.none() | st.builds(Readiness, verified=counts, wanting=counts),
    production=st.none() | st.builds(Baseline, version=st.just("42"), rating=st.none() | ratings),
)
"""Inputs of all sorts."""


@given(wins=counts, losses=counts, draws=counts, more=st.integers(1, 200), required=rates, confidence=confidences)
def test_more_wins_never_make_a_verdict_worse_and_more_losses_never_better(
    wins: int, losses: int, draws: int, more: int, required: float, confidence: float
) -> None:
    policy = asking(confidence, win_rates={"a": required})

    def verdict(won: int, lost: int) -> int:
        return ORDER[result(policy, games("a", won, lost, draws), "win_rate.a").verdict]

    assert verdict(wins + more, losses) >= verdict(wins, losses)
    # Without any games a verdict is insufficient, which a loss may turn into nothing better.
    assert verdict(wins, losses + more) <= max(verdict(wins, losses), ORDER["insufficient"])


@given(wins=counts, losses=counts, required=rates, one=confidences, other=confidences)
def test_more_confidence_never_decides_what_less_confidence_left_open(
    wins: int, losses: int, required: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    less = result(asking(low, win_rates={"a": required}), games("a", wins, losses), "win_rate.a").verdict
    more = result(asking(high, win_rates={"a": required}), games("a", wins, losses), "win_rate.a").verdict
    assert more in (less, "insufficient")


@given(policy=policies, target=st.sampled_from(UPWARD), seen=evidence)
def test_judgement_is_allowed_only_when_every_gate_passes(
    policy: ModelPolicy, target: StageName, seen: GateInputs
) -> None:
    judged = judge(policy, target, seen)
    assert judged.allowed is all(each.verdict == "pass" for each in judged.results)
    assert {each.name for each in judged.open} == {each.name for each in judged.results if each.verdict != "pass"}
    assert all(each.next_step for each in judged.open)
    assert all(each.bound is None or math.isfinite(each.bound) for each in judged.results)
    assert bool(judged.next_step) is not judged.allowed


@given(policy=policies, asked=gates)
def test_without_any_evidence_nothing_that_is_measured_or_stated_passes(policy: ModelPolicy, asked: StageGates) -> None:
    asking_all = policy.model_copy(update={"gates": Gates(production=asked), "decides": "gates"})
    nothing = inputs(format_check="", production=Baseline(version="42"))
    passed = {each.name for each in judge(asking_all, PRODUCTION, nothing).results if each.passes}
    # A soak may be over, nothing may be frozen, and every version has checksums.
    assert passed <= {"soak", "freeze", "metadata.checksums"}


@given(policy=policies, target=st.sampled_from(UPWARD), seen=evidence)
def test_judging_again_from_the_audit_record_gives_the_same_bit_for_bit(
    policy: ModelPolicy, target: StageName, seen: GateInputs
) -> None:
    judged = judge(policy, target, seen)
    record = json.loads(canonical_json(evidence_of(policy, seen, judged)))

    again, differences = rejudge(record)

    assert again == judged
    assert differences == ()
    assert json.loads(canonical_json(evidence_of(policy, seen, again))) == record


@given(policy=policies)
def test_policy_is_the_same_after_a_trip_through_json_and_keeps_its_digest(policy: ModelPolicy) -> None:
    again = ModelPolicy.model_validate(json.loads(json.dumps(policy.model_dump(mode="json", by_alias=True))))
    assert again == policy
    assert again.digest == policy.digest
