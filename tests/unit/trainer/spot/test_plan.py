"""What is done about a notice in the time that is left."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.trainer.spot.rules import NEAR, RELEASE_SECONDS, SAFETY, RunHere, is_near, plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_run_whose_save_fits_is_asked_to_save() -> None:
    (leave,) = plan([RunHere("r", 20.0, 300.0)], after(120), NOW)
    assert leave.save
    assert leave.by == after(120 - RELEASE_SECONDS)


def test_run_whose_save_does_not_fit_is_stopped_at_once_and_goes_on_from_its_last_checkpoint() -> None:
    (leave,) = plan([RunHere("r", 25.0, 300.0)], after(30), NOW)
    assert not leave.save
    assert leave.by == NOW
    assert "37.5 s needed, 27 s left" in leave.why


def test_unknown_save_is_tried_while_there_is_time() -> None:
    assert plan([RunHere("r", None, 300.0)], after(30), NOW)[0].save
    assert not plan([RunHere("r", None, 300.0)], after(2), NOW)[0].save


def test_who_has_most_to_lose_comes_first() -> None:
    runs = [RunHere("a", 1.0, 10.0), RunHere("b", 1.0, 500.0), RunHere("c", 1.0, 60.0)]
    assert [leave.run for leave in plan(runs, after(120), NOW)] == ["b", "c", "a"]


def test_maintenance_of_next_week_is_not_near() -> None:
    assert not is_near(NOW + timedelta(days=7), NOW)
    assert is_near(NOW + NEAR, NOW)
    assert is_near(NOW - timedelta(seconds=1), NOW)


@given(st.none() | st.floats(0, 1e4), st.floats(0, 1e6), st.floats(-1e4, 1e4))
def test_no_run_is_kept_beyond_the_deadline_nor_asked_for_what_does_not_fit(
    save: float | None, unsaved: float, left: float
) -> None:
    (leave,) = plan([RunHere("r", save, unsaved)], after(left), NOW)
    assert leave.by <= max(NOW, after(left - RELEASE_SECONDS) + timedelta(milliseconds=1))
    if leave.save and save is not None:
        assert save * SAFETY <= left - RELEASE_SECONDS + 1e-3
