"""Which folder a process spools to."""

from pathlib import Path

import pytest

from fleetcast.client import folders
from fleetcast.client.folders import spool_folder
from fleetcast.client.spool import SpoolError


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The spool of a node, as `/var/lib/fleetcast/spool` is; not there yet."""
    monkeypatch.setattr(folders, "NODE_SPOOL", str(tmp_path / "node"))
    return tmp_path / "node"


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "home"), **more}


def test_folder_that_is_named_comes_first_and_is_made(node: Path, tmp_path: Path) -> None:
    named = tmp_path / "named" / "spool"
    folder = spool_folder(environ(tmp_path, FLEETCAST_SPOOL=str(named), FLEETCAST_STORE_DATA=str(tmp_path / "data")))
    assert folder == str(named)
    assert named.stat().st_mode & 0o777 == 0o700


def test_data_folder_of_the_settings_comes_second(node: Path, tmp_path: Path) -> None:
    assert spool_folder(environ(tmp_path, FLEETCAST_STORE_DATA=str(tmp_path))) == str(tmp_path / "spool")


def test_spool_of_the_node_is_used_but_never_made(node: Path, tmp_path: Path) -> None:
    assert spool_folder(environ(tmp_path)) == str(tmp_path / "home" / "fleetcast" / "spool")
    assert not node.exists()
    node.mkdir()
    assert spool_folder(environ(tmp_path)) == str(node)


def test_folder_that_cannot_be_written_gives_way_to_the_next(node: Path, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    node.mkdir()
    assert spool_folder(environ(tmp_path, FLEETCAST_SPOOL=str(taken / "spool"))) == str(node)


def test_offline_events_stay_out_of_the_spool_of_the_node(node: Path, tmp_path: Path) -> None:
    node.mkdir()
    known = environ(tmp_path, FLEETCAST_STORE_DATA=str(tmp_path))
    assert spool_folder(known, offline=True) == str(tmp_path / "home" / "fleetcast" / "offline")
    assert spool_folder({**known, "FLEETCAST_SPOOL": str(tmp_path / "mine")}, offline=True) == str(tmp_path / "mine")


def test_nothing_writable_is_refused_with_what_was_tried(node: Path, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    with pytest.raises(SpoolError, match="set FLEETCAST_SPOOL") as refused:
        spool_folder({"XDG_STATE_HOME": str(taken)})
    assert str(node) in str(refused.value)
