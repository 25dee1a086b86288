"""`fleetcast install` into the root folder of an image, by systemd's own tools: again and again, and back."""

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from fleetcast.cli.entry import run

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("systemd-sysusers") is None,
    reason="needs root and systemd's tools (apt-get install systemd)",
)
UNITS = Path("etc/systemd/system")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root folder of an image with one fleetcast in it."""
    version(tmp_path, "1.0")
    return tmp_path


def version(root: Path, name: str) -> None:
    """Put a fleetcast where the units look for one."""
    program = root / "opt/fleetcast" / name / "bin" / "fleetcast"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)


def tree(root: Path) -> dict[str, tuple[str, int, int, bytes]]:
    """Everything below *root*: mode, owner, group, content."""
    found = {}
    for path in sorted(root.rglob("*")):
        about = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        content = str(path.readlink()).encode() if path.is_symlink() else content
        found[str(path.relative_to(root))] = (stat.filemode(about.st_mode), about.st_uid, about.st_gid, content)
    return found


def ids(root: Path) -> tuple[int, int]:
    """User and group of fleetcast in the image."""
    rows = [row.split(":") for row in (root / "etc/passwd").read_text().splitlines()]
    (row,) = (row for row in rows if row[0] == "fleetcast")
    return int(row[2]), int(row[3])


def answered(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def install(root: Path, role: str, *options: str) -> int:
    return run(["install", role, "--root", str(root), "--use", "1.0", *options])


def test_node_gets_its_user_its_folders_and_its_unit(root: Path) -> None:
    assert install(root, "node") == 0

    found, (uid, gid) = tree(root), ids(root)
    assert found["var/lib/fleetcast"][:3] == ("drwxr-xr-x", uid, gid)
    assert found["etc/fleetcast/fleetcast.toml"][:3] == ("-rw-r-----", 0, gid)
    assert found["etc/fleetcast/credentials/distributor"][:3] == ("drwx------", 0, 0)
    assert found["opt/fleetcast/current"][3] == b"1.0"
    wants = UNITS / "fleetcast.target.wants" / "fleetcast-distributor.service"
    assert found[str(wants)][3] == b"/etc/systemd/system/fleetcast-distributor.service"
    assert str(UNITS / "multi-user.target.wants" / "fleetcast.target") in found


def test_second_installation_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(root, "gpu")
    before = tree(root)
    capsys.readouterr()

    assert install(root, "gpu", "--json") == 0

    assert tree(root) == before
    assert {step["state"] for step in answered(capsys)["steps"] if "state" in step} == {"same", "kept"}


def test_settings_of_a_person_survive_every_installation(root: Path) -> None:
    install(root, "node")
    settings = root / "etc/fleetcast/fleetcast.toml"
    settings.write_text('[bus]\nurl = "nats://10.0.0.1:4222"\n')

    assert install(root, "gpu") == 0
    assert install(root, "control") == 0

    assert settings.read_text() == '[bus]\nurl = "nats://10.0.0.1:4222"\n'


def test_print_shows_every_file_and_command_and_touches_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(root)

    assert install(root, "node", "--print") == 0

    shown = capsys.readouterr().out
    assert tree(root) == before
    assert "WatchdogSec=30" in shown
    assert f"run     systemd-sysusers --root={root} fleetcast.conf" in shown
    assert "file    /etc/fleetcast/fleetcast.toml  0640 root:fleetcast  new" in shown


def test_folders_that_the_settings_name_are_opened_and_closed_again(root: Path) -> None:
    install(root, "node")
    settings = root / "etc/fleetcast/fleetcast.toml"
    drop_in = root / UNITS / "fleetcast-distributor.service.d" / "20-settings.conf"
    settings.write_text('[store]\ndata = "/srv/models"\n')

    install(root, "node")
    opened = drop_in.read_text()
    settings.write_text("")
    install(root, "node")

    assert "ReadWritePaths=-/srv/models\n" in opened
    assert not drop_in.exists()


def test_wrong_settings_refuse_the_installation_before_anything_is_written(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(root, "node")
    (root / "etc/fleetcast/fleetcast.toml").write_text("[bus]\nreplicas = 9\n")
    before = tree(root)

    assert install(root, "gpu") == 2

    assert tree(root) == before
    assert "bus.replicas" in capsys.readouterr().err


def test_uninstalling_leaves_data_settings_user_and_the_other_role(root: Path) -> None:
    install(root, "gpu")
    install(root, "control")
    model = root / "var/lib/fleetcast/model"
    model.write_bytes(b"weights")

    assert run(["uninstall", "control", "--root", str(root)]) == 0
    left = {path.name for path in (root / UNITS).glob("*.service")}
    assert run(["uninstall", "gpu", "--root", str(root)]) == 0

    assert left == {"fleetcast-distributor.service", "fleetcast-trainer.service"}
    assert not [*(root / UNITS).rglob("*fleetcast*")]
    assert model.read_bytes() == b"weights"
    assert (root / "etc/fleetcast/fleetcast.toml").is_file()
    assert ids(root)


def test_purge_needs_a_reason_and_the_end_of_all_other_roles(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(root, "node")
    install(root, "gateway")
    before = tree(root)

    assert run(["uninstall", "node", "--root", str(root), "--purge"]) == 2
    assert run(["uninstall", "node", "--root", str(root), "--purge", "--reason", "old"]) == 4

    assert tree(root) == before
    assert "gateway still need what would be purged" in capsys.readouterr().err


def test_purge_takes_data_settings_secrets_and_the_user(root: Path) -> None:
    install(root, "node")
    (root / "etc/fleetcast/credentials/distributor/nats.nk").write_text("SU...")

    assert run(["uninstall", "node", "--root", str(root), "--purge", "--reason", "sold"]) == 0

    assert not (root / "var/lib/fleetcast").exists()
    assert not (root / "etc/fleetcast").exists()
    assert "fleetcast" not in (root / "etc/passwd").read_text()


def test_upgrade_and_rollback_move_one_link_and_lose_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(root, "node")
    version(root, "1.1")
    before = tree(root)
    capsys.readouterr()

    assert run(["install", "node", "--root", str(root), "--use", "1.1", "--json"]) == 0
    upgraded = tree(root)
    changed = [step["path"] for step in answered(capsys)["steps"] if step.get("state") == "changed"]
    assert install(root, "node") == 0

    assert changed == ["/opt/fleetcast/current"]
    assert upgraded["opt/fleetcast/current"][3] == b"1.1"
    assert tree(root) == before


def test_version_that_is_not_there_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["install", "node", "--root", str(root), "--use", "7"]) == 3

    assert "/opt/fleetcast/7/bin/fleetcast" in capsys.readouterr().err
    assert not (root / "etc").exists()


def test_unknown_role_names_the_known_ones(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(root, "nodes") == 2

    assert "node, gpu, control, gateway" in capsys.readouterr().err


def test_somebody_who_is_not_root_is_told_so_and_may_look(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert install(root, "node") == 1
    refused = capsys.readouterr()
    assert install(root, "node", "--print") == 0

    assert "sudo fleetcast install node" in refused.err
    assert "WatchdogSec=30" in capsys.readouterr().out
    assert not (root / "etc").exists()
