"""How one cap is shared by all that move bytes under it."""

import math

from hypothesis import given
from hypothesis import strategies as st

from fleetcast.config.limits import LEAST_CAP
from fleetcast.transport.shares import (
    FLOOR_SHARE,
    TRIM_DOWN,
    TRIM_UP,
    Rate,
    Trim,
    demand,
    divide,
    is_worth_telling,
)

caps = st.integers(LEAST_CAP, 10**11)
wishes = st.one_of(st.just(0.0), st.just(math.inf), st.floats(0, 10**11, allow_nan=False))
demands = st.dictionaries(st.sampled_from(["bittorrent", "borrowing", "http", "aria2", "more"]), wishes, min_size=1)


@given(caps, demands)
def test_shares_never_come_to_more_than_the_cap(cap: int, wanted: dict[str, float]) -> None:
    assert sum(divide(cap, wanted).values()) <= cap


@given(caps, demands)
def test_nothing_of_the_cap_is_left_over(cap: int, wanted: dict[str, float]) -> None:
    assert sum(divide(cap, wanted).values()) >= cap * (1 - 1e-6) - len(wanted)


@given(caps, demands)
def test_everybody_has_a_floor(cap: int, wanted: dict[str, float]) -> None:
    assert min(divide(cap, wanted).values()) >= cap // FLOOR_SHARE


@given(caps, demands)
def test_nobody_who_asks_gets_less_than_an_equal_part_or_what_it_asks_for(cap: int, wanted: dict[str, float]) -> None:
    shares = divide(cap, wanted)
    floors = len(wanted) * (cap // FLOOR_SHARE)
    for name, wish in wanted.items():
        assert shares[name] >= min(wish, (cap - floors) / len(wanted)) * (1 - 1e-6) - 1


def test_what_one_does_not_use_the_other_has() -> None:
    shares = divide(25_600_000, {"bittorrent": math.inf, "http": 5_000_000.0, "aria2": 0.0})
    assert shares == {"bittorrent": 20_500_000, "http": 5_000_000, "aria2": 100_000}


def test_while_nothing_moves_everybody_may_begin() -> None:
    assert divide(25_600_000, {"bittorrent": 0.0, "http": 0.0}) == {"bittorrent": 12_800_000, "http": 12_800_000}


def test_a_cap_of_which_two_could_use_any_amount_is_halved() -> None:
    assert divide(1000, {"a": math.inf, "b": math.inf}) == {"a": 500, "b": 500}


def test_whoever_uses_its_share_up_is_given_more_and_whoever_does_not_keeps_room_to_grow() -> None:
    assert demand(1000, 900) == math.inf
    assert demand(1000, 400) == 500


def test_ripple_is_not_worth_telling_and_a_new_part_is() -> None:
    assert not is_worth_telling({"a": 1000, "b": 1000}, {"a": 1010, "b": 990})
    assert is_worth_telling({"a": 1000, "b": 1000}, {"a": 1100, "b": 900})
    assert is_worth_telling({"a": 1000}, {"a": 1000, "b": 0})


@given(st.integers(0, 10**9))
def test_steady_rate_is_measured_as_it_is(rate: int) -> None:
    meter = Rate()
    for tick in range(80):
        meter.sample(rate * tick // 8, 0.125)
    assert math.isclose(meter.value, rate, rel_tol=0.01, abs_tol=10)


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200))
def test_what_is_divided_stays_near_the_cap_whatever_has_passed(looks: list[tuple[float, bool]]) -> None:
    cap, trim = 1_000_000, Trim()
    for rate, used_up in looks:
        told = trim.sample(cap, int(rate * cap / 8), 0.125, used_up=used_up)
        assert (1 - TRIM_DOWN) * cap - 1 <= told <= (1 + TRIM_UP) * cap + 1


def test_what_nobody_wanted_is_not_made_good_for_later() -> None:
    cap, trim = 1_000_000, Trim()
    for _ in range(80):
        trim.sample(cap, cap // 80, 0.125, used_up=False)
    assert trim.sample(cap, cap // 8, 0.125, used_up=True) <= cap
