"""What a gate can tell apart: the chance that it passes a version of a given true strength.

Printed beside every gate, because a threshold alone hides it: at the least number of games, a version that is exactly
as good as required passes in 5 of 100 cases at a confidence of 0.95, not in 50.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Final

from fleetcast.events.lifecycle import StageName
from fleetcast.registry.gates import bounds
from fleetcast.registry.gates.policy import UPWARD, ModelPolicy

SHIFTS: Final = (-20, 0, 20)
"""Elo points below and above what is required."""
MOST_ELO: Final = 2000
"""Elo above what is required at which nothing more is looked for."""
LIKELY: Final = 0.8
"""Chance that counts as likely when it is said how much stronger a version must be."""

Chance = Callable[[float], float]
"""Chance to pass, by Elo points above what is required."""


@dataclass(frozen=True, slots=True)
class CurveRow:
    """One gate at its least number of games.

    Attributes:
        requirement: for people.
        games: that the curve is for.
        chances: to pass, for a version that is 20 Elo weaker than required, just as strong, 20 Elo stronger.
        likely_at: Elo above what is required at which it passes in 80 of 100 cases.
    """

    stage: StageName
    gate: str
    requirement: str
    games: int
    confidence: float
    chances: tuple[float, ...]
    likely_at: float


def operating_curve(policy: ModelPolicy, games: int | None = None) -> tuple[CurveRow, ...]:
    """The curves of all gates of a policy that measure strength.

    Args:
        games: to compute them for; None: the stage's least number of games, or 100 where it asks for none. Win rates
            are taken as if all games were against that opponent.
    """
    return tuple(row for stage in UPWARD if stage in policy.pipeline for row in _rows(policy, stage, games))


def _rows(policy: ModelPolicy, stage: StageName, games: int | None) -> Iterator[CurveRow]:
    asked = policy.gates.to(stage)
    played = games or asked.min_games or 100
    for opponent, rate in sorted(asked.win_rates.items()):
        chance = partial(chance_of_win_rate, required=rate, games=played, confidence=policy.confidence)
        yield _row(stage, f"win_rate.{opponent}", f">= {rate:g}", played, policy.confidence, chance)
    error = bounds.elo_error(played)
    ratings = [("elo", asked.min_elo, error, ">="), ("elo_delta", asked.elo_delta_above, error * math.sqrt(2), ">")]
    for name, limit, width, sign in ratings:
        if limit is not None:
            chance = partial(chance_of_elo, error=width, confidence=policy.confidence)
            yield _row(stage, name, f"{sign} {limit:g}", played, policy.confidence, chance)


def _row(stage: StageName, gate: str, requirement: str, games: int, confidence: float, chance: Chance) -> CurveRow:
    chances = tuple(chance(shift) for shift in SHIFTS)
    return CurveRow(stage, gate, requirement, games, confidence, chances, _likely(chance))


def chance_of_win_rate(shift: float, *, required: float, games: int, confidence: float) -> float:
    """Chance that a version passes a win-rate gate whose true strength lies *shift* Elo above the required rate.

    Exact binomial, without draws: draws make games scatter less.
    """
    least = fewest_wins(required, games, confidence)
    return bounds.chance_of_at_least(least, games, shifted(required, shift))


def fewest_wins(required: float, games: int, confidence: float) -> int:
    """Wins that pass a win-rate gate in this many games; one more than there are games: none do."""
    low, high = 0, games + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if bounds.passes(middle, games, required, confidence) else (middle + 1, high)
    return low


def shifted(rate: float, elo: float) -> float:
    """A win rate, moved by Elo points: 0.9 is 382 points above the opponent, and 20 less are 0.889."""
    if not 0 < rate < 1:
        return rate
    return 1 / (1 + (1 - rate) / rate * math.exp(-elo / bounds.ELO_PER_LOGIT))


def chance_of_elo(shift: float, *, error: float, confidence: float) -> float:
    """Chance that a version passes an Elo gate whose true rating lies *shift* points above what is required; the rating
    that it is given scatters normally with the 95 % half width *error*."""
    normal = NormalDist()
    return normal.cdf(shift * bounds.TWO_SIDED_95 / error - normal.inv_cdf(confidence))


def _likely(chance: Chance) -> float:
    """Elo above what is required at which the chance to pass is 0.8, to one point; `MOST_ELO`: not below that."""
    low, high = 0.0, float(MOST_ELO)
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (low, middle) if chance(middle) >= LIKELY else (middle, high)
    return round(high)
