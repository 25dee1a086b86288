"""Durations, sizes and fields as people type and read them."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fleetcast.cli.demo import evidence
from fleetcast.cli.demo.evidence import sha256_of
from fleetcast.cli.doctor import check_port, check_skew, version_of
from fleetcast.cli.emit import parse_fields
from fleetcast.cli.problems import Problem
from fleetcast.cli.units import clock, duration, parse_duration, percent, rate, size
from fleetcast.cli.waiting import split_target


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("30s", 30), ("1h30m", 5400), ("7d", 604800), ("250ms", 0.25)]
)
def test_durations_are_read_as_people_type_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10 m", "-5s", "1h soon", "5y"])
def test_what_is_no_duration_is_refused_by_the_option_s_name(text: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_duration(text, option="--timeout")
    assert "--timeout" in str(refused.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 s"),
        (0.0004, "0.4 ms"),
        (0.42, "0.42 s"),
        (12, "12 s"),
        (190, "3 m 10 s"),
        (7500, "2 h 5 m"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_are_said_in_two_parts_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_and_rates_are_in_binary_units() -> None:
    assert size(512) == "512 B"
    assert size(64 * 2**20) == "64.0 MiB"
    assert rate(1.5 * 2**30) == "1.5 GiB/s"


def test_a_clock_shows_the_date_only_when_it_is_not_today_s() -> None:
    now = datetime(2026, 11, 21, 12, 0, 0, 250_000).astimezone()
    assert clock(now, now) == "12:00:00.250"
    assert clock(now - timedelta(days=1), now) == "2026-11-20 12:00:00.250"


def test_hundred_percent_means_all_of_it() -> None:
    assert percent(999_999, 1_000_000) == 99
    assert percent(1_000_000, 1_000_000) == 100
    assert percent(0, 0) == 100


def test_fields_of_emit_keep_text_and_nest_by_dots() -> None:
    assert parse_fields(["version=007", "metrics.elo=1712.5", "metadata.stage=sandbox", 'x={"a":[1]}', "e="]) == {
        "version": "007",
        "metrics": {"elo": 1712.5},
        "metadata": {"stage": "sandbox"},
        "x": {"a": [1]},
        "e": "",
    }


@pytest.mark.parametrize("field", ["novalue", "=x", "metrics={broken"])
def test_a_field_that_cannot_be_read_is_named(field: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_fields([field])
    assert field.split("=")[0] in str(refused.value)


def test_a_value_cannot_also_be_a_folder_of_values() -> None:
    with pytest.raises(Problem):
        parse_fields(["a=1", "a.b=2"])


def test_targets_are_split_at_the_first_at() -> None:
    assert split_target("hex8") == ("hex8", None)
    assert split_target("hex8@1.2+3") == ("hex8", "1.2+3")


def test_versions_are_compared_as_numbers() -> None:
    assert version_of("2.13.0+cpu") == (2, 13, 0)
    assert version_of("3.5.0") > version_of("3.2.7")
    assert version_of("10.0") > version_of("9.9")


def test_a_clock_that_is_off_is_a_warning_with_the_direction() -> None:
    assert check_skew(0.1).state == "ok"
    behind = check_skew(90.0)
    assert behind.state == "warn"
    assert "90.000 s behind" in behind.detail


def test_a_port_of_our_own_distributor_is_not_called_taken() -> None:
    assert check_port("http port", 6880, "127.0.0.1", ours=True).state == "ok"
    assert check_port("http port", 0, "127.0.0.1", ours=False).state == "ok"


def test_the_demo_s_damage_is_one_byte_and_its_own_eyes_see_it(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(bytes(1000))
    path.chmod(0o444)
    before = sha256_of(path)
    position = evidence.flip_byte(path)
    assert sha256_of(path) != before
    assert path.read_bytes()[position] == 0xFF
    assert path.read_bytes().count(0) == 999
    assert path.stat().st_mode & 0o777 == 0o444
