"""A control group is made only where nobody else keeps order."""

import errno
import os
import time
from pathlib import Path

import pytest

from fleetcast.daemons.trainer.supervision import cage
from fleetcast.daemons.trainer.supervision.cage import is_ours


def test_without_systemd_a_group_may_be_made(tmp_path: Path) -> None:
    assert is_ours(tmp_path, root=tmp_path)


def test_under_systemd_a_group_may_be_made_only_where_it_was_delegated(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert not is_ours(tmp_path, root=tmp_path)
    try:
        os.setxattr(tmp_path, "user.delegate", b"1")
    except OSError as fault:
        if fault.errno == errno.ENOTSUP:
            pytest.skip("this file system keeps no extended attributes")
        raise
    assert is_ours(tmp_path, root=tmp_path)
    os.setxattr(tmp_path, "user.delegate", b"0")
    assert not is_ours(tmp_path, root=tmp_path)


def test_empty_groups_of_supervisors_that_were_killed_are_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cage, "own_group", lambda: tmp_path)
    monkeypatch.setattr(cage, "is_ours", lambda _: True)
    for name, age in (("fleetcast-old", 3600), ("fleetcast-new", 0), ("another", 3600), ("fleetcast-full", 3600)):
        (tmp_path / name).mkdir()
        if name == "fleetcast-full":
            (tmp_path / name / "below").mkdir()
        os.utime(tmp_path / name, times=(time.time() - age,) * 2)
    # There is no cgroup.kill in a folder of a test, so that nothing is made.
    assert cage.Cage.make("token") is None
    assert sorted(each.name for each in tmp_path.iterdir()) == ["another", "fleetcast-full", "fleetcast-new"]
