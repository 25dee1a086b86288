"""Bandwidth windows: which caps hold at a moment, by the clock on the wall."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fleetcast.config.hours import WEEK
from fleetcast.config.limits import LEAST_CAP, Caps, LimitsSettings, Window, cap_at

DAY, NIGHT = 10_000_000, 90_000_000
MONDAY = datetime(2026, 11, 16)  # noqa: DTZ001 - the clock on the wall has no zone


def limits(*windows: dict[str, object], upload: int = DAY) -> LimitsSettings:
    return LimitsSettings(
        upload_bytes_per_second=upload, windows=tuple(Window.model_validate(window) for window in windows)
    )


def window(begins: str, ends: str, *days: str, upload: int = NIGHT) -> dict[str, object]:
    return {"days": days or WEEK, "from": begins, "to": ends, "upload_bytes_per_second": upload}


def at(day: str, clock: str) -> datetime:
    hours, minutes = map(int, clock.split(":"))
    return MONDAY + timedelta(days=WEEK.index(day), hours=hours, minutes=minutes)


@pytest.mark.parametrize(
    ("day", "clock", "cap"),
    [
        ("fri", "21:59", DAY),
        ("fri", "22:00", NIGHT),
        ("sat", "05:59", NIGHT),
        ("sat", "06:00", DAY),
        ("sat", "22:00", DAY),
        ("fri", "05:00", DAY),
    ],
)
def test_window_over_midnight_belongs_to_the_day_on_which_it_begins(day: str, clock: str, cap: int) -> None:
    assert cap_at(at(day, clock), limits(window("22:00", "06:00", "fri"))).upload == cap


def test_window_of_sunday_night_runs_into_monday() -> None:
    sunday = limits(window("23:00", "01:00", "sun"))
    assert cap_at(at("mon", "00:30"), sunday).upload == NIGHT
    assert cap_at(at("mon", "23:30"), sunday).upload == DAY


def test_window_says_only_what_it_sets() -> None:
    chosen = limits(window("00:00", "24:00"))
    assert cap_at(at("wed", "12:00"), chosen) == Caps(download=None, upload=NIGHT)


def test_zero_in_a_window_is_no_cap() -> None:
    assert cap_at(at("wed", "12:00"), limits(window("00:00", "24:00", upload=0))).upload is None


def test_repeated_hour_in_autumn_is_in_the_window_both_times_and_the_left_out_one_in_spring_never() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    nightly = limits(window("02:00", "03:00"))

    def minutes_inside(start: datetime) -> int:
        moments = (start + timedelta(minutes=n) for n in range(24 * 60))
        return sum(cap_at(moment.astimezone(berlin), nightly).upload == NIGHT for moment in moments)

    assert minutes_inside(datetime(2026, 10, 24, 22, tzinfo=UTC)) == 120
    assert minutes_inside(datetime(2026, 3, 28, 23, tzinfo=UTC)) == 0
    assert minutes_inside(datetime(2026, 6, 1, 22, tzinfo=UTC)) == 60


@given(st.integers(0, 24 * 60 - 1), st.integers(0, 24 * 60), st.sampled_from(WEEK))
def test_window_holds_as_long_as_its_clock_times_say(begin: int, end: int, day: str) -> None:
    if begin == end:
        return
    settings = limits(window(f"{begin // 60:02}:{begin % 60:02}", f"{end // 60:02}:{end % 60:02}", day))
    week = (MONDAY + timedelta(minutes=n) for n in range(0, 7 * 24 * 60, 1))
    inside = sum(cap_at(moment, settings).upload == NIGHT for moment in week)
    assert inside == ((end - begin) % (24 * 60) or 24 * 60)


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        ([window("22:00", "22:00")], "time at which the window begins"),
        ([window("7:00", "22:00")], "'7:00' is not a time of day"),
        ([window("22:00", "25:00")], "'25:00' is not a time of day"),
        ([window("22:00", "06:00", "monday")], "Input should be 'mon'"),
        ([{"from": "22:00", "to": "06:00"}], "without a cap changes nothing"),
        ([window("22:00", "06:00"), window("05:00", "07:00", "wed")], "windows 1 and 2"),
        ([window("22:00", "06:00", "sun"), window("05:00", "07:00", "mon")], "windows 1 and 2"),
        ([window("22:00", "06:00", upload=LEAST_CAP - 1)], "least cap that can be held"),
    ],
)
def test_window_that_makes_no_sense_is_refused(windows: list[dict[str, object]], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LimitsSettings.model_validate({"windows": windows})


def test_windows_that_touch_do_not_overlap() -> None:
    LimitsSettings.model_validate({"windows": [window("22:00", "06:00"), window("06:00", "22:00", upload=0)]})


def test_cap_under_which_every_transfer_would_stall_is_refused() -> None:
    with pytest.raises(ValidationError, match="least cap"):
        LimitsSettings(download_bytes_per_second=LEAST_CAP - 1)
