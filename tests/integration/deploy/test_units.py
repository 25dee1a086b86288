"""The shipped units, as systemd's own tools see them, and as the command line does."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fleetcast.cli.install import units

SHIPPED = Path(__file__).parents[3] / "deploy" / "systemd"
DAEMONS = sorted(SHIPPED.glob("*.service"))
REGISTRY = SHIPPED / "fleetcast-registry.service"
UNITS = [*DAEMONS, SHIPPED.parent / "nats" / "nats-server.service"]
PROGRAM = Path(sys.executable).with_name("fleetcast")
MOST, MOST_ON_GPUS = 15, 20
"""Exposure by `systemd-analyze security`, in tenths."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing (apt-get install systemd)"
)
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)


def verify(unit: Path, folder: Path, *, replacing: tuple[str, str] = ("", "")) -> str:
    """What systemd-analyze finds wrong with a unit whose program stands where this test's does."""
    for each in (unit, SHIPPED / units.TARGET):
        text = each.read_text().replace(f"{units.CURRENT}/bin", str(PROGRAM.parent))
        (folder / each.name).write_text(text.replace(*replacing))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", folder / unit.name],
        capture_output=True,
        text=True,
        timeout=60,
        env={"SYSTEMD_UNIT_PATH": f"{folder}:"},
    )
    return checked.stdout + checked.stderr + ("" if checked.returncode == 0 else f"exit {checked.returncode}")


def exposure(unit: Path, most: int) -> tuple[bool, str]:
    """Whether a unit is exposed at most so, in tenths; and what systemd-analyze says of it."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={most}", str(unit)]
    judged = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return judged.returncode == 0, judged.stdout + judged.stderr


@needs_systemd
@each_unit
def test_unit_is_accepted_by_systemd(unit: Path, tmp_path: Path) -> None:
    assert verify(unit, tmp_path) == ""


@needs_systemd
def test_timer_of_backups_is_accepted_by_systemd_and_starts_what_is_shipped(tmp_path: Path) -> None:
    timer, service = SHIPPED / units.TIMER, SHIPPED / units.BACKUP_UNIT
    verify(service, tmp_path)

    assert verify(timer, tmp_path) == ""
    assert f"Unit={service.name}\n" in timer.read_text()


@needs_systemd
def test_broken_variant_a_misspelt_key_of_a_unit_is_found(tmp_path: Path) -> None:
    assert "WatchdogSecs" in verify(REGISTRY, tmp_path, replacing=("WatchdogSec=", "WatchdogSecs="))


@needs_systemd
@each_unit
def test_unit_exposes_at_most_what_was_promised(unit: Path) -> None:
    daemon = unit.stem.removeprefix("fleetcast-")

    holds, said = exposure(unit, MOST_ON_GPUS if daemon in units.GPU_UNITS else MOST)

    assert holds, said


@needs_systemd
def test_broken_variant_a_unit_without_its_walls_is_too_exposed(tmp_path: Path) -> None:
    bare = tmp_path / REGISTRY.name
    bare.write_text(
        re.sub(r"(?m)^(RestrictNamespaces|SystemCallFilter|CapabilityBoundingSet)=.*$", "", REGISTRY.read_text())
    )

    holds, said = exposure(bare, MOST_ON_GPUS)

    assert not holds, said


@pytest.mark.parametrize("unit", DAEMONS, ids=lambda unit: unit.name)
def test_unit_starts_a_daemon_that_the_command_line_knows(unit: Path) -> None:
    (arguments,) = re.findall(r"(?m)^ExecStart=\S+ (.*)$", unit.read_text())

    # --help at the end: the arguments are parsed, nothing is started.
    parsed = subprocess.run([PROGRAM, *arguments.split(), "--help"], capture_output=True, text=True, timeout=60)

    assert parsed.returncode == 0, parsed.stderr
