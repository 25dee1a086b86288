"""`credential:FILE`: what the service manager hands to a daemon, by name."""

from pathlib import Path

from fleetcast.config.credentials import place
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
