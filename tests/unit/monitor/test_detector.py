"""Budget and detector: what chance may do in a year, how soon evidence is enough, and how a breach ends."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.daemons.monitor.budget import MINUTES_A_YEAR, Plan, martingale_exponent, plan
from fleetcast.daemons.monitor.detector import Detector, Tally, divergence
from fleetcast.events.incidents import Verdict
from fleetcast.registry.gates.bounds import chance_of_at_least


def planned(limit: float = 0.05, per_year: float = 0.05, ratio: float = 0.8, window: int = 10) -> Plan:
    made = plan(limit, ratio, per_year, window)
    assert made is not None
    return made


def fed(detector: Detector, rate: float, per_minute: int, minutes: int, *, start: int = 0, seed: int = 3) -> int | None:
    """Serve; the second at which the verdict became breach."""
    chance = random.Random(seed)
    for second in range(60 * start, 60 * (start + minutes), 10):
        requests = per_minute // 6
        detector.take(float(second), requests, sum(chance.random() < rate for _ in range(requests)))
        if detector.verdict is Verdict.BREACH:
            return second
    return None


# -- budget


@settings(max_examples=40)
@given(
    st.floats(0.001, 0.9),
    st.sampled_from([0.5, 0.8, 0.95]),
    st.floats(1e-4, 100),
)
def test_thresholds_spend_no_more_than_the_budget(limit: float, ratio: float, per_year: float) -> None:
    made = planned(limit, per_year, ratio)
    slow = 0.0
    for each in made.alternatives:
        # The power of the likelihood ratio is a supermartingale for every healthy rate.
        for healthy in (made.healthy, made.healthy / 2, made.healthy / 100):
            mean = healthy * math.exp(each.theta * each.bad) + (1 - healthy) * math.exp(each.theta * each.good)
            assert mean <= 1 + 1e-9
        slow += MINUTES_A_YEAR * math.exp(-each.theta * each.threshold)
    fast = made.alpha * MINUTES_A_YEAR * 6 * len(made.windows)
    if all(each.threshold > 1 for each in made.alternatives):
        assert slow + fast == pytest.approx(per_year, rel=1e-6)


def test_a_threshold_of_the_limit_itself_spends_more_than_the_healthy_model_has() -> None:
    """The exponent is what the budget buys: taken as 1 where the model is healthy, evidence would cost more."""
    made = planned()
    assert all(each.theta > 1.1 for each in made.alternatives)
    assert made.at_limit_per_year > made.per_year


def test_a_smaller_budget_asks_for_more_evidence() -> None:
    thresholds = [planned(per_year=budget).alternatives[1].threshold for budget in (1.0, 0.1, 0.01)]
    assert all(a < b for a, b in pairwise(thresholds))
    assert thresholds[2] - thresholds[1] == pytest.approx(math.log(10) / planned().alternatives[1].theta)


def test_a_limit_of_one_is_no_limit() -> None:
    assert plan(1.0, 0.8, 0.1, 10) is None


@settings(max_examples=40)
@given(st.floats(0.01, 0.5), st.floats(1.5, 20))
def test_the_exponent_is_a_root(limit: float, odds: float) -> None:
    raised = limit / (1 - limit) * odds
    rate = raised / (1 + raised)
    bad, good, healthy = math.log(rate / limit), math.log((1 - rate) / (1 - limit)), 0.8 * limit
    theta = martingale_exponent(healthy, bad, good)
    assert healthy * math.exp(theta * bad) + (1 - healthy) * math.exp(theta * good) == pytest.approx(1, abs=1e-6)


# -- finding


@pytest.mark.parametrize(("per_minute", "seconds"), [(18, 300), (198, 60), (1998, 20)])
def test_a_fifth_of_errors_is_found_in_time(per_minute: int, seconds: int) -> None:
    found = []
    for seed in range(15):
        detector = Detector(planned(), 3)
        assert fed(detector, 0.02, per_minute, 30, seed=seed) is None
        at = fed(detector, 0.20, per_minute, 60, start=30, seed=seed)
        assert at is not None
        found.append(at - 1800)
    assert sorted(found)[7] <= seconds


@pytest.mark.parametrize("per_minute", [6, 18, 198, 1998])
def test_a_healthy_model_is_left_alone_for_a_day_where_the_mean_is_not(per_minute: int) -> None:
    chance = random.Random(11)
    detector, mean = Detector(planned(), 3), []
    for second in range(0, 6 * 3600, 10):
        requests = per_minute // 6
        bad = sum(chance.random() < 0.04 for _ in range(requests))
        detector.take(float(second), requests, bad)
        mean.append(detector.last(10).share > 0.05)
    assert detector.verdict is not Verdict.BREACH
    if per_minute < 1000:
        assert any(mean), "the broken rule: the mean of ten minutes is over the limit by chance"


def test_one_error_of_two_requests_is_no_breach() -> None:
    detector = Detector(planned(), 3)
    detector.take(0.0, 2, 1)
    assert detector.verdict is Verdict.INSUFFICIENT


def test_nothing_but_errors_is_a_breach_after_a_few() -> None:
    detector = Detector(planned(), 3)
    asked = 0
    while detector.verdict is not Verdict.BREACH:
        asked += 1
        detector.take(float(asked), 1, 1)
    assert 5 <= asked <= 12


def test_the_exact_path_alarms_exactly_where_the_tail_is_within_its_share() -> None:
    made = planned()
    calm = [each for each in range(241, 600) if not _alarms_alone(made, 6000, each)]
    tail = chance_of_at_least(calm[-1] + 1, 6000, made.healthy)
    assert tail <= made.alpha
    before = (
        chance_of_at_least(calm[-1], 6000, made.healthy) > made.alpha
        or chance_of_at_least(calm[-1], 6000, made.limit) > made.alpha_at_limit
    )
    assert before


def _alarms_alone(made: Plan, requests: int, bad: int) -> bool:
    detector = Detector(made, 3)
    detector._minutes.append(Tally(0, requests, bad))
    detector._minute = 0
    return detector._exact() is not None


def test_what_decided_is_kept_with_the_breach() -> None:
    detector = Detector(planned(), 3)
    fed(detector, 0.3, 198, 5)
    alarm = detector.alarm
    assert alarm is not None
    assert alarm.path == "e_process"
    assert alarm.value >= alarm.threshold
    again = max(
        alarm.tally.bad * each.bad + (alarm.tally.requests - alarm.tally.bad) * each.good
        for each in detector.plan.alternatives
        if each.threshold == alarm.threshold
    )
    assert again == pytest.approx(alarm.value), "it can be decided again from the counts"


# -- saying ok, and ending


def test_enough_good_requests_say_ok_and_few_say_insufficient() -> None:
    detector = Detector(planned(), 3)
    fed(detector, 0.0, 6, 2)
    before = detector.verdict
    fed(detector, 0.0, 600, 2, start=2)
    detector.tick(4)
    assert [before, detector.verdict] == [Verdict.INSUFFICIENT, Verdict.OK]


def test_little_traffic_says_ok_in_the_end() -> None:
    detector = Detector(planned(), 3)
    fed(detector, 0.0, 6, 9)
    assert detector.verdict is Verdict.OK, "54 requests without an error: fewer than 10 % fail"


def test_a_model_that_answers_nothing_for_long_is_insufficient_again() -> None:
    detector = Detector(planned(), 3)
    fed(detector, 0.0, 600, 3)
    detector.tick(4)
    before = detector.verdict
    for minute in range(5, 120):
        detector.tick(minute)
    assert [before, detector.verdict] == [Verdict.OK, Verdict.INSUFFICIENT]


def test_a_breach_ends_only_once_the_model_is_shown_to_be_healthy() -> None:
    detector = Detector(planned(), 3)
    fed(detector, 0.3, 198, 5)
    quiet = 6
    assert detector.verdict is Verdict.BREACH
    for minute in range(quiet, quiet + 5):
        detector.tick(minute)
    assert detector.verdict is Verdict.BREACH, "silence is no cure"
    _serve(detector, 0.045, 1998, 20, start=12)
    assert detector.verdict is Verdict.BREACH, "4.5 % is below the limit and not below its healthy share"
    ended = _serve(detector, 0.01, 600, 20, start=40)
    assert ended is not None
    assert ended >= 42 * 60, "three windows of a minute each"


def test_without_hysteresis_a_breach_would_flutter() -> None:
    """A model that stays at its limit: ours is in breach once, a rule that forgets at once again and again."""
    chance = random.Random(5)
    ours, careless, changes, alarms = Detector(planned(per_year=1000), 3), Detector(planned(per_year=1000), 3), 0, 0
    for second in range(0, 4 * 3600, 10):
        bad = sum(chance.random() < 0.06 for _ in range(100))
        changes += ours.take(float(second), 100, bad) and ours.verdict is Verdict.BREACH
        if careless.take(float(second), 100, bad) and careless.verdict is Verdict.BREACH:
            alarms += 1
            careless._end_breach()
    assert changes == 1
    assert alarms > 3


def _serve(detector: Detector, rate: float, per_minute: int, minutes: int, *, start: int) -> int | None:
    """Serve; the second at which a breach was over."""
    chance = random.Random(9)
    for second in range(60 * start, 60 * (start + minutes), 10):
        requests = per_minute // 6
        detector.take(float(second), requests, sum(chance.random() < rate for _ in range(requests)))
        if detector.verdict is not Verdict.BREACH:
            return second
    return None


def test_what_made_a_breach_is_void_once_that_is_over() -> None:
    detector = Detector(planned(), 3)
    fed(detector, 0.9, 198, 1)
    ended = _serve(detector, 0.0, 600, 8, start=1)
    assert ended is not None
    assert ended < 480, "within the window, in which its errors would make it a breach again"
    assert detector.last(10).share < 0.04


# -- invariants

_steps = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 300), st.floats(0, 1)), max_size=60)


@settings(max_examples=40)
@given(_steps)
def test_counts_of_the_window_are_those_of_its_minutes(steps: list[tuple[int, int, float]]) -> None:
    detector, seen, now = Detector(planned(), 3), [], 0
    for gap, requests, share in steps:
        now += gap
        # Below the limit: what made a breach is void once that is over.
        bad = math.floor(0.05 * share * requests)
        detector.take(float(now), requests, bad)
        seen.append((now // 60, requests, bad))
    window = [each for each in seen if each[0] > now // 60 - 10]
    assert detector.last(10).requests == sum(each[1] for each in window)
    assert detector.last(10).bad == sum(each[2] for each in window)
    assert len(detector._minutes) <= 10, "memory does not grow with the number of snapshots"
    assert len(detector._hours) <= 8


@settings(max_examples=40)
@given(_steps, st.integers(1, 100))
def test_a_detector_never_alarms_below_its_limit(steps: list[tuple[int, int, float]], per_cent: int) -> None:
    detector, now = Detector(planned(per_year=per_cent), 3), 0
    for gap, requests, share in steps:
        now += gap
        detector.take(float(now), requests, 0.05 * share * requests)
    assert detector.verdict is not Verdict.BREACH


@settings(max_examples=50)
@given(st.integers(1, 3000), st.floats(0, 1))
def test_bounds_lie_around_the_share(requests: int, share: float) -> None:
    tally = Tally(0, requests, share * requests)
    assert tally.lower() <= tally.share + 1e-9
    assert tally.upper() >= tally.share - 1e-6
    assert tally.is_below(0.05) == (tally.upper() < 0.05) or tally.upper() == pytest.approx(0.05, abs=2e-6)


@given(st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_divergence_is_never_negative(share: float, rate: float) -> None:
    assert divergence(share, rate) >= -1e-12


def test_fractions_count_as_fractions() -> None:
    whole, parts = Detector(planned(), 3), Detector(planned(), 3)
    for second in range(0, 1200, 10):
        whole.take(float(second), 10, 2 if second % 20 else 0)
        parts.take(float(second), 10, 1.0)
    assert whole.verdict is parts.verdict is Verdict.BREACH
