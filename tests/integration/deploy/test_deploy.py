"""What is shipped for operation is accepted by the programs it is for."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fleetcast.bus.server import find_server, render_config
from fleetcast.config.settings import DistributorSettings
from fleetcast.daemons.runtime import Grace

DEPLOY = Path(__file__).parents[3] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
OWN_TO_A_PLACE = {"server_name", "listen", "http", "store_dir"}

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing (apt-get install systemd)"
)


def check_server_config(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([find_server().path, "-t", "-c", path], capture_output=True, text=True, timeout=20)


def directives(text: str) -> dict[str, str]:
    """The settings of a nats-server configuration, without blocks and comments."""
    plain = re.sub(r"(?m)^\s*#.*$|[{}]", "", text)
    return {key: value.strip().strip('"') for key, value in re.findall(r"(\w+):\s*(\S.*)", plain)}


def verify_unit(unit: Path, folder: Path, *, replacing: tuple[str, str] = ("", "")) -> str:
    """What systemd-analyze finds wrong with a unit whose program stands where this test's does."""
    program = Path(sys.executable).with_name("fleetcast")
    copy = folder / unit.name
    copy.write_text(unit.read_text().replace("/opt/fleetcast/bin/fleetcast", str(program)).replace(*replacing))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, timeout=60
    )
    return checked.stdout + checked.stderr + ("" if checked.returncode == 0 else f"exit {checked.returncode}")


def test_shipped_server_configuration_is_accepted_by_the_server() -> None:
    checked = check_server_config(DEPLOY / "nats" / "single.conf")

    assert checked.returncode == 0, checked.stderr


def test_broken_variant_a_misspelt_setting_is_not_accepted(tmp_path: Path) -> None:
    broken = tmp_path / "single.conf"
    broken.write_text((DEPLOY / "nats" / "single.conf").read_text().replace("sync_interval", "sync_intervall"))

    assert check_server_config(broken).returncode != 0


def test_shipped_server_configuration_says_what_up_says() -> None:
    shipped = directives((DEPLOY / "nats" / "single.conf").read_text())
    generated = directives(render_config(name="n", store=Path("/s"), host="127.0.0.1", port=4222, http_port=8222))

    assert set(shipped) == set(generated)
    assert {key for key in shipped if shipped[key] != generated[key]} <= OWN_TO_A_PLACE


def test_every_setting_of_the_server_is_explained() -> None:
    readme = (DEPLOY / "nats" / "README.md").read_text()

    for name in ("sync_interval: always", "strict: true", "js_ack_fc_v2: false", "max_payload", "max_file", "http"):
        assert name in readme


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_is_accepted_by_systemd(unit: Path, tmp_path: Path) -> None:
    assert verify_unit(unit, tmp_path) == ""


@needs_systemd
def test_broken_variant_a_misspelt_key_of_a_unit_is_found(tmp_path: Path) -> None:
    assert "WatchdogSecs" in verify_unit(UNITS[0], tmp_path, replacing=("WatchdogSec=", "WatchdogSecs="))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_starts_a_daemon_that_the_command_line_knows(unit: Path) -> None:
    arguments = re.findall(r"(?m)^ExecStart=\S+ (.*)$", unit.read_text())[0].split()
    program = Path(sys.executable).with_name("fleetcast")

    # --help at the end: the arguments are parsed, nothing is started.
    parsed = subprocess.run([program, *arguments, "--help"], capture_output=True, text=True, timeout=60)

    assert parsed.returncode == 0, parsed.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_gives_its_daemon_more_time_to_stop_than_it_takes(unit: Path) -> None:

    grace = Grace(drain_seconds=DistributorSettings().drain_seconds)
    allowed = int(re.findall(r"(?m)^TimeoutStopSec=(\d+)$", unit.read_text())[0])

    assert allowed > grace.total_seconds + grace.exit_seconds
