"""`fleetcast gates`: what a file asks for, in words and in JSON, and where its mistakes are."""

import json
from pathlib import Path

import pytest

from fleetcast.cli.entry import run

COMMITTED = Path(__file__).parents[3] / "config" / "gates.toml"
FILE = """
[default]
[default.gates.production]
min_games = 100
win_rates = { random = 0.9 }
[profile.vendor]
models = ["vendor_*"]
decides = "external"
"""


@pytest.fixture(autouse=True)
def no_fleet_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NATS_URL", "NATS_CONTEXT", "FLEETCAST_CONFIG", "FLEETCAST_REGISTRY_GATES"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gates.toml"
    path.write_text(FILE)
    return path


def said(capsys: pytest.CaptureFixture[str], *argv: str | Path, code: int = 0) -> str:
    assert run([str(each) for each in argv]) == code
    return capsys.readouterr().out


def test_show_prints_what_each_stage_asks_for_and_how_sharply_it_tells(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [" ".join(line.split()) for line in said(capsys, "gates", "show", "--file", file).splitlines()]

    assert "production games at least 100 games" in lines
    assert "production win_rate.random win rate vs random at least 0.9" in lines
    curve = next(line for line in lines if line.startswith("production win_rate.random >= 0.9 100 "))
    assert curve == "production win_rate.random >= 0.9 100 1.1 % 2.4 % 4.7 % +216 Elo"


def test_show_takes_the_file_from_the_settings_and_the_profile_from_the_model(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCAST_REGISTRY_GATES", str(file))
    document = json.loads(said(capsys, "gates", "show", "vendor_a", "--json"))
    assert (document["profile"], document["policy"]["decides"], document["curves"]) == ("vendor", "external", [])
    other = json.loads(said(capsys, "gates", "show", "hex8_2p", "--json"))
    assert other["profile"] == "default"
    assert other["profiles"] == [{"name": "vendor", "models": ["vendor_*"]}]
    assert {"stage": "production", "gate": "games", "required": "at least 100 games"} in other["requirements"]
    assert other["curves"][0]["equal"] == pytest.approx(0.0237, abs=1e-4)


def test_show_with_more_games_tells_more_apart(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def curve(*more: str) -> dict[str, float]:
        out = said(capsys, "gates", "show", "--file", file, *more, "--json")
        found: dict[str, float] = json.loads(out)["curves"][0]
        return found

    assert curve("--games", "2000")["likely_at_elo"] < curve()["likely_at_elo"]
    assert curve("--games", "20")["likely_at_elo"] == 2000


def test_gate_that_nobody_can_pass_with_so_few_games_says_never(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "never" in said(capsys, "gates", "show", "--file", file, "--games", "20")


def test_without_a_file_it_says_who_decides(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no gates file (registry.gates): whoever promotes decides" in said(capsys, "gates", "show")
    assert said(capsys, "gates", "check", code=2) == ""


def test_check_says_ok_with_the_profiles(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "gates", "check", file).startswith(f"ok: {file} (profiles: default, vendor; digest ")
    assert said(capsys, "gates", "check", COMMITTED).startswith("ok: ")
    assert json.loads(said(capsys, "gates", "check", file, "--json"))["profiles"] == ["default", "vendor"]


def test_check_shows_file_line_and_column_of_a_mistake_and_exits_2(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("[default]\nconfidence = 95\n")
    assert run(["gates", "check", str(file)]) == 2
    err = capsys.readouterr().err
    assert "the gates file cannot be used" in err
    assert f"{file}:2:14: default.confidence should be less than or equal to 0.9999" in err
    assert run(["gates", "check", str(file), "--json"]) == 2
    assert "2:14" in json.loads(capsys.readouterr().out)["error"]["why"]
