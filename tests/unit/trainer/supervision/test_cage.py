"""A control group is made only where nobody else keeps order."""

import errno
import os
from pathlib import Path

import pytest

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
