"""How the rate under a cap is read from what passed an interface."""

import pytest
from tests.benchmarks._caps import Held, Sample, rate, steady
from tests.benchmarks._hosts import Flow


def samples(*passed: int) -> list[Sample]:
    return [Sample(float(n), Flow(passed_bytes, 0)) for n, passed_bytes in enumerate(passed)]


def test_a_quick_first_moment_does_not_count() -> None:
    counted = steady(samples(0, 20, 30, 40, 50, 60, 70, 80, 90, 100), size=100)
    assert rate(counted, lambda f: f.bytes) == 10.0


def test_a_cap_that_nobody_held_has_a_rate_too() -> None:
    counted = steady(samples(0, 0, 0, 100, 100), size=100)
    assert rate(counted, lambda f: f.bytes) == 100.0


def test_what_the_interface_had_counted_before_does_not_count() -> None:
    counted = steady(samples(1000, 1030, 1060, 1090, 1100), size=100)
    assert [s.seconds for s in counted] == [0.0, 1.0, 2.0, 3.0, 4.0]


def held(stream_rate: float) -> Held:
    return Held("LAN", "upload", "bittorrent", stream_rate=stream_rate, line_rate=stream_rate)


def test_too_little_is_as_wrong_as_too_much() -> None:
    assert held(95.0).error(100) == pytest.approx(0.05)
    assert held(110.0).error(100) == pytest.approx(0.1)
