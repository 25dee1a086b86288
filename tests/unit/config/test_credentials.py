"""`credential:FILE`: what the service manager hands to a daemon, by name."""

from pathlib import Path

import pytest

from fleetcast.bus.credentials import read_private
from fleetcast.bus.errors import OperationRefused
from fleetcast.config.credentials import place, readable_by_others
from fleetcast.config.loader import load


def test_daemons_of_one_machine_share_a_setting_and_have_a_key_each(tmp_path: Path) -> None:
    file = tmp_path / "fleetcast.toml"
    file.write_text('[bus]\nnkey = "credential:nats.nk"\n')
    keys = []
    for daemon in ("distributor", "registry"):
        folder = tmp_path / daemon
        folder.mkdir()
        # As systemd names them: LoadCredential=fleetcast:FOLDER.
        (folder / "fleetcast_nats.nk").write_text("SU...")
        keys.append(load(file, env={"CREDENTIALS_DIRECTORY": str(folder)}).settings.bus.nkey)

    assert keys == [tmp_path / "distributor" / "fleetcast_nats.nk", tmp_path / "registry" / "fleetcast_nats.nk"]


def test_credential_of_a_unit_of_ones_own_has_its_bare_name(tmp_path: Path) -> None:
    (tmp_path / "slack").write_text("x")

    assert place("credential:slack", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == tmp_path / "slack"


def test_commands_of_a_person_have_the_operators_credentials() -> None:
    assert place("credential:nats.nk", {}) == Path("/etc/fleetcast/credentials/operator/nats.nk")


def test_path_that_is_no_credential_is_taken_from_the_files_folder_as_ever(tmp_path: Path) -> None:
    file = tmp_path / "fleetcast.toml"
    file.write_text('[bus]\nnkey = "node.nk"\n')

    assert load(file, env={"CREDENTIALS_DIRECTORY": "/run/x"}).settings.bus.nkey == tmp_path / "node.nk"


# By the group's permission to read, systemd's access list shows.
PASSED_ON = {0o400: False, 0o440: False, 0o460: True, 0o450: True, 0o444: True, 0o402: True}
OWN = {0o600: False, 0o700: False, 0o640: True, 0o620: True, 0o604: True, 0o601: True}


def test_only_reading_by_the_group_is_taken_for_the_access_list_of_the_service_manager(tmp_path: Path) -> None:
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert {mode: readable_by_others(tmp_path / "nkey", mode, env) for mode in PASSED_ON} == PASSED_ON
    assert {mode: readable_by_others(Path("/etc/nkey"), mode, env) for mode in OWN} == OWN
    assert {mode: readable_by_others(tmp_path / "nkey", mode, {}) for mode in OWN} == OWN


@pytest.mark.parametrize("mode", PASSED_ON)
def test_a_key_of_the_bus_goes_by_the_same_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    key = tmp_path / "nkey"
    key.write_text("SU\n")
    key.chmod(mode)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    if PASSED_ON[mode]:
        with pytest.raises(OperationRefused, match=f"mode {mode:04o}"):
            read_private(key)
    else:
        assert read_private(key) == "SU"
