"""`fleetcast backup …` as a person types it: what is printed, how it ends, and what is left behind."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.cli.stand import Cli, Stand, commands_in, standing

from fleetcast.cli.backup import commands
from fleetcast.cli.backup.drilling import Drill
from fleetcast.cli.backup.rules import DRILL_SECONDS
from fleetcast.cli.backup.taking import alone
from fleetcast.cli.problems import Exit


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("backups")) as found:
        found.do(found.order("hex8_2p", "1", "event-1", 1))
        yield found


@pytest.fixture
def cli(stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return commands_in(tmp_path, stand.url, monkeypatch, capsys)


@pytest.fixture
def public(cli: Cli) -> str:
    return cli("backup", "keys", "k").out.strip()


def test_a_backup_is_made_listed_verified_and_known_to_the_fleet(cli: Cli, public: str, tmp_path: Path) -> None:
    made = cli("backup", "create", "--folder", "b", "--to", public, "--json").document
    listed = cli("backup", "list", "--folder", "b", "--json").document["backups"]
    opened = cli("backup", "verify", made["backup"], "--identity", "k", "--json").document

    assert [row["backup"] for row in listed] == [Path(made["backup"]).name]
    assert (opened["ok"], opened["records"], opened["models"]) == (True, 1, 1)
    assert cli("backup", "verify", made["backup"]).code == 0
    (event,) = cli("events", "--type", "backup.taken", "--json").out.splitlines()
    assert json.loads(event)["data"]["sha256"] == made["sha256"]
    assert "newest of " in cli("check").out
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [".lock", Path(made["backup"]).name]


def test_without_a_public_key_nothing_is_written_and_the_next_command_is_named(cli: Cli, tmp_path: Path) -> None:
    refused = cli("backup", "create", "--folder", "b")

    assert (refused.code, "fleetcast backup keys FILE" in refused.err) == (Exit.USAGE, True)
    assert not (tmp_path / "b").exists()


def test_keys_are_never_replaced(cli: Cli, public: str, tmp_path: Path) -> None:
    before = (tmp_path / "k").read_text()

    assert cli("backup", "keys", "k").code == Exit.REFUSED
    assert (tmp_path / "k").read_text() == before
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    assert public not in ("", "k")


def test_a_restore_onto_the_fleet_itself_is_refused_and_needs_a_reason_before(cli: Cli, public: str) -> None:
    made = cli("backup", "create", "--folder", "b", "--to", public, "--json").document["backup"]

    assert cli("backup", "restore", made, "--identity", "k").code == Exit.USAGE
    for more in (("--reason", "tried"), ("--dry-run",)):
        refused = cli("backup", "restore", made, "--identity", "k", *more)
        assert refused.code == Exit.REFUSED
        assert "FC_REGISTRY with " in refused.err


def test_a_second_backup_at_the_same_time_is_refused(cli: Cli, public: str, tmp_path: Path) -> None:
    with alone(tmp_path / "b"):
        (tmp_path / "b" / ".left.fcbackup.part").touch()
        assert cli("backup", "create", "--folder", "b", "--to", public).code == Exit.REFUSED

    assert cli("backup", "create", "--folder", "b", "--to", public).code == 0
    # What one that was killed has left goes with the next.
    assert not (tmp_path / "b" / ".left.fcbackup.part").exists()


def test_a_drill_that_took_too_long_is_complete_once_somebody_says_why(
    cli: Cli, public: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cli("backup", "create", "--folder", "b", "--to", public, "--json").document["backup"]

    async def slow(reader: object, _key: object, **_more: object) -> Drill:
        result = {
            "taken_at": "2026-11-21T00:00:00Z",
            "size_bytes": 1,
            "streams": 1,
            "messages": 1,
            "chains_verified": 1,
            "records": 1,
            "audit_head": "a" * 64,
            "declared_otherwise": [],
            "servers": 1,
            "server": "2.15.1",
        }
        return Drill(made, {"restore and verify": DRILL_SECONDS + 1}, result)

    monkeypatch.setattr(commands, "rehearse", slow)
    late = cli("backup", "drill", made, "--identity", "k", "--reports", "r")
    (report,) = (tmp_path / "r").glob("*.json")
    assert (late.code, json.loads(report.read_text())["accepted"]) == (Exit.REFUSED, False)
    assert f"fleetcast backup notes {report.relative_to(tmp_path)}" in late.err

    assert cli("backup", "notes", str(report), "a slow disk; another one is ordered").code == 0
    assert json.loads(report.read_text())["accepted"] is True
    assert "a slow disk" in report.with_suffix(".md").read_text()
    assert cli("backup", "drill", made, "--identity", "k", "--reports", "r", "--notes", "known").code == 0
