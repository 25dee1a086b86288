"""Exact binomial bounds against closed forms, exact sums and published values; the error of Elo ratings."""

import math
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.registry.gates import bounds

confidences = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.9999])


def exact_tail(wins: int, games: int, rate: Fraction) -> Fraction:
    """Chance of that many wins or more, in exact arithmetic."""
    return sum((math.comb(games, k) * rate**k * (1 - rate) ** (games - k) for k in range(wins, games + 1)), Fraction(0))


@pytest.mark.parametrize(
    ("wins", "games", "low", "high"),
    [
        # Two-sided 95 % intervals as tables print them: each side at 97.5 %.
        (0, 10, 0.0, 0.3085),
        (1, 10, 0.0025, 0.4450),
        (5, 10, 0.1871, 0.8129),
        (7, 10, 0.3475, 0.9333),
        (10, 10, 0.6915, 1.0),
        (50, 100, 0.3983, 0.6017),
        (90, 100, 0.8238, 0.9510),
    ],
)
def test_bounds_are_those_of_published_tables(wins: int, games: int, low: float, high: float) -> None:
    assert bounds.lower_bound(wins, games, 0.975) == pytest.approx(low, abs=6e-5)
    assert bounds.upper_bound(wins, games, 0.975) == pytest.approx(high, abs=6e-5)


@given(share=st.sampled_from([0.0001, 0.01, 0.05, 0.2, 0.5, 0.9]), a=st.integers(1, 5000), b=st.integers(1, 5000))
def test_quantile_is_where_the_share_is(share: float, a: int, b: int) -> None:
    assert bounds.beta_share(bounds.beta_quantile(share, a, b), a, b) == pytest.approx(share, rel=1e-7)


@given(games=st.integers(1, 100_000), confidence=confidences)
def test_games_that_were_all_won_have_the_bound_of_the_closed_form(games: int, confidence: float) -> None:
    assert bounds.lower_bound(games, games, confidence) == pytest.approx((1 - confidence) ** (1 / games), abs=1.1e-6)
    assert bounds.lower_bound(0, games, confidence) == 0
    assert bounds.upper_bound(games, games, confidence) == 1


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))), st.integers(1, 999))
def test_chance_of_wins_is_the_exact_binomial_sum(counts: tuple[int, int], thousandths: int) -> None:
    wins, games = counts
    exact = float(exact_tail(wins, games, Fraction(thousandths, 1000)))
    assert bounds.chance_of_at_least(wins, games, thousandths / 1000) == pytest.approx(exact, rel=1e-9, abs=1e-13)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), confidences)
def test_lower_bound_lies_below_the_upper_one_and_both_around_the_rate(
    counts: tuple[int, int], confidence: float
) -> None:
    wins, games = counts
    assert bounds.lower_bound(wins, games, confidence) <= wins / games <= bounds.upper_bound(wins, games, confidence)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), confidences)
def test_one_more_win_never_lowers_a_bound_and_one_more_loss_never_raises_it(
    wins: int, losses: int, draws: int, confidence: float
) -> None:
    score, games = wins + draws / 2, wins + losses + draws
    if not games:
        return
    low = bounds.lower_bound(score, games, confidence)
    high = bounds.upper_bound(score, games, confidence)
    assert bounds.lower_bound(score + 1, games + 1, confidence) >= low
    assert bounds.upper_bound(score + 1, games + 1, confidence) >= high
    assert bounds.lower_bound(score, games + 1, confidence) <= low
    assert bounds.upper_bound(score, games + 1, confidence) <= high


def test_a_billion_games_are_judged_at_once_and_as_carefully_as_the_most_that_count() -> None:
    assert bounds.lower_bound(9 * 10**8, 10**9, 0.95) == bounds.lower_bound(90_000, 100_000, 0.95)
    assert bounds.lower_bound(2**53, 2**53, 0.95) == pytest.approx(0.05 ** (1 / 100_000), abs=1e-6)


@pytest.mark.parametrize(("won", "drawn"), [(0.5, 0.0), (0.4, 0.2), (0.25, 0.5), (0.0, 1.0), (0.1, 0.7)])
@pytest.mark.parametrize("games", [5, 20, 40])
def test_with_draws_the_bound_errs_at_most_as_often_as_its_confidence_says(
    won: float, drawn: float, games: int
) -> None:
    """All results that can be: how often does the lower bound lie above the true score?"""
    true, wrong = won + drawn / 2, 0.0
    for wins, draws in product(range(games + 1), repeat=2):
        if wins + draws <= games and bounds.lower_bound(wins + draws / 2, games, 0.95) > true:
            ways = math.comb(games, wins) * math.comb(games - wins, draws)
            wrong += ways * won**wins * drawn**draws * (1 - won - drawn) ** (games - wins - draws)
    assert wrong <= 0.05


def test_a_bound_that_counted_half_points_as_if_they_were_counts_of_more_games_would_err_too_often() -> None:
    """The broken variant: a draw as a win and a loss doubles what the games seem to say."""
    games, wrong = 40, 0.0
    for wins in range(games + 1):
        if bounds.lower_bound(2 * wins, 2 * games, 0.95) > 0.5:
            wrong += math.comb(games, wins) * 0.5**games
    assert wrong > 0.05


@pytest.mark.parametrize(("games", "error"), [(30, 124), (50, 96), (100, 68), (400, 34)])
def test_elo_error_is_that_of_the_number_of_games(games: int, error: int) -> None:
    assert bounds.elo_error(games) == pytest.approx(error, abs=0.5)


def test_elo_bounds_at_97_5_percent_are_the_stated_half_width_away() -> None:
    assert bounds.elo_bounds(1700, 68, 0.975) == pytest.approx((1632, 1768), abs=0.011)
    assert bounds.elo_bounds(1700, 68, 0.5) == pytest.approx((1700, 1700), abs=0.011)


@given(
    st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
    st.floats(0.05, 0.95),
    st.sampled_from([0.8, 0.95]),
)
def test_games_to_pass_are_enough_when_the_wins_are_rounded_up(
    counts: tuple[int, int], required: float, confidence: float
) -> None:
    wins, games = counts
    needed = bounds.games_to_pass(wins, games, required, confidence)
    if needed is not None:
        assert wins / games > required
        assert bounds.passes(math.ceil(wins / games * needed), needed, required, confidence)


@pytest.mark.parametrize("elo", [1650.0, 1649.0, math.nextafter(1650.0, 2000.0)])
def test_rating_that_is_not_above_what_is_required_is_not_promised_to_pass(elo: float) -> None:
    assert bounds.elo_games_to_pass(elo, 68, 100, 1650, 0.95) is None
    assert bounds.elo_games_to_pass(1690, 68, 100, 1650, 0.95) == pytest.approx(204, abs=1)


def test_tiny_difference_overflows_nothing() -> None:
    assert bounds.elo_games_to_pass(5e-324, 500, 100, 0, 0.95) is None
