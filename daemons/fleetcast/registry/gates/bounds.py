"""What counts allow to be said: exact binomial bounds, and the error of an Elo rating.

All bounds are one-sided: at a confidence of 0.95 the true value lies below the lower bound in at most 5 of 100 cases.
They are cut to a fixed number of decimals, away from the value, so that the same inputs give the same numbers on every
machine.
"""

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Final

MOST_GAMES: Final = 100_000
"""More games are taken as this many at the same rate: at 0.95 a bound is then within 0.003 of it, and stays quick."""
ELO_PER_LOGIT: Final = 400 / math.log(10)
TWO_SIDED_95: Final = NormalDist().inv_cdf(0.975)
_TINY = 1e-300
_STEPS = 60
"""More than halving the unit interval down to the last bit takes; Newton's method takes about six."""
_CLOSE = 1e-14


@lru_cache(maxsize=4096)
def lower_bound(score: float, games: int, confidence: float) -> float:
    """Clopper-Pearson lower bound of a rate.

    Args:
        score: wins, plus half of the draws. A half counts as nothing here, and as one for the upper bound: games with
            draws scatter less than those without, so that the bound is on the safe side.
        games: at least 1.

    Source: Clopper and Pearson, Biometrika 26 (1934).
    """
    wins, played = _scaled(math.floor(score), games)
    if wins == 0:
        return 0.0
    return math.floor(beta_quantile(1 - confidence, wins, played - wins + 1) * 1e6) / 1e6


def upper_bound(score: float, games: int, confidence: float) -> float:
    """Clopper-Pearson upper bound of a rate; see `lower_bound`."""
    return round(1 - lower_bound(games - score, games, confidence), 6)


def passes(score: float, games: int, required: float, confidence: float) -> bool:
    """Whether the lower bound reaches *required*, without computing it."""
    wins, played = _scaled(math.floor(score), games)
    if required <= 0:
        return True
    return wins > 0 and chance_of_at_least(wins, played, required) <= 1 - confidence


def _scaled(wins: int, games: int) -> tuple[int, int]:
    return (wins, games) if games <= MOST_GAMES else (wins * MOST_GAMES // games, MOST_GAMES)


def games_to_pass(score: float, games: int, required: float, confidence: float) -> int | None:
    """About how many games in all would settle it, if the rate stays as it is; None: no number would.

    Wins are whole, so that a few games more may again be too few.
    """
    rate = score / games
    if rate <= required or not _settled(rate, MOST_GAMES, required, confidence):
        return None
    low, high = min(games, MOST_GAMES - 1), MOST_GAMES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _settled(rate, middle, required, confidence) else (middle, high)
    return high


def _settled(rate: float, games: int, required: float, confidence: float) -> bool:
    """Whether a bound at *required* is reached, for a number of wins that need not be whole."""
    wins = rate * games
    return wins > 0 and beta_share(required, wins, games - wins + 1) <= 1 - confidence


@lru_cache(maxsize=4096)
def chance_of_at_least(wins: int, games: int, rate: float) -> float:
    """Chance of *wins* or more in *games* games that are each won with chance *rate*."""
    if wins <= 0:
        return 1.0
    return 0.0 if wins > games else beta_share(rate, wins, games - wins + 1)


def beta_quantile(share: float, a: float, b: float) -> float:
    """The x at which `beta_share` is *share*, to 1e-14: Newton's method, halving where that leaves the interval."""
    low, high, mean = 0.0, 1.0, a / (a + b)
    near = mean + NormalDist().inv_cdf(share) * math.sqrt(mean * (1 - mean) / (a + b))
    x = near if 0 < near < 1 else mean
    for _ in range(_STEPS):
        beyond = beta_share(x, a, b) - share
        low, high = (low, x) if beyond > 0 else (x, high)
        slope = math.exp(_log_weight(x, a, b)) / (x * (1 - x))
        nearer = x - beyond / slope if slope > 0 else low
        if not low < nearer < high:
            nearer = (low + high) / 2
        if abs(nearer - x) < _CLOSE:
            return nearer
        x = nearer
    return x


def beta_share(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b), for a, b > 0. Source: DLMF 8.17.22, by Lentz's method."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        # The fraction converges quickly on this side only.
        return 1 - beta_share(1 - x, b, a)
    return math.exp(_log_weight(x, a, b)) / a / _fraction(x, a, b)


def _log_weight(x: float, a: float, b: float) -> float:
    """Logarithm of x^a (1-x)^b / B(a, b)."""
    return a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + …)) of DLMF 8.17.22."""
    value, numerator, denominator = 1.0, 1.0, 0.0
    for n in range(1, 100_000):
        m = n // 2
        if n % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        numerator = 1 + d / numerator or _TINY
        denominator = 1 / (1 + d * denominator or _TINY)
        change = numerator * denominator
        value *= change
        if abs(change - 1) < 1e-15:
            break
    return value


def elo_error(games: int) -> float:
    """Half width of the 95 % confidence interval of an Elo rating from *games* games, in Elo points.

    For opponents of the same strength and games without draws: 681 / sqrt(games), so 96 for 50 games and 68 for 100.
    Opponents much weaker or stronger tell less; whoever knows the true error should state it.
    """
    return TWO_SIDED_95 * ELO_PER_LOGIT * 2 / math.sqrt(games)


def elo_bounds(elo: float, error: float, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of a rating with this 95 % half width, in Elo points."""
    reach = NormalDist().inv_cdf(confidence) * error / TWO_SIDED_95
    return math.floor((elo - reach) * 100) / 100, math.ceil((elo + reach) * 100) / 100


def elo_games_to_pass(elo: float, error: float, games: int, required: float, confidence: float) -> int | None:
    """About how many games in all would settle it, if the rating stays as it is; None: no number would."""
    if elo <= required:
        return None
    reach = NormalDist().inv_cdf(confidence) * error / TWO_SIDED_95
    times = reach / (elo - required)
    # Ten thousand times as near as the rating is known: no number of games tells these two apart.
    return math.ceil(games * times**2) if times < 1e4 else None
