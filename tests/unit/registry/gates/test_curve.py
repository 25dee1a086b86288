"""What a gate can tell apart: exact for win rates, normal for Elo, and as the gates then really decide."""

import math

import pytest
from tests.unit.registry.gates.builders import COMMITTED, asking, committed, games, result

from fleetcast.events.lifecycle import StageName
from fleetcast.registry.gates import bounds
from fleetcast.registry.gates.curve import chance_of_elo, chance_of_win_rate, fewest_wins, operating_curve, shifted
from fleetcast.registry.gates.policy import Gates, ModelPolicy, StageGates
from fleetcast.registry.gates.shown import curve_rows


def test_committed_file_has_a_curve_for_every_gate_that_measures() -> None:
    rows = {(row.stage.value, row.gate, row.games): row for row in operating_curve(committed())}
    assert set(rows) == {
        ("staging", "win_rate.random", 50),
        ("staging", "elo_delta", 50),
        ("production", "win_rate.random", 100),
        ("production", "win_rate.heuristic", 100),
        ("production", "elo", 100),
    }
    for row in rows.values():
        assert row.chances == tuple(sorted(row.chances))
        assert row.chances[1] <= 0.0501


def test_version_exactly_as_good_as_required_passes_as_seldom_as_the_confidence_says() -> None:
    for required in (0.5, 0.6, 0.85, 0.9):
        for played in (30, 50, 100, 400):
            assert chance_of_win_rate(0, required=required, games=played, confidence=0.95) <= 0.05
    assert chance_of_elo(0, error=68, confidence=0.95) == pytest.approx(0.05)


@pytest.mark.parametrize(("played", "chance"), [(30, 0.18), (50, 0.10), (100, 0.028)])
def test_comparing_the_rate_itself_would_pass_a_coin_as_often_as_was_measured(played: int, chance: float) -> None:
    """The broken variant: 60 % in 30 games, without a bound, lets an even player pass in 18 of 100 cases."""
    naive = bounds.chance_of_at_least(math.ceil(0.6 * played), played, 0.5)
    assert naive == pytest.approx(chance, abs=0.005)
    assert chance_of_win_rate(-70.4, required=0.6, games=played, confidence=0.95) < 0.005


@pytest.mark.parametrize(("required", "played"), [(0.85, 50), (0.9, 100), (0.6, 100), (0.5, 7)])
def test_fewest_wins_are_those_at_which_the_gate_begins_to_pass(required: float, played: int) -> None:
    least = fewest_wins(required, played, 0.95)
    policy = asking(win_rates={"a": required})
    assert result(policy, games("a", least, played - least), "win_rate.a").verdict == "pass"
    assert result(policy, games("a", least - 1, played - least + 1), "win_rate.a").verdict != "pass"


def test_few_games_pass_nobody() -> None:
    assert fewest_wins(0.9, 20, 0.95) == 21
    assert chance_of_win_rate(500, required=0.9, games=20, confidence=0.95) == 0


@pytest.mark.parametrize(
    ("rate", "elo", "moved"), [(0.5, 0, 0.5), (0.5, 400, 10 / 11), (0.9, -20, 0.8891), (0.0, 50, 0)]
)
def test_win_rate_moves_with_elo_by_the_logistic_curve(rate: float, elo: float, moved: float) -> None:
    assert shifted(rate, elo) == pytest.approx(moved, abs=1e-4)


def test_chance_is_the_sum_over_all_results_that_pass() -> None:
    required, played = 0.6, 60
    policy, true = asking(win_rates={"a": required}), shifted(required, 20)
    passing = [
        wins
        for wins in range(played + 1)
        if result(policy, games("a", wins, played - wins), "win_rate.a").verdict == "pass"
    ]
    summed = sum(math.comb(played, wins) * true**wins * (1 - true) ** (played - wins) for wins in passing)
    assert chance_of_win_rate(20, required=required, games=played, confidence=0.95) == pytest.approx(summed, rel=1e-9)


def test_more_games_tell_more_apart() -> None:
    policy = asking(win_rates={"a": 0.6}, min_elo=1650.0)
    for few, many in zip(operating_curve(policy, 100), operating_curve(policy, 1000), strict=True):
        assert many.chances[2] > few.chances[2]
        assert many.likely_at < few.likely_at
    elo = operating_curve(policy, 100)[1]
    # 68 Elo at 97.5 %: (1.645 + 0.842) * 34.7 = 86.4
    assert elo.likely_at == 86


def test_stages_without_measuring_gates_have_no_curve() -> None:
    assert operating_curve(ModelPolicy()) == ()
    left_out = ModelPolicy(pipeline=(StageName.DEVELOPMENT, StageName.PRODUCTION))
    assert operating_curve(left_out) == ()
    assert {row.stage for row in operating_curve(ModelPolicy(gates=Gates(canary=StageGates(min_elo=1.0))))} == {
        "canary"
    }


def test_curves_in_the_documentation_are_those_of_the_committed_file() -> None:
    text = " ".join((COMMITTED.parents[1] / "docs" / "gates.md").read_text().split())
    for row in curve_rows(operating_curve(committed())):
        assert " ".join(row) in text


def test_looking_again_after_every_ten_games_lets_more_through_as_the_documentation_says() -> None:
    assert chance_of_ever_passing(0.6, 0.95) == pytest.approx(0.215, abs=0.001)
    assert chance_of_ever_passing(shifted(0.6, -20), 0.95) == pytest.approx(0.033, abs=0.001)
    assert chance_of_ever_passing(0.6, 0.99) == pytest.approx(0.060, abs=0.001)
    assert chance_of_ever_passing(shifted(0.6, -20), 0.99) == pytest.approx(0.005, abs=0.001)


def chance_of_ever_passing(true: float, confidence: float) -> float:
    """Exact, for a gate of 0.6 that is judged after 100, 110, … 1000 games until it passes."""
    undecided, passed = {0: 1.0}, 0.0
    for game in range(1, 1001):
        after: dict[int, float] = {}
        for wins, chance in undecided.items():
            after[wins] = after.get(wins, 0.0) + chance * (1 - true)
            after[wins + 1] = after.get(wins + 1, 0.0) + chance * true
        undecided = {wins: chance for wins, chance in after.items() if chance > 1e-12}
        if game >= 100 and game % 10 == 0:
            least = fewest_wins(0.6, game, confidence)
            passed += sum(chance for wins, chance in undecided.items() if wins >= least)
            undecided = {wins: chance for wins, chance in undecided.items() if wins < least}
    return passed
