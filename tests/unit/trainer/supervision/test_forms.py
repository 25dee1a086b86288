"""How a supervisor process is started, by systemd and without it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fleetcast.daemons.trainer.supervision.spec import RunSpec
from fleetcast.daemons.trainer.supervision.supervisors import process_command, systemd_obeys, unit_command, unit_name

SPEC = RunSpec("chess-0a1b", 3, ("python", "t.py"), "", {"SECRET": "s3cret"}, "/data/runs/chess-0a1b", 90.0)
CHILD = "fleetcast.daemons.trainer.supervision.child"


def test_a_unit_gets_sigterm_on_its_supervisor_alone_and_longer_than_the_run_s_grace() -> None:
    command = unit_command(SPEC, "token")
    assert command[0] == "systemd-run"
    assert "--unit=fleetcast-run-chess-0a1b-3.service" in command
    for expected in (
        "KillMode=mixed",
        "TimeoutStopSec=120",
        "Delegate=yes",
        "OOMPolicy=continue",
        "NotifyAccess=main",
        "Restart=no",
    ):
        assert f"--property={expected}" in command
    assert "--service-type=notify" in command
    assert "--collect" in command
    assert f"--uid={os.geteuid()}" in command
    assert command[command.index("--") + 1 :] == [
        *(sys.executable, "-I", "-B", "-m", CHILD, "/data/runs/chess-0a1b", "token"),
        "fleetcast-run-chess-0a1b-3.service",
    ]


def test_no_variable_of_a_run_is_on_a_command_line_that_everybody_can_read() -> None:
    for command in (unit_command(SPEC, "token"), process_command(SPEC, "token")):
        assert "s3cret" not in " ".join(command)


def test_the_name_of_a_unit_holds_what_systemd_takes() -> None:
    spec = RunSpec("a b/ü@" + "x" * 300, 1, ("true",), "", {}, "/f")
    name = unit_name(spec)
    assert name.startswith("fleetcast-run-a_b___x")
    assert len(name) <= 255


def test_systemd_is_used_where_it_is_the_first_process_and_this_user_is_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/systemd-run")
    assert not systemd_obeys(tmp_path)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert systemd_obeys(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not systemd_obeys(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert not systemd_obeys(tmp_path)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_knows_the_properties_of_a_unit(tmp_path: Path) -> None:
    properties = [
        word.removeprefix("--property=") for word in unit_command(SPEC, "t") if word.startswith("--property=")
    ]
    unit = tmp_path / "fleetcast-run.service"
    unit.write_text("\n".join(["[Service]", "Type=notify", "ExecStart=/bin/true", *properties, ""]))
    checked = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert "Unknown" not in checked.stderr, checked.stderr
    assert str(unit) not in checked.stderr, checked.stderr


def test_a_supervisor_process_holds_nothing_but_the_standard_library() -> None:
    script = f"import sys; import {CHILD}; print(*[m.partition('.')[0] for m in sys.modules])"
    shown = subprocess.run([sys.executable, "-I", "-B", "-c", script], capture_output=True, text=True, check=True)
    # Files of site-packages that Python runs at every start may have names of their own.
    at_start = subprocess.run(
        [sys.executable, "-I", "-B", "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    mine = set(shown.stdout.split()) - {name.partition(".")[0] for name in at_start.stdout.split()}
    assert mine - sys.stdlib_module_names == {"fleetcast"}
    assert "asyncio" not in mine
