"""What each gate says: every threshold at its edge, and what is missing is never a pass and never a fail."""

import pytest
from tests.unit.registry.gates.builders import (
    CANARY,
    NOW,
    PRODUCTION,
    STAGING,
    ago,
    approval,
    asking,
    committed,
    flag,
    freeze,
    games,
    inputs,
    proven,
    rated,
    result,
)

from fleetcast.events.lifecycle import FLEET, Evaluation, Facts, Rating, StageName
from fleetcast.registry.gates.inputs import Baseline, GateInputs, Readiness
from fleetcast.registry.gates.judge import judge
from fleetcast.registry.gates.policy import (
    Approvals,
    FreezeWindow,
    Gates,
    ModelPolicy,
    Policy,
    Range,
    RejectRule,
    StageGates,
)
from fleetcast.registry.gates.results import Verdict


def test_version_with_all_evidence_passes_every_gate_of_the_committed_file() -> None:
    for target in (StageName.SANDBOX, STAGING, CANARY, PRODUCTION):
        judged = judge(committed(), target, proven())
        assert judged.allowed, judged.summary
        assert not judged.rejects
        assert not judged.next_step
        assert judged.summary == f"all {len(judged.results)} gates pass"


def test_version_of_which_nothing_is_known_passes_and_fails_no_gate_but_freeze_and_checksums() -> None:
    judged = judge(committed(), PRODUCTION, inputs(format_check=""))

    assert not judged.allowed
    assert {each.name: each.verdict for each in judged.results if each.verdict != "insufficient"} == {
        "metadata.checksums": "pass",
        "freeze": "pass",
    }
    assert all(each.next_step for each in judged.open)


@pytest.mark.parametrize(("played", "verdict"), [(99, "insufficient"), (100, "pass")])
def test_hundred_games_are_enough_for_production(played: int, verdict: Verdict) -> None:
    found = result(committed(), games("Random", played, 0), "games")
    assert (found.verdict, found.required, found.actual) == (verdict, "at least 100 games", f"{played} games")


@pytest.mark.parametrize(("played", "verdict"), [(49, "insufficient"), (50, "pass")])
def test_fifty_games_are_enough_for_staging(played: int, verdict: Verdict) -> None:
    assert result(committed(), games("Random", played, 0), "games", STAGING).verdict == verdict


def test_missing_games_are_counted_in_the_next_step() -> None:
    found = result(committed(), games("Random", 90, 0), "games")
    assert found.next_step == (
        "10 more games, then: fleetcast evidence games hex8_2p 43 OPPONENT=WINS/LOSSES/DRAWS --reason TEXT"
    )


# Wins at which the exact lower bound at 95 % crosses the seeds' win rates, and the upper one leaves them.
@pytest.mark.parametrize(
    ("target", "opponent", "wins", "of", "verdict"),
    [
        (STAGING, "random", 46, 50, "insufficient"),
        (STAGING, "random", 47, 50, "pass"),
        (STAGING, "random", 38, 50, "insufficient"),
        (STAGING, "random", 37, 50, "fail"),
        (PRODUCTION, "random", 95, 100, "insufficient"),
        (PRODUCTION, "random", 96, 100, "pass"),
        (PRODUCTION, "random", 85, 100, "insufficient"),
        (PRODUCTION, "random", 84, 100, "fail"),
        (PRODUCTION, "heuristic", 68, 100, "insufficient"),
        (PRODUCTION, "heuristic", 69, 100, "pass"),
        (PRODUCTION, "heuristic", 52, 100, "insufficient"),
        (PRODUCTION, "heuristic", 51, 100, "fail"),
    ],
)
def test_win_rates_of_the_seeds_are_compared_with_the_bound(
    target: StageName, opponent: str, wins: int, of: int, verdict: Verdict
) -> None:
    found = result(committed(), games(opponent, wins, of - wins), f"win_rate.{opponent}", target)
    assert found.verdict == verdict
    assert found.confidence == 0.95


def test_win_rate_that_only_looks_good_enough_is_insufficient_and_says_how_many_games_would_settle_it() -> None:
    found = result(asking(win_rates={"Heuristic": 0.6}), games("Heuristic", 65, 35), "win_rate.Heuristic")

    assert found.verdict == "insufficient"
    assert found.bound == pytest.approx(0.5640, abs=1e-4)
    assert found.actual.startswith("0.65 in 100 games (65 won, 35 lost, 0 drawn), so at least 0.5")
    assert found.required == "win rate vs Heuristic at least 0.6"
    # 182 wins in 280 games are the first that pass at this rate.
    assert found.next_step == (
        "about 177 more games with the same result, then: "
        "fleetcast evidence games hex8_2p 43 Heuristic=WINS/LOSSES/DRAWS --reason TEXT"
    )


def test_win_rate_below_what_is_required_is_not_promised_to_pass_with_more_games() -> None:
    found = result(asking(win_rates={"a": 0.6}), games("a", 58, 42), "win_rate.a")
    assert found.verdict == "insufficient"
    assert "only with a better result" in found.next_step


def test_draw_counts_half_and_half_a_point_never_helps() -> None:
    policy = asking(win_rates={"a": 0.6})
    bounds = [
        result(policy, games("a", *counts), "win_rate.a").bound for counts in ((69, 31, 0), (60, 22, 18), (60, 21, 19))
    ]
    assert bounds[0] == bounds[1] == bounds[2]


def test_opponents_are_named_freely_and_in_any_case_and_their_games_add_up() -> None:
    played = {"Stockfish 17": Evaluation(wins=40, losses=0), "STOCKFISH 17": Evaluation(wins=40, losses=1)}
    given = inputs(facts=Facts(evaluations=played))
    found = result(asking(win_rates={"stockfish 17": 0.9}), given, "win_rate.stockfish 17")
    assert found.verdict == "pass"
    assert "80 won, 1 lost" in found.actual


def test_opponent_that_was_never_met_is_insufficient() -> None:
    found = result(committed(), games("Heuristic", 100, 0), "win_rate.random")
    assert (found.verdict, found.actual, found.bound) == ("insufficient", "no games", None)


@pytest.mark.parametrize(
    ("elo", "verdict"),
    [
        # 100 games: ± 68 at 95 % two-sided, so 57.15 at 95 % one-sided.
        (1707.14, "insufficient"),
        (1707.16, "pass"),
        (1650, "insufficient"),
        (1592.86, "insufficient"),
        (1592.83, "fail"),
    ],
)
def test_elo_is_compared_with_the_bound_that_its_games_allow(elo: float, verdict: Verdict) -> None:
    assert result(committed(), rated(elo), "elo").verdict == verdict


def test_stated_error_of_a_rating_counts_instead_of_the_estimate() -> None:
    stated = result(committed(), rated(1670, error=20), "elo")
    assert stated.verdict == "pass"
    assert stated.bound == pytest.approx(1653.21, abs=0.02)
    assert "1670 ± 20 (100 games)" in stated.actual
    assert "estimated from 100 games" in result(committed(), rated(1670), "elo").actual


def test_rating_that_lacks_games_says_how_many() -> None:
    found = result(committed(), rated(1690), "elo")
    assert found.verdict == "insufficient"
    # 57.15 must shrink to 40: (57.15 / 40)^2 * 100 = 204.1
    assert found.next_step.startswith("about 105 more games")


@pytest.mark.parametrize("given", [inputs(), rated(1900, games=0), rated(1900, games=0, error=1)])
def test_rating_that_is_missing_or_rests_on_nothing_is_insufficient(given: GateInputs) -> None:
    found = result(committed(), given, "elo")
    assert found.verdict == "insufficient"
    assert found.next_step.startswith("fleetcast evidence rating hex8_2p 43 ELO --games N --error E")


@pytest.mark.parametrize(
    ("delta", "verdict"), [(40, "pass"), (33.58, "pass"), (33.5, "insufficient"), (0, "insufficient"), (-34, "fail")]
)
def test_positive_delta_is_one_whose_lower_bound_is_above_zero(delta: float, verdict: Verdict) -> None:
    given = rated(1500, delta=delta, delta_error=40)
    assert result(committed(), given, "elo_delta", STAGING).verdict == verdict


def test_delta_nobody_stated_is_that_of_the_two_ratings() -> None:
    own = Facts(rating=Rating(elo=1600, games=400, error=30))
    before = Baseline(version="42", rating=Rating(elo=1550, games=400, error=40))
    found = result(committed(), inputs(facts=own, production=before), "elo_delta", STAGING)
    assert found.verdict == "pass"
    # sqrt(30^2 + 40^2) = 50 at 97.5 %, 41.96 at 95 %
    assert found.bound == pytest.approx(8.04, abs=0.02)


def test_first_version_of_a_model_needs_no_lead() -> None:
    found = result(committed(), rated(1500), "elo_delta", STAGING)
    assert (found.verdict, found.actual) == ("pass", "no version is production: nothing to compare with")


def test_lead_over_a_production_version_that_was_never_rated_is_insufficient() -> None:
    given = rated(1900).model_copy(update={"production": Baseline(version="42")})
    assert result(committed(), given, "elo_delta", STAGING).verdict == "insufficient"


@pytest.mark.parametrize(
    ("elo", "played", "fires"),
    [(1342.8, 100, True), (1342.9, 100, False), (1000, 99, False), (1399, 100, False), (1399, 1_000_000, True)],
)
def test_version_below_1400_after_100_games_is_rejected_once_the_games_are_sure_of_it(
    elo: float, played: int, fires: bool
) -> None:
    judged = judge(committed(), STAGING, rated(elo, games=played))
    assert judged.rejects is fires
    assert any(each.name == "reject" and each.verdict == "fail" for each in judged.results) is fires
    assert not judged.allowed or not fires


def test_rejection_alone_keeps_a_version_out() -> None:
    policy = ModelPolicy(reject=RejectRule(elo_below=1400))
    assert not judge(policy, STAGING, rated(1000)).allowed
    assert judge(policy, STAGING, rated(1500)).allowed


@pytest.mark.parametrize("target", [CANARY, PRODUCTION])
@pytest.mark.parametrize("name", ["constitutional_compliance", "bias_check_passed"])
def test_governance_flag_counts_only_when_somebody_set_it_to_true(target: StageName, name: str) -> None:
    verdicts = [
        result(committed(), inputs(flags=flags), f"flag.{name}", target).verdict
        for flags in ({}, {name: flag(False)}, {name: flag(True)})
    ]
    assert verdicts == ["insufficient", "fail", "pass"]


def test_flag_that_is_missing_names_the_command_that_sets_it() -> None:
    assert result(committed(), inputs(), "flag.bias_check_passed").next_step == (
        "fleetcast evidence set hex8_2p 43 bias_check_passed=true --report FILE --reason TEXT"
    )


def test_flag_that_was_set_says_by_whom_and_when() -> None:
    found = result(committed(), inputs(flags={"parity": flag(False, by="carl")}), "evidence.parity")
    assert found.actual == f"false, set by carl at {ago(60)}"


@pytest.mark.parametrize(
    ("error", "verdict"), [(0.1, "pass"), (0.1000001, "fail"), (0, "pass"), (None, "insufficient")]
)
@pytest.mark.parametrize("target", [CANARY, PRODUCTION])
def test_calibration_error_is_at_most_a_tenth(error: float | None, verdict: Verdict, target: StageName) -> None:
    given = inputs(facts=Facts(calibration_error=error))
    assert result(committed(), given, "calibration_error", target).verdict == verdict


@pytest.mark.parametrize(("fact", "value"), [("reproducibility_hash", "r1"), ("expected_latency_p95_ms", 40.0)])
def test_reproducibility_hash_and_latency_objective_must_be_there(fact: str, value: object) -> None:
    assert result(committed(), inputs(), fact, CANARY).verdict == "insufficient"
    assert result(committed(), inputs(facts=Facts.model_validate({fact: value})), fact, CANARY).verdict == "pass"
    assert result(committed(), inputs(), fact).next_step == (
        f"fleetcast evidence set hex8_2p 43 {fact}=VALUE --reason TEXT"
    )


def test_metadata_schema_is_asked_for_before_any_move_up_and_found_in_facts_or_metadata() -> None:
    policy = ModelPolicy(metadata=("git_commit", "ticket", "checksums"))
    for target in (StageName.SANDBOX, STAGING, CANARY, PRODUCTION):
        verdicts = [each.verdict for each in judge(policy, target, inputs()).results]
        assert verdicts == ["insufficient", "insufficient", "pass", "pass"]
    given = inputs(facts=Facts(git_commit="0123abc"), metadata={"ticket": "T-1"})
    assert judge(policy, STAGING, given).allowed


def test_next_step_is_spelled_as_the_command_line_takes_it() -> None:
    def step(name: str) -> str:
        policy = ModelPolicy(
            metadata=("git_commit", "ticket"),
            gates=Gates(production=StageGates(metrics={"f1 macro": Range(min=0)}, win_rates={"Stockfish 17": 0.5})),
        )
        return result(policy, inputs(), name).next_step

    assert step("metadata.git_commit") == "fleetcast evidence set hex8_2p 43 git_commit=VALUE --reason TEXT"
    assert step("metadata.ticket") == "fleetcast evidence set hex8_2p 43 metadata.ticket=VALUE --reason TEXT"
    assert step("metrics.f1 macro") == "fleetcast evidence set hex8_2p 43 'metrics.f1 macro=VALUE' --reason TEXT"
    assert step("win_rate.Stockfish 17") == (
        "fleetcast evidence games hex8_2p 43 'Stockfish 17=WINS/LOSSES/DRAWS' --reason TEXT"
    )


@pytest.mark.parametrize("empty", ["", None, [], {}])
def test_empty_metadata_is_no_metadata(empty: object) -> None:
    policy = ModelPolicy(metadata=("ticket",))
    assert result(policy, inputs(metadata={"ticket": empty}), "metadata.ticket").verdict == "insufficient"


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.89, "fail"), (0.9, "pass"), (0.95, "pass"), (0.951, "fail"), (None, "insufficient")]
)
def test_metrics_stay_within_their_limits_which_are_allowed_themselves(value: float | None, verdict: Verdict) -> None:
    policy = asking(metrics={"accuracy": Range(min=0.9, max=0.95)})
    given = inputs(facts=Facts(evaluation_metrics=None if value is None else {"accuracy": value}))
    assert result(policy, given, "metrics.accuracy").verdict == verdict


@pytest.mark.parametrize(
    ("check", "verdict"), [("ok", "pass"), ("not tested (pickle)", "insufficient"), ("", "insufficient")]
)
def test_format_that_was_not_tested_is_insufficient(check: str, verdict: Verdict) -> None:
    found = result(committed(), inputs(format_check=check), "format", CANARY)
    assert (found.verdict, found.actual) == (verdict, check or "nobody tested it")


@pytest.mark.parametrize(("age", "verdict"), [(599, "insufficient"), (600, "pass"), (-5, "insufficient")])
def test_soak_time_is_counted_from_when_the_version_came_to_its_stage(age: float, verdict: Verdict) -> None:
    found = result(asking(soak_seconds=600), inputs(since=ago(age)), "soak")
    assert found.verdict == verdict
    assert found.required == "600 s in the stage before"
    assert found.actual == f"{max(0, int(age))} s in staging, since {ago(age)}"


def test_soak_time_that_is_not_over_says_when_to_come_back() -> None:
    found = result(asking(soak_seconds=7200), inputs(since=ago(3600)), "soak")
    assert found.next_step == (
        "after 2026-11-20T13:00:00+00:00: fleetcast promote hex8_2p 43 --stage production --dry-run"
    )


TWO = Approvals(count=2, expires_seconds=1000)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ((), "insufficient"),
        ((approval("bob"),), "insufficient"),
        ((approval("bob"), approval("carl")), "pass"),
        ((approval("bob"), approval("bob")), "insufficient"),
        ((approval("bob"), approval("")), "insufficient"),
        ((approval("bob"), approval("ann")), "insufficient"),
        ((approval("bob"), approval("carl", stage=CANARY)), "insufficient"),
        ((approval("bob"), approval("carl", age=500, lasts=400)), "insufficient"),
        ((approval("bob"), approval("carl", age=1000, lasts=5000)), "insufficient"),
        ((approval("bob"), approval("carl", age=999, lasts=5000)), "pass"),
    ],
    ids=[
        "nobody", "one", "two", "one twice", "one and nobody", "one and whoever asks", "for another stage",
        "ended", "too old", "just young enough",
    ],
)  # fmt: skip
def test_approvals_are_by_different_people_for_this_stage_and_still_hold(given: object, verdict: Verdict) -> None:
    found = result(asking(approvals=TWO), inputs(approvals=given), "approvals")
    assert found.verdict == verdict
    if verdict != "pass":
        assert found.next_step == "fleetcast approve hex8_2p 43 --stage production --reason TEXT"


def test_freeze_keeps_everything_out_and_says_who_until_when_and_how_to_lift_it() -> None:
    found = result(asking(), inputs(freezes={"hex8_2p": freeze(until="2026-11-21T00:00:00Z")}), "freeze")
    assert found.verdict == "fail"
    assert found.actual == "hex8_2p is frozen by eve until 2026-11-21T00:00:00Z: release week"
    assert found.next_step == "fleetcast unfreeze hex8_2p --reason TEXT"
    fleet = result(asking(), inputs(freezes={FLEET: freeze()}), "freeze")
    assert fleet.actual.startswith("all models are frozen by eve until somebody lifts it")
    assert fleet.next_step == "fleetcast unfreeze --all --reason TEXT"


def window(zone: str, begins: str = "12:00", ends: str = "13:00") -> ModelPolicy:
    return ModelPolicy(
        freeze=(FreezeWindow.model_validate({"days": ("fri",), "from": begins, "to": ends, "zone": zone}),)
    )


def test_freeze_window_follows_the_clock_of_its_zone() -> None:
    # Friday 12:00 UTC is 13:00 in Berlin, in November.
    assert result(window("UTC"), inputs(), "freeze").verdict == "fail"
    assert result(window("Europe/Berlin"), inputs(), "freeze").verdict == "pass"
    assert result(window("Europe/Berlin", "13:00", "14:00"), inputs(), "freeze").verdict == "fail"
    assert "fri 12:00-13:00 UTC" in result(window("UTC"), inputs(), "freeze").required


@pytest.mark.parametrize(
    ("verified", "wanting", "ratio", "verdict"),
    [
        (1, 3, 0.5, "insufficient"),
        (2, 3, 0.5, "pass"),
        (5, 10, 0.5, "pass"),
        (7, 10, 0.7, "pass"),
        (6, 10, 0.7, "insufficient"),
        (9, 10, 1.0, "insufficient"),
        (0, 0, 0.5, "insufficient"),
        (0, 5, 0.0, "pass"),
    ],
)
def test_quorum_is_rounded_up_and_nobody_is_no_quorum(
    verified: int, wanting: int, ratio: float, verdict: Verdict
) -> None:
    given = inputs(readiness=Readiness(verified=verified, wanting=wanting))
    assert result(ModelPolicy(quorum_ratio=ratio), given, "readiness").verdict == verdict


def test_readiness_is_not_asked_while_the_rollout_waits_for_it() -> None:
    assert not [each for each in judge(committed(), PRODUCTION, inputs()).results if each.name == "readiness"]


def test_external_decision_asks_for_freezes_and_nothing_else_of_the_version() -> None:
    policy = Policy.default().for_model("hex8_2p")
    judged = judge(policy, PRODUCTION, rated(100))
    assert judged.allowed
    assert not judged.rejects
    assert [(each.name, each.actual) for each in judged.results] == [
        ("external", "asked by ann"),
        ("freeze", "nothing is"),
    ]
    assert not judge(policy, PRODUCTION, inputs(freezes={FLEET: freeze()})).allowed


@pytest.mark.parametrize(
    "target", [StageName.ARCHIVED, StageName.REJECTED, StageName.QUARANTINED, StageName.DEVELOPMENT]
)
def test_way_down_has_no_gate_not_even_in_a_freeze(target: StageName) -> None:
    judged = judge(committed(), target, inputs(freezes={FLEET: freeze()}))
    assert judged.allowed
    assert judged.results == ()
    assert judged.summary == "no gate"


def test_stage_that_a_pipeline_leaves_out_is_refused() -> None:
    policy = ModelPolicy(pipeline=(StageName.DEVELOPMENT, PRODUCTION))
    found = result(policy, inputs(), "pipeline", CANARY)
    assert (found.verdict, found.required, found.actual) == ("fail", "one of development, production", "canary")


def test_refusal_in_one_line_names_failures_first_with_required_and_actual() -> None:
    policy = ModelPolicy(
        gates=Gates(production=StageGates(min_games=100, flags=("a", "b", "c"), max_calibration_error=0.1))
    )
    judged = judge(policy, PRODUCTION, inputs(facts=Facts(calibration_error=0.2)))
    assert judged.summary == (
        "5 of 6 gates do not pass: calibration_error fail: 0.2, as stated, required calibration_error at most 0.1; "
        "games insufficient: 0 games, required at least 100 games; flag.a insufficient: nobody set it, "
        "required a is true; and 2 more"
    )
    assert judged.next_step == "fleetcast evidence show hex8_2p 43"


def test_verdict_is_told_to_others_with_its_numbers() -> None:
    said = result(committed(), rated(1500), "elo").said()
    assert (said.gate, said.verdict, said.required) == ("elo", "fail", "Elo at least 1650")
    assert said.next_step
    assert NOW not in said.actual
