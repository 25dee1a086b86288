"""A disk that takes long holds a job for a bounded time."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetcast.client.patience import PatientSync


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def test_disk_that_answers_is_waited_for(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append((os.fstat(fd).st_dev, os.fstat(fd).st_ino)))
    sync = PatientSync(30)
    sync(file)
    assert synced == [(os.fstat(file).st_dev, os.fstat(file).st_ino)]
    assert sync.late == 0


def test_disk_that_hangs_holds_the_first_event_for_the_bound_and_the_others_not_at_all(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda _fd: answers.wait(60))
    sync = PatientSync(0.2)
    began = time.monotonic()
    for _ in range(1000):
        sync(file)
    assert 0.2 <= time.monotonic() - began < 10
    assert sync.late == 1000
    answers.set()
    assert sync._waiting is not None
    sync._waiting.join(30)
    sync(file)
    assert sync.late == 1000, "the disk is back, and is waited for again"


def test_disk_that_fails_is_an_error_of_the_event(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        PatientSync(30)(file)


def test_no_descriptor_is_left_open(file: int) -> None:
    sync = PatientSync(30)
    sync(file)
    before = set(Path("/proc/self/fd").iterdir())
    for _ in range(20):
        sync(file)
    assert set(Path("/proc/self/fd").iterdir()) <= before


def test_machine_without_threads_left_is_no_error(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    sync = PatientSync(30)
    sync(file)
    assert sync.late == 1
    sync(file)
    assert sync.late == 2
