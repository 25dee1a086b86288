"""What is done about a fault: again here, elsewhere, on the CPU, or never."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.trainer.faults.builders import ABORTED, APERTURE, NOW, after, attempt, ended, lane, run

from fleetcast.daemons.trainer.faults.classify import Fault, classify
from fleetcast.daemons.trainer.faults.policy import AGAIN, decide
from fleetcast.events.runs import FaultClass
from fleetcast.events.training import Remedy

APERTURE_FAULT = classify(ended(*ABORTED, signal=6))
CPU_LANE = lane(cpu_fallback=True)


def python_error() -> Fault:
    return classify(ended("ValueError: x"))


def test_a_gpu_fault_goes_elsewhere_while_another_node_has_a_gpu() -> None:
    made = decide(APERTURE_FAULT, run(), CPU_LANE, NOW, others=1)

    assert (made.remedy, made.cpu) == (Remedy.ELSEWHERE, False)
    assert made.quarantine == timedelta(hours=1)
    assert made.away_until is not None
    assert made.away_until >= after(hours=1)


def test_without_another_gpu_it_goes_on_on_the_cpu_where_the_lane_allows_that() -> None:
    made = decide(APERTURE_FAULT, run(), CPU_LANE, NOW, others=0)

    assert (made.remedy, made.cpu, made.not_before, made.away_until) == (Remedy.CPU, True, NOW, None)
    assert made.quarantine == timedelta(hours=1)
    assert "no other GPU" in made.detail


def test_a_lane_that_forbids_the_cpu_waits_for_a_gpu() -> None:
    made = decide(APERTURE_FAULT, run(), lane(), NOW, others=0)

    assert (made.remedy, made.cpu) == (Remedy.ELSEWHERE, False)


def test_where_no_other_node_can_take_a_run_it_waits_minutes_for_its_own_and_says_so() -> None:
    killed = classify(ended(code=None, signal=9))
    alone, one_of_two = (decide(killed, run(), lane(), NOW, others=each) for each in (0, 1))

    assert (alone.away_until, one_of_two.away_until) == (after(minutes=5), after(minutes=30))
    assert "no other node can take it now" in alone.detail
    assert decide(APERTURE_FAULT, run(), lane(), NOW, others=0).away_until == after(hours=1)


def test_a_fault_that_the_cpu_would_meet_too_never_leads_there() -> None:
    disk = classify(ended("OSError: [Errno 28] No space left on device"))

    assert decide(disk, run(), CPU_LANE, NOW, others=0).remedy is Remedy.ELSEWHERE
    assert decide(disk, run(faults={"hardware": 3}), CPU_LANE, NOW, others=0).remedy is Remedy.NEVER


def test_used_up_tries_end_the_run_or_lead_to_the_cpu_and_are_told_as_spent() -> None:
    tired = run(faults={"hardware": 3})

    ends, falls = (decide(APERTURE_FAULT, tired, each, NOW, others=5) for each in (lane(), CPU_LANE))
    assert (ends.remedy, ends.spent, ends.not_before) == (Remedy.NEVER, True, None)
    assert (falls.remedy, falls.spent) == (Remedy.CPU, True)
    fresh = decide(APERTURE_FAULT, run(faults={"hardware": 2}), lane(), NOW, others=5)
    assert (fresh.remedy, fresh.spent) == (Remedy.ELSEWHERE, False)


def test_bad_code_is_not_tried_again_unless_the_lane_says_so() -> None:
    made = decide(python_error(), run(), lane(), NOW)
    asked = decide(python_error(), run(), lane(retries={"code": 1}), NOW)

    assert (made.remedy, made.spent) == (Remedy.NEVER, False)
    assert asked.remedy is Remedy.HERE
    assert asked.away_until is None


def test_a_time_limit_is_never_tried_again_whatever_the_lane_says() -> None:
    late = classify(ended(code=None, signal=15, reason="time_limit"))

    assert decide(late, run(), lane(retries={"code": 9}, cpu_fallback=True), NOW, others=0).remedy is Remedy.NEVER


def test_preemption_spends_nothing() -> None:
    stopped = classify(ended(code=None, signal=15, reason="stopped"))
    made = decide(stopped, run(faults={"preempted": 5000}), lane(), NOW)

    assert (made.remedy, made.spent, made.away_until, made.quarantine) == (Remedy.ELSEWHERE, False, None, None)


def test_a_fault_that_follows_the_run_puts_no_third_node_into_quarantine() -> None:
    met = tuple(attempt(node, APERTURE, n) for n, node in enumerate(("gpu-7", "gpu-8"), 1))
    made = decide(APERTURE_FAULT, run(attempts=met, faults={"hardware": 2}), lane(), NOW, others=5)
    once = decide(APERTURE_FAULT, run(attempts=met[:1], faults={"hardware": 1}), lane(), NOW, others=5)

    assert (made.suspect, made.quarantine) == (True, None)
    assert (once.suspect, once.quarantine) == (False, timedelta(hours=1))
    assert decide(APERTURE_FAULT, run(attempts=met), CPU_LANE, NOW, others=5).remedy is Remedy.CPU


def test_the_same_node_failing_again_and_again_is_the_node() -> None:
    met = tuple(attempt("gpu-1", APERTURE, n) for n in (1, 2, 3))

    assert not decide(APERTURE_FAULT, run(attempts=met), lane(), NOW).suspect


def test_a_degraded_run_stays_on_the_cpu_when_something_else_befalls_it() -> None:
    crash = classify(ended("x", signal=11))
    made = decide(crash, run(cpu=True), CPU_LANE, NOW)

    assert (made.remedy, made.cpu) == (Remedy.ELSEWHERE, True)


CLASSES = st.sampled_from(list(FaultClass))


@given(
    used=st.dictionaries(CLASSES.map(str), st.integers(0, 12)),
    budget=st.dictionaries(CLASSES, st.integers(0, 10)),
    others=st.none() | st.integers(0, 3),
    cpu=st.booleans(),
    which=st.sampled_from([APERTURE_FAULT, python_error(), classify(ended("x", signal=9))]),
)
def test_whatever_was_met_before_no_run_goes_on_for_ever(
    used: dict[str, int], budget: dict[FaultClass, int], others: int | None, cpu: bool, which: Fault
) -> None:
    given_lane = lane(retries=budget, cpu_fallback=cpu)
    made = decide(which, run(faults=used), given_lane, NOW, others=others)
    again = decide(which, run(faults=used), given_lane, NOW, others=others)

    assert made == again
    if used.get(which.fault_class.value, 0) >= given_lane.retries[which.fault_class]:
        assert made.remedy is Remedy.NEVER or (made.remedy is Remedy.CPU and cpu and which.gpu)
    if made.remedy is Remedy.NEVER:
        assert made.not_before is None
    else:
        assert made.not_before is not None
        assert NOW <= made.not_before <= NOW + timedelta(seconds=AGAIN.cap_seconds)


@pytest.mark.parametrize("used", [1, 2, 3, 8])
def test_delays_grow_and_differ_from_run_to_run(used: int) -> None:
    def delay(**more: Any) -> float:
        made = decide(classify(ended("x", signal=9)), run(faults={"unknown": used}, **more), _patient(), NOW)
        assert made.not_before is not None
        return (made.not_before - NOW).total_seconds()

    high = AGAIN.ceiling(used)
    delays = {delay(run=f"r-{n}") for n in range(20)}
    assert len(delays) == 20
    assert all(high / 2 <= each <= high for each in delays)


def _patient() -> Any:
    return lane(retries={"unknown": 100})
