"""A folder is there, or it is gone: a daemon that dies while it deletes leaves nothing that bears a run's name."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetcast.daemons.trainer.folders import removal
from fleetcast.transport import failpoints
from fleetcast.transport.failpoints import failpoint


class Died(BaseException):
    """The process does nothing more."""


def filled(runs: Path, name: str = "hex8-1") -> Path:
    folder = runs / name
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "1.npz").write_bytes(b"x" * 5000)
    for file in ("spec.json", "state.json", "stdout.log", "stderr.log"):
        (folder / file).write_text("{}")
    return folder


def in_place(folder: Path) -> None:
    """As somebody would write it: what a crash leaves looks like a run that has no logs."""
    for each in sorted(folder.iterdir()):
        each.unlink()
        failpoint("folders.delete.before")


def die_at(point: str, folder: Path, remove: Callable[[Path], None] = removal.remove) -> None:
    def watcher(name: str) -> None:
        if name == point:
            raise Died

    with failpoints.watched(watcher), pytest.raises(Died):
        remove(folder)


def test_a_folder_goes_with_all_that_is_in_it_and_others_stay(tmp_path: Path) -> None:
    gone, stays = filled(tmp_path), filled(tmp_path, "hex8-2")
    removal.remove(gone)
    assert removal.found(tmp_path) == [stays]
    assert not (tmp_path / removal.GOING).exists()
    assert (stays / "checkpoints" / "1.npz").exists()


def test_a_daemon_that_dies_while_it_deletes_has_set_the_folder_aside_and_the_next_one_finishes(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    die_at("folders.delete.before", folder)
    assert removal.found(tmp_path) == []
    removal.finish(tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_a_daemon_that_dies_before_the_rename_has_changed_nothing(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    die_at("folders.aside.before", folder)
    assert removal.found(tmp_path) == [folder]
    assert (folder / "stdout.log").exists()
    removal.remove(folder)
    assert removal.found(tmp_path) == []


@pytest.mark.soak
def test_broken_variant_deleting_in_place_leaves_half_a_folder(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    shutil.rmtree(folder / "checkpoints")
    die_at("folders.delete.before", folder, in_place)
    assert removal.found(tmp_path) == [folder]
    assert not (folder / "spec.json").exists()


def test_neither_a_link_nor_a_lock_nor_a_stranger_is_a_run_s_folder(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    (tmp_path / ".lock").touch()
    (tmp_path / "hex8-3").symlink_to(folder)
    (tmp_path / "Not A Run").mkdir()
    assert removal.found(tmp_path) == [folder]
    assert removal.found(tmp_path / "none") == []


def test_what_a_folder_takes_is_what_the_disk_has_of_it(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    with (folder / "sparse").open("wb") as file:
        file.truncate(2**30)
    before = removal.measured(folder)
    assert 5000 < before.bytes < 2**20
    os.utime(folder / "stdout.log", (2e9, 2e9))
    assert removal.measured(folder).changed_at.timestamp() == 2e9
