"""Gates on how strong a version is: games, win rates, Elo. Judged on bounds, so that few games are `insufficient`."""

from collections.abc import Iterator
from dataclasses import dataclass

from fleetcast.events.lifecycle import Evaluation, Rating
from fleetcast.registry.gates import bounds, steps
from fleetcast.registry.gates.inputs import GateInputs
from fleetcast.registry.gates.policy import ModelPolicy, RejectRule, StageGates
from fleetcast.registry.gates.results import GateResult, Verdict


@dataclass(frozen=True, slots=True)
class Measured:
    """A rating with its 95 % half width.

    Attributes:
        stated: the error was given; otherwise it is estimated from the number of games.
    """

    elo: float
    error: float
    games: int
    stated: bool

    def __str__(self) -> str:
        origin = f"{self.games} games" if self.stated else f"estimated from {self.games} games"
        return f"{self.elo:.6g} ± {self.error:.3g} ({origin})"


def strength_gates(policy: ModelPolicy, asked: StageGates, inputs: GateInputs) -> Iterator[GateResult]:
    """The gates on strength that a stage asks for."""
    if asked.min_games:
        yield games_gate(asked.min_games, inputs)
    if asked.elo_delta_above is not None:
        yield delta_gate(asked.elo_delta_above, policy.confidence, inputs)
    if asked.min_elo is not None:
        yield elo_gate(asked.min_elo, policy.confidence, inputs)
    # By name: a record is kept with sorted keys, and is judged in its order.
    for opponent, rate in sorted(asked.win_rates.items()):
        yield win_rate_gate(opponent, rate, policy.confidence, inputs)


def games_gate(required: int, inputs: GateInputs) -> GateResult:
    """Enough games; too few say nothing about the version, so that this gate never fails."""
    enough = inputs.games >= required
    return GateResult(
        name="games",
        verdict="pass" if enough else "insufficient",
        required=f"at least {required} games",
        actual=f"{inputs.games} games",
        next_step="" if enough else f"{required - inputs.games} more games, then: {steps.play(inputs, 'OPPONENT')}",
    )


def win_rate_gate(opponent: str, required: float, confidence: float, inputs: GateInputs) -> GateResult:
    """The lower bound of the win rate against an opponent reaches what is required."""
    played = against(opponent, inputs)
    name, wanted = f"win_rate.{opponent}", f"win rate vs {opponent} at least {required:g}"
    if not played.games:
        step = steps.play(inputs, opponent)
        return GateResult(name=name, verdict="insufficient", required=wanted, actual="no games", next_step=step)
    score = played.wins + played.draws / 2
    low = bounds.lower_bound(score, played.games, confidence)
    high = bounds.upper_bound(score, played.games, confidence)
    verdict = _verdict(low >= required, high < required)
    counts = f"{played.wins} won, {played.losses} lost, {played.draws} drawn"
    return GateResult(
        name=name,
        verdict=verdict,
        required=wanted,
        actual=f"{score / played.games:.4g} in {played.games} games ({counts}), so {_between(low, high, confidence)}",
        bound=high if verdict == "fail" else low,
        confidence=confidence,
        next_step=_more_games(
            verdict,
            bounds.games_to_pass(score, played.games, required, confidence) if verdict == "insufficient" else None,
            played.games,
            steps.play(inputs, opponent),
            steps.show_evidence(inputs),
        ),
    )


def against(opponent: str, inputs: GateInputs) -> Evaluation:
    """The games against an opponent, in whatever case it was written."""
    reports = [
        each for name, each in (inputs.facts.evaluations or {}).items() if name.casefold() == opponent.casefold()
    ]
    return Evaluation(
        wins=sum(each.wins for each in reports),
        losses=sum(each.losses for each in reports),
        draws=sum(each.draws for each in reports),
    )


def elo_gate(required: float, confidence: float, inputs: GateInputs) -> GateResult:
    """The lower bound of the rating reaches what is required."""
    rating = measured(inputs.facts.rating)
    wanted = f"Elo at least {required:g}"
    if rating is None:
        return _no_rating("elo", wanted, "no rating", inputs)
    low, high = bounds.elo_bounds(rating.elo, rating.error, confidence)
    verdict = _verdict(low >= required, high < required)
    return _elo_result("elo", wanted, rating, (low, high), verdict, required, confidence, inputs)


def delta_gate(above: float, confidence: float, inputs: GateInputs) -> GateResult:
    """The version is stronger than production by more than *above*, by the lower bound of the difference."""
    wanted = f"Elo lead over production above {above:g}"
    lead = lead_over_production(inputs)
    if lead is None and inputs.production is None:
        alone = "no version is production: nothing to compare with"
        return GateResult(name="elo_delta", verdict="pass", required=wanted, actual=alone)
    if lead is None:
        return _no_rating("elo_delta", wanted, "no delta, and no ratings to compare", inputs)
    low, high = bounds.elo_bounds(lead.elo, lead.error, confidence)
    verdict = _verdict(low > above, high <= above)
    return _elo_result("elo_delta", wanted, lead, (low, high), verdict, above, confidence, inputs)


def lead_over_production(inputs: GateInputs) -> Measured | None:
    """The stated difference, or else that of the two ratings, whose errors add up as squares."""
    rating = inputs.facts.rating
    own = measured(rating)
    if rating is None or own is None:
        return None
    other = measured(inputs.production.rating) if inputs.production else None
    if rating.delta is not None:
        # Where nobody states its error, the production version is taken to be known no better than this one.
        error = rating.delta_error or _together(own.error, other.error if other else own.error)
        return Measured(rating.delta, error, own.games, rating.delta_error is not None)
    if other is None:
        return None
    return Measured(own.elo - other.elo, _together(own.error, other.error), min(own.games, other.games), stated=False)


def measured(rating: Rating | None) -> Measured | None:
    """A rating with an error; None: there is none, or it rests on no games."""
    if rating is None or not rating.games:
        return None
    return Measured(rating.elo, rating.error or bounds.elo_error(rating.games), rating.games, rating.error is not None)


def rejection(rule: RejectRule | None, confidence: float, inputs: GateInputs) -> GateResult | None:
    """The reject rule, where it fires: enough games, and even the upper bound of the rating is below the limit."""
    rating = measured(inputs.facts.rating)
    if rule is None or rating is None or rating.games < rule.min_games:
        return None
    low, high = bounds.elo_bounds(rating.elo, rating.error, confidence)
    if high >= rule.elo_below:
        return None
    return GateResult(
        name="reject",
        verdict="fail",
        required=f"Elo not below {rule.elo_below:g} after {rule.min_games} games",
        actual=f"{rating}, so {_between(low, high, confidence)}",
        bound=high,
        confidence=confidence,
        next_step=steps.show_evidence(inputs),
    )


def _elo_result(
    name: str,
    wanted: str,
    rating: Measured,
    interval: tuple[float, float],
    verdict: Verdict,
    required: float,
    confidence: float,
    inputs: GateInputs,
) -> GateResult:
    needed = bounds.elo_games_to_pass(rating.elo, rating.error, rating.games, required, confidence)
    return GateResult(
        name=name,
        verdict=verdict,
        required=wanted,
        actual=f"{rating}, so {_between(*interval, confidence)}",
        bound=interval[verdict == "fail"],
        confidence=confidence,
        next_step=_more_games(verdict, needed, rating.games, steps.rate(inputs), steps.show_evidence(inputs)),
    )


def _no_rating(name: str, wanted: str, actual: str, inputs: GateInputs) -> GateResult:
    return GateResult(name=name, verdict="insufficient", required=wanted, actual=actual, next_step=steps.rate(inputs))


def _more_games(verdict: Verdict, needed: int | None, played: int, report: str, look: str) -> str:
    if verdict == "pass":
        return ""
    if verdict == "fail":
        return f"the games contradict it: train on, and promote a stronger version; {look}"
    if needed is None or needed <= played:
        return f"more games pass it only with a better result than this one; then: {report}"
    return f"about {needed - played} more games with the same result, then: {report}"


def _verdict(supported: bool, contradicted: bool) -> Verdict:
    if supported:
        return "pass"
    return "fail" if contradicted else "insufficient"


def _between(low: float, high: float, confidence: float) -> str:
    return f"at least {low:.6g} and at most {high:.6g}, each at {confidence * 100:.4g} %"


def _together(one: float, other: float) -> float:
    return float((one * one + other * other) ** 0.5)
