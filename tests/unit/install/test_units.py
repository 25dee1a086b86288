"""The units as values: what every one of them promises, and what each daemon needs of its walls."""

import re
from pathlib import Path

import pytest

from fleetcast.cli.daemon import DAEMONS
from fleetcast.cli.install import units
from fleetcast.cli.install.units import Line, merged
from fleetcast.config.settings import DistributorSettings
from fleetcast.daemons.runtime import Grace

SHIPPED = Path(__file__).parents[3] / "deploy"


def settings(unit: str) -> dict[str, list[str]]:
    """What a unit sets, by key; comments and sections left out."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"(?m)^(\w+)=(.*)$", unit):
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", units.shipped())
def test_shipped_unit_is_what_install_writes(name: str) -> None:
    said = "renew it: python -m fleetcast.cli.install.units deploy"

    assert (SHIPPED / name).read_text() == units.shipped()[name], said


def test_nothing_else_is_shipped_as_a_unit() -> None:
    shipped = {
        path.name for path in (SHIPPED / "systemd").iterdir() if path.suffix in {".service", ".target", ".timer"}
    }

    assert shipped == set(units.files())


def test_every_daemon_has_a_unit_a_role_and_a_place_in_the_order() -> None:
    assert set(units.PROFILES) >= set(DAEMONS)
    assert {daemon for daemons in units.ROLES.values() for daemon in daemons} == set(units.PROFILES)
    assert sorted(units.RESTART_ORDER) == sorted(units.PROFILES)


@pytest.mark.parametrize("daemon", units.PROFILES)
def test_unit_is_told_when_its_daemon_is_ready_alive_and_wrong(daemon: str) -> None:
    unit = settings(units.service(daemon))

    assert unit["Type"] == ["notify"]
    assert unit["WatchdogSec"] == ["30"]
    assert (unit["Restart"], unit["StartLimitIntervalSec"]) == (["always"], ["0"])
    assert unit["RestartPreventExitStatus"] == ["2"]


@pytest.mark.parametrize("daemon", units.PROFILES)
def test_secrets_come_as_credentials_of_the_daemon_alone_never_as_environment(daemon: str) -> None:
    unit = settings(units.service(daemon))

    assert unit["LoadCredential"] == [f"fleetcast:/etc/fleetcast/credentials/{daemon}"]
    assert "Environment" not in unit
    assert "EnvironmentFile" not in unit


@pytest.mark.parametrize("daemon", units.PROFILES)
def test_unit_has_more_time_to_stop_than_its_daemon_allows_itself(daemon: str) -> None:
    grace = Grace(drain_seconds=DistributorSettings().drain_seconds)
    (allowed,) = settings(units.service(daemon))["TimeoutStopSec"]

    assert int(allowed) > grace.total_seconds + grace.exit_seconds


def test_stopping_the_trainer_leaves_its_runs_their_processes_their_files_and_their_shared_memory() -> None:
    unit = settings(units.service("trainer"))

    assert unit["KillMode"] == ["process"]
    assert unit["PrivateTmp"] == ["no"]
    # Across user namespaces, and each life of a unit has its own, ProtectProc hides even one's own processes.
    assert unit["PrivateUsers"] == ["no"]
    # The last unit of the user takes them, whichever it is.
    assert all(settings(units.service(daemon))["RemoveIPC"] == ["no"] for daemon in units.PROFILES)


def test_trainer_may_make_control_groups_and_what_gpus_and_compilers_need() -> None:
    unit = settings(units.service("trainer"))

    assert (unit["Delegate"], unit["ProtectControlGroups"]) == (["yes"], ["no"])
    assert unit["MemoryDenyWriteExecute"] == ["no"]
    assert {"char-nvidia rw", "char-kfd rw", "char-drm rw"} <= set(unit["DeviceAllow"])


def test_no_unit_uses_a_setting_that_systemd_252_does_not_know() -> None:
    newer = {"RestartSteps", "RestartMaxDelaySec", "MemoryZSwapMax", "OpenFile", "ImportCredential", "PrivatePIDs"}

    assert not newer & {key for text in units.files().values() for key in settings(text)}


def test_what_differs_takes_the_place_of_all_common_settings_of_its_key() -> None:
    common = [Line("A", "1"), Line("B", "1"), Line("B", "2"), Line("C", "1")]

    rows = merged(common, [Line("B", "3"), Line("D", "1"), Line("C", None)])

    assert [(row.key, row.value) for row in rows] == [("A", "1"), ("B", "3"), ("D", "1")]


def test_backups_are_made_every_day_where_decisions_are_made_and_nowhere_else() -> None:
    service, timer = settings(units.backup_service()), settings(units.backup_timer())

    assert set(units.beside(units.ROLES["control"])) == {"fleetcast-backup.service", "fleetcast-backup.timer"}
    assert not any(units.beside(units.ROLES[role]) for role in ("node", "gpu", "gateway"))
    assert (timer["OnCalendar"], timer["Persistent"]) == (["daily"], ["yes"])
    assert (service["Type"], service["UMask"]) == (["oneshot"], ["0077"])
    assert service["LoadCredential"] == ["fleetcast:/etc/fleetcast/credentials/backup"]
