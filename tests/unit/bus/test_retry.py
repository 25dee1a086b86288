import pytest

from fleetcast.bus.retry import DIAL, Backoff


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(base_seconds=0.5, cap_seconds=3.0)

    assert [backoff.delay(n, highest) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_full_jitter_reaches_down_to_nothing() -> None:
    assert Backoff(base_seconds=1.0, cap_seconds=8.0).delay(3, lowest) == 0.0


def test_dialing_never_becomes_a_busy_loop() -> None:
    assert DIAL.delay(1, lowest) > 0


def test_a_thousand_failures_do_not_overflow() -> None:
    assert Backoff(base_seconds=0.1, cap_seconds=2.0).delay(5000, highest) == 2.0


@pytest.mark.parametrize("attempt", [0, -3])
def test_attempts_before_the_first_count_as_the_first(attempt: int) -> None:
    assert Backoff(base_seconds=0.25, cap_seconds=2.0).ceiling(attempt) == 0.25
