"""Drift: few requests without any must not look like it, and many with it must."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.daemons.monitor.budget import MINUTES_A_YEAR
from fleetcast.daemons.monitor.drift import DriftWatch, divergence, vote
from fleetcast.events.incidents import Verdict
from fleetcast.events.performance import DriftInput

BINS = 30
REFERENCE = tuple(2000 for _ in range(BINS))
FALSE_ALARM = 0.1 / MINUTES_A_YEAR


def drawn(size: int, *, tilt: float = 0.0, seed: int = 1) -> tuple[int, ...]:
    """Requests over the bins; *tilt*: how much more often the upper bins are."""
    chance = random.Random(seed)
    weights = [1 + tilt * 2 * place / (BINS - 1) for place in range(BINS)]
    counts = [0] * BINS
    for place in chance.choices(range(BINS), weights, k=size):
        counts[place] += 1
    return tuple(counts)


def shifted(size: int) -> tuple[int, ...]:
    """Half of the bins are empty now: a divergence of 0.69."""
    return tuple(size // 15 if place < 15 else 0 for place in range(BINS))


def plain_kl(counts: Sequence[int]) -> float:
    import math

    n, m = sum(counts), sum(REFERENCE)
    filled = [(count / n or 1e-4, ref / m) for count, ref in zip(counts, REFERENCE, strict=True)]
    return sum(p * math.log(p / q) for p, q in filled)


@pytest.mark.parametrize("size", [20, 50, 100, 200, 1000])
def test_no_drift_is_none_at_any_size_where_the_plain_score_says_there_is(size: int) -> None:
    samples = [drawn(size, seed=seed) for seed in range(200)]
    assert not [s for s in samples if divergence(s, REFERENCE).lower(FALSE_ALARM) > 0.3]
    plain = sum(plain_kl(s) > 0.3 for s in samples)
    assert plain > 100 if size <= 50 else plain < 60, "the broken rule: the sample size alone makes the score"


def test_what_the_sample_size_makes_is_taken_off() -> None:
    found = [divergence(drawn(100, seed=seed), REFERENCE).kl for seed in range(300)]
    assert sum(found) / len(found) < 0.05
    plain = [plain_kl(drawn(100, seed=seed)) for seed in range(300)]
    assert sum(plain) / len(plain) > 0.12


def test_half_of_the_bins_gone_is_drift_once_there_are_enough_requests() -> None:
    assert divergence(shifted(1500), REFERENCE).lower(FALSE_ALARM) > 0.3
    assert divergence(shifted(1500), REFERENCE).kl == pytest.approx(0.69, abs=0.05)
    assert divergence(shifted(45), REFERENCE).lower(FALSE_ALARM) < 0.3


@settings(deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=2, max_size=40), st.data())
def test_divergence_of_whatever_counts_is_a_number(counts: list[int], data: st.DataObject) -> None:
    reference = data.draw(st.lists(st.integers(0, 5000), min_size=len(counts), max_size=len(counts)))
    if not sum(reference):
        return
    found = divergence(counts, reference)
    assert found.kl >= 0
    assert found.psi >= 0
    assert found.size == sum(counts)


def watched(*, per_year: float = 0.1) -> DriftWatch:
    return DriftWatch(0.3, healthy_ratio=0.8, per_year=per_year, window=10, clear_windows=2)


def feed(watch: DriftWatch, minutes: range, counts: tuple[int, ...]) -> None:
    for minute in minutes:
        watch.take(minute, {"amount": DriftInput(counts, REFERENCE)})
        watch.tick(minute + 1)


def test_drift_is_a_breach_until_the_inputs_are_back_for_some_windows() -> None:
    watch, verdicts = watched(), []
    feeds = ((range(10), drawn(600)), (range(10, 20), shifted(600)), (range(20, 35), drawn(600, seed=4)))
    for minutes, counts in (*feeds, (range(35, 60), drawn(600, seed=5))):
        feed(watch, minutes, counts)
        verdicts.append(watch.verdict)
    assert verdicts == [Verdict.OK, Verdict.BREACH, Verdict.BREACH, Verdict.OK]
    assert watch.worst is not None
    assert watch.worst[0] == "amount"


def test_another_reference_begins_anew_instead_of_adding_up_what_cannot_be_added() -> None:
    watch = watched()
    watch.take(0, {"amount": DriftInput((5, 5), (50, 50))})
    watch.take(0, {"amount": DriftInput((5, 5, 5), (50, 50, 50))})
    watch.tick(1)
    assert watch.worst is not None
    assert watch.worst[1].size == 15


def test_a_score_without_bins_is_a_vote_by_its_number_of_requests() -> None:
    assert vote(0.35, 1000, 0.3) == (1.0, 1.0)
    assert vote(0.35, 100, 0.3) == (0.5, 0.0), "100 requests make 0.145 by themselves"
    assert vote(0.5, 100, 0.3) == (0.5, 0.5)
    assert vote(9.0, 1, 0.3) == (0.005, 0.0)
