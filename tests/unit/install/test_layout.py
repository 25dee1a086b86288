"""What belongs on a machine: folders and files, by role and by what its settings name."""

from pathlib import Path

from fleetcast.cli.install import layout
from fleetcast.config.backup import BackupSettings
from fleetcast.config.settings import DistributorSettings, RegistrySettings, Settings, StoreSettings
from fleetcast.daemons.trainer.lanes.loading import Lanes, load_all

NO_LANES = Lanes({})


def test_standard_folders_need_nothing_more_than_the_unit_gives() -> None:
    for role in ("gpu", "control", "gateway"):
        for daemon in layout.daemons_of([role]):
            assert layout.writable(Settings(), NO_LANES, daemon) == ()


def test_folders_elsewhere_are_opened_to_the_daemons_that_write_them_and_to_no_other() -> None:
    settings = Settings(
        store=StoreSettings(data=Path("/srv/models")),
        distributor=DistributorSettings(spools=(Path("/home/ada/spool"),)),
        registry=RegistrySettings(read_model=Path("/srv/fast/read.sqlite")),
    )

    found = {daemon: set(layout.writable(settings, NO_LANES, daemon)) for daemon in ("distributor", "registry")}

    assert {Path("/srv/models"), Path("/home/ada/spool")} <= found["distributor"]
    assert found["registry"] == {Path("/srv/fast"), Path("/srv/models/metrics")}


def test_folder_in_a_home_opens_homes_for_reading_only() -> None:
    files = layout.files_of(["registry"], {"registry": (Path("/home/ada/db"),)})

    (drop_in,) = (file.text for file in files if file.path == layout.drop_in_path("registry"))
    assert "ReadWritePaths=-/home/ada/db\n" in drop_in
    assert "ProtectHome=read-only\n" in drop_in


def test_jobs_that_lie_in_a_home_open_homes_to_the_trainer_for_reading(tmp_path: Path) -> None:
    file = tmp_path / "lanes.toml"
    file.write_text('[lane.l]\ncommand = ["python3", "/home/ada/train.py"]\n')
    opened = layout.files_of(["trainer"], {}, at_home=["trainer"])

    assert layout.works_at_home(load_all(file))
    assert not layout.works_at_home(NO_LANES)
    assert "ProtectHome=read-only\n" in next(f.text for f in opened if f.path == layout.drop_in_path("trainer"))


def test_settings_that_are_there_are_never_replaced() -> None:
    kept = [file.path for file in layout.files_of(["distributor"], {}) if file.keep]

    assert kept == [Path("/etc/fleetcast/fleetcast.toml")]


def test_settings_are_read_by_the_daemons_and_written_by_root_only() -> None:
    (file,) = (file for file in layout.files_of(["distributor"], {}) if file.keep)

    assert (file.mode, file.group) == (0o640, "fleetcast")


def test_only_what_computes_on_gpus_joins_their_groups() -> None:
    assert "m fleetcast render" in layout.sysusers(["distributor", "trainer"])
    assert "render" not in layout.sysusers(["distributor", "registry"])


def test_each_daemon_has_a_folder_of_secrets_that_only_root_reads() -> None:
    assert "d /etc/fleetcast/credentials/notifier 0700 root root\n" in layout.tmpfiles(["registry", "notifier"])


def test_backups_elsewhere_are_opened_to_the_service_that_writes_them() -> None:
    elsewhere = Settings(backup=BackupSettings(folder=Path("/mnt/backups")))
    files = layout.files_of(["registry"], {"backup": layout.writable(elsewhere, NO_LANES, "backup")})

    assert layout.writable(Settings(), NO_LANES, "backup") == ()
    (drop_in,) = (file.text for file in files if file.path == layout.drop_in_path("backup"))
    assert "ReadWritePaths=-/mnt/backups\n" in drop_in
