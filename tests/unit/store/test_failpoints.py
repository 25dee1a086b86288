"""Failpoints do nothing until they are armed, and then exactly what was asked."""

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fleetcast.transport.failpoints import arm, failpoint, watched


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm("")


def test_unarmed_point_does_nothing() -> None:
    failpoint("install.publish.before")


def test_armed_point_raises_the_named_error_once() -> None:
    arm("a.before=raise:ENOSPC;b.before=raise:EIO")
    failpoint("c.before")
    with pytest.raises(OSError, match=r"failpoint a\.before") as raised:
        failpoint("a.before")
    assert raised.value.errno == errno.ENOSPC
    failpoint("a.before")


def test_point_acts_on_the_passage_that_was_asked_for() -> None:
    arm("a.before=raise:EIO@3")
    failpoint("a.before")
    failpoint("a.before")
    with pytest.raises(OSError, match="failpoint"):
        failpoint("a.before")


def test_unknown_action_is_a_mistake() -> None:
    arm("a=explode")
    with pytest.raises(ValueError, match="unknown action 'explode'"):
        failpoint("a")


def test_watcher_is_told_every_name_while_it_watches() -> None:
    names: list[str] = []
    with watched(names.append):
        failpoint("a")
        failpoint("b")
    failpoint("c")
    assert names == ["a", "b"]


def test_environment_arms_a_process() -> None:
    code = "from fleetcast.transport.failpoints import failpoint; failpoint('a'); failpoint('b'); print('alive')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"FLEETCAST_FAILPOINTS": "a=sleep:0.001;b=kill"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""
