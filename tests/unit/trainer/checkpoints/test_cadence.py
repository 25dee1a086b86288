"""How often a run should save."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from fleetcast.daemons.trainer.checkpoints.cadence import Advice, advise, daly, mtbf, save_cost, young
from fleetcast.events.state import Cause
from fleetcast.events.training import Attempt, CheckpointRecord, TrainingRunState

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HOUR = 3600.0


def overhead(interval: float, save: float, failures: float, restart: float, *, work: float = 400 * HOUR) -> float:
    """Time over the ideal of a job that works and saves by turns, and goes back to its last save at every failure."""
    draw = random.Random(7).expovariate
    done = time = 0.0
    next_failure = draw(1 / failures)
    while done < work:
        turn = min(interval, work - done) + save
        if time + turn <= next_failure:
            time, done = time + turn, done + turn - save
        else:
            time = next_failure + restart
            next_failure = time + draw(1 / failures)
    return time / work - 1


@pytest.mark.parametrize(("save", "restart"), [(5.0, 180.0), (30.0, 180.0), (120.0, 600.0)])
def test_the_advised_interval_loses_less_than_a_third_or_thrice_of_it(save: float, restart: float) -> None:
    best = daly(save, 4 * HOUR)
    at = overhead(best, save, 4 * HOUR, restart)
    assert at < overhead(best / 3, save, 4 * HOUR, restart)
    assert at < overhead(best * 3, save, 4 * HOUR, restart)


def test_young_of_the_textbook() -> None:
    assert young(5, 4 * HOUR) == pytest.approx(379, abs=1)
    assert young(30, 4 * HOUR) == pytest.approx(930, abs=1)
    assert daly(30, 4 * HOUR) < young(30, 4 * HOUR)
    assert daly(3, 1) == 1


def test_limit_on_lost_work_holds_with_the_save_itself() -> None:
    advice = advise(20.0, 24 * HOUR, 600.0)
    assert advice.bound_by == "limit"
    assert advice.seconds + advice.save_seconds == 600.0
    assert advise(2.0, HOUR, 600.0).bound_by == "failures"


def test_saves_that_outlast_the_limit_are_said_and_not_piled_up() -> None:
    advice = advise(700.0, 24 * HOUR, 600.0)
    assert (advice.bound_by, advice.seconds) == ("save", 700.0)


def test_unknown_save_cost_is_assumed_and_said() -> None:
    advice = advise(None, 24 * HOUR, 600.0)
    assert isinstance(advice, Advice)
    assert not advice.measured
    assert 0 < advice.seconds < 600


def run(*attempts: tuple[str | None, float]) -> TrainingRunState:
    made = tuple(
        Attempt(
            claim=n + 1,
            node="n1",
            started_at=(NOW - timedelta(hours=hours)).isoformat(),
            ended_at=NOW.isoformat() if outcome else None,
            outcome=outcome,
        )
        for n, (outcome, hours) in enumerate(attempts)
    )
    cause = Cause(event="e", sequence=1, by="t", correlation="c")
    return TrainingRunState(
        run="r", lane="l", model="m", attempts=made, created_at=NOW.isoformat(), at=NOW.isoformat(), cause=cause
    )


def test_failures_of_nodes_shorten_the_time_between_them_and_bad_code_does_not() -> None:
    assert mtbf([], NOW) == 24 * HOUR
    assert mtbf([run(("code", 24.0))], NOW) == 48 * HOUR
    assert mtbf([run(("lost", 12.0), ("reclaimed", 12.0))], NOW) == 16 * HOUR


def test_save_cost_is_the_median_of_the_newest() -> None:
    def saved(seconds: float | None) -> CheckpointRecord:
        return CheckpointRecord(path="/c", node="n1", at=NOW.isoformat(), save_seconds=seconds)

    assert save_cost([]) is None
    assert save_cost([saved(None), saved(3.0)]) == 3.0
    assert save_cost([saved(s) for s in (2.0, 90.0, 2.0, 4.0, 4.0, 1000.0, 1000.0)]) == 4.0
