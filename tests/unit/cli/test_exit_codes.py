"""Every command ends with a code that scripts can rely on, and says the same in words and in JSON."""

import json
from pathlib import Path

import pytest

from fleetcast.bus.errors import BusTimeout, BusUnavailable, NoResponder, NotFound, ServerTooOld
from fleetcast.cli.entry import run
from fleetcast.cli.problems import Exit, Problem
from fleetcast.cli.translate import translate
from fleetcast.config.errors import ConfigError, Mistake
from fleetcast.events.errors import EventInvalid, UnknownEventType


@pytest.fixture(autouse=True)
def no_fleet_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NATS_URL", "NATS_CONTEXT", "FLEETCAST_CONFIG", "FLEETCAST_SPOOL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["--version"], 0),
        (["--help"], 0),
        ([], 2),
        (["stauts"], 2),
        (["promote", "hex8"], 2),
        (["emit", "MODEL_PROMTED", "model=hex8"], 2),
        (["emit", "model.promoted", "model"], 2),
        (["emit", "model.promoted", "model=hex8", "version=a/b", "path=x", "--dry-run"], 2),
        (["promote", "hex8", "1", "not-there.pt"], 3),
        (["status", "--server", "nats://127.0.0.1:9"], 6),
        (["wait", "hex8", "--timeout", "soon"], 2),
        (["run", "distributer"], 2),
        (["bench", "not_there"], 3),
        (["logs"], 3),
        (["dlq"], 2),
        (["config", "check", "not-there.toml"], 2),
    ],
)
def test_exit_codes_are_the_same_with_and_without_json(
    argv: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == code
    capsys.readouterr()
    if code and argv:
        assert run([*argv, "--json"]) == code
        said = json.loads(capsys.readouterr().out)
        assert said["schema_version"] == 1
        assert said["error"].keys() >= {"code", "message", "why", "next"}
        assert said["error"]["next"]


def test_an_error_says_what_failed_and_what_to_type_next_on_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    run(["status", "--server", "nats://127.0.0.1:9"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error: no NATS at nats://127.0.0.1:9" in captured.err
    assert "fleetcast up" in captured.err
    assert "Traceback" not in captured.err


def test_an_unexpected_error_shows_no_traceback_unless_debug_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> Exit:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("fleetcast.cli.bench.run", broken)
    assert run(["bench"]) == Exit.FAILED
    assert "--debug" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        run(["bench", "--debug"])


def test_ctrl_c_ends_a_command_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> Exit:
        raise KeyboardInterrupt

    monkeypatch.setattr("fleetcast.cli.bench.run", interrupted)
    assert run(["bench"]) == 130


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (BusUnavailable(), "no_nats", Exit.NO_NATS),
        (BusTimeout(), "no_answer", Exit.NO_NATS),
        (ServerTooOld(), "server", Exit.NO_NATS),
        (NoResponder(), "no_daemon", Exit.FAILED),
        (NotFound(), "not_found", Exit.NOT_FOUND),
        (EventInvalid("bad", field="path", next_step="mend it"), "event_invalid", Exit.USAGE),
        (UnknownEventType("x"), "usage", Exit.USAGE),
        (ConfigError((Mistake("f.toml", "wrong"),)), "config", Exit.USAGE),
        (FileNotFoundError(2, "No such file", "x"), "file", Exit.FAILED),
        (RuntimeError("?"), "internal", Exit.FAILED),
        (ExceptionGroup("tasks", [ExceptionGroup("inner", [BusUnavailable()])]), "no_nats", Exit.NO_NATS),
    ],
)
def test_every_family_of_errors_has_its_code_and_exit(error: Exception, code: str, exit_code: Exit) -> None:
    problem = translate(error)
    assert isinstance(problem, Problem)
    assert (problem.code, problem.exit) == (code, exit_code)
    assert problem.what


COMMANDS = (
    "demo up run bench doctor init fmt promote register emit verify status transfers events why wait logs "
    "config/show config/check dlq/ls dlq/show dlq/retry dlq/drop"
)


@pytest.mark.parametrize("command", COMMANDS.split())
def test_every_command_has_help_that_names_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split("/"), "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_mutations_have_dry_run_and_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("promote", "register", "cancel", "runs allow", "dlq retry", "dlq drop"):
        run([*command.split(), "--help"])
        shown = capsys.readouterr().out
        assert "--dry-run" in shown, command
        assert "--reason" in shown, command


def test_dropping_without_a_person_to_ask_names_the_flag(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert run(["dlq", "drop", "3"]) == Exit.USAGE
    assert "--yes" in capsys.readouterr().err


def test_init_writes_a_file_that_check_accepts_and_does_not_overwrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init"]) == 0
    assert run(["config", "check", "fleetcast.toml"]) == 0
    assert run(["init"]) == Exit.FAILED
    assert "--force" in capsys.readouterr().err
    assert run(["init", "--force"]) == 0


def test_config_show_names_the_origin_of_every_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NATS_URL", "nats://n1:4222")
    assert run(["config", "show", "--origin", "--json"]) == 0
    shown = {row["name"]: row for row in json.loads(capsys.readouterr().out)["settings"]}
    assert shown["bus.url"] == {"name": "bus.url", "value": "nats://n1:4222", "origin": "NATS_URL"}
    assert shown["store.keep_versions"]["origin"] == "default"


def test_a_mistake_in_the_settings_is_shown_with_file_line_and_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.toml").write_text('[bus]\nurll = "nats://x"\n')
    assert run(["config", "check", "bad.toml", "--json"]) == Exit.USAGE
    (mistake,) = json.loads(capsys.readouterr().out)["error"]["mistakes"]
    assert mistake["where"].endswith("bad.toml:2:1")
    assert "url" in mistake["next"]
