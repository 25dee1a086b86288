"""The writing side: durable when it says so, bounded, and nothing lost but what is counted."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fleetcast.client.spool import SpoolError, SpoolFull, SpoolReader, SpoolWriter
from fleetcast.client.spool.record import decode_line


def records(folder: Path) -> list[bytes]:
    """All sound records in *folder*, without being its forwarder."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines(keepends=True)]
    return [record for record in map(decode_line, lines) if record is not None]


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.jsonl"))


def test_records_of_one_process_lie_in_one_file_in_order(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    for number in range(5):
        writer.append(b"%d" % number)
    assert records(tmp_path) == [b"0", b"1", b"2", b"3", b"4"]
    (name,) = segments(tmp_path)
    assert name.endswith(f"-{os.getpid()}.jsonl")


def test_folder_is_made_for_the_first_record(tmp_path: Path) -> None:
    SpoolWriter(tmp_path / "a" / "spool").append(b"1")
    assert records(tmp_path / "a" / "spool") == [b"1"]


def test_durable_record_is_on_the_disk_on_return_and_a_cheap_one_costs_no_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    writer = SpoolWriter(tmp_path)
    writer.append(b"cheap", durable=False)
    assert synced == []
    writer.append(b"dear")
    assert synced == [len(b"4 00000000 dear\n")]


def test_cheap_and_durable_records_lie_apart_so_that_only_cheap_ones_can_be_dropped(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(b"dear")
    writer.append(b"cheap", durable=False)
    durable, cheap = sorted(segments(tmp_path), key=lambda name: "cheap" in name)
    assert (tmp_path / durable).read_bytes().endswith(b" dear\n")
    assert (tmp_path / cheap).read_bytes().endswith(b" cheap\n")


def test_full_segment_is_closed_and_a_new_one_begun(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, segment_bytes=100)
    for number in range(10):
        writer.append(b"%030d" % number)
    assert len(segments(tmp_path)) == 5
    assert records(tmp_path) == [b"%030d" % number for number in range(10)]


def test_record_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, segment_bytes=100)
    writer.append(b"x" * 1000)
    assert records(tmp_path) == [b"x" * 1000]


def test_oldest_cheap_records_are_dropped_and_counted_when_space_ends(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, segment_bytes=100, cheap_bytes=500)
    for number in range(100):
        writer.append(b"%030d" % number, durable=False)
    left = records(tmp_path)
    assert left[-1] == b"%030d" % 99
    assert sum(path.stat().st_size for path in tmp_path.glob("*.jsonl")) <= 500
    assert writer.dropped == 100 - len(left)
    with SpoolReader(tmp_path) as reader:
        assert reader.dropped() == writer.dropped


def test_what_was_forwarded_is_not_counted_as_dropped(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, segment_bytes=100, cheap_bytes=300)
    with SpoolReader(tmp_path) as reader:
        for number in range(4):
            writer.append(b"%030d" % number, durable=False)
        first = next(reader.pending())
        reader.commit(first)
    for number in range(4):
        writer.append(b"%030d" % number, durable=False)
    assert writer.dropped == 8 - 1 - len(records(tmp_path))


def test_durable_records_are_never_dropped_but_refused_when_space_ends(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, segment_bytes=100, durable_bytes=300)
    for number in range(6):
        writer.append(b"%030d" % number)
    with pytest.raises(SpoolFull, match="bound of 300 bytes"):
        writer.append(b"%030d" % 6)
    assert records(tmp_path) == [b"%030d" % number for number in range(6)]
    assert writer.dropped == 0


def test_a_storm_of_cheap_records_leaves_room_for_durable_ones(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, segment_bytes=100, cheap_bytes=200, durable_bytes=200)
    for number in range(50):
        writer.append(b"%030d" % number, durable=False)
    writer.append(b"promotion")
    assert b"promotion" in records(tmp_path)


def test_segment_of_a_live_process_is_not_dropped(tmp_path: Path) -> None:
    other = SpoolWriter(tmp_path, segment_bytes=100, cheap_bytes=250)
    other.append(b"%060d" % 1, durable=False)
    writer = SpoolWriter(tmp_path, segment_bytes=100, cheap_bytes=250)
    for number in range(10):
        writer.append(b"%060d" % number, durable=False)
    assert b"%060d" % 1 in records(tmp_path)


def test_spool_that_somebody_deleted_is_begun_anew(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "spool")
    writer.append(b"1")
    for path in (tmp_path / "spool").iterdir():
        path.unlink()
    (tmp_path / "spool").rmdir()
    writer.append(b"2")
    assert records(tmp_path / "spool") == [b"2"]


def test_threads_share_a_writer(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, segment_bytes=2000)

    def write(thread: int) -> None:
        for number in range(100):
            writer.append(b"%d-%d" % (thread, number), durable=False)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = records(tmp_path)
    assert len(found) == 800
    for number in range(8):
        own = [record for record in found if record.startswith(b"%d-" % number)]
        assert own == [b"%d-%d" % (number, each) for each in range(100)]


def test_a_signal_handler_may_append_while_its_thread_appends(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    before = signal.signal(signal.SIGUSR1, lambda *_: writer.append(b"handler"))
    try:
        with writer._lock:
            os.kill(os.getpid(), signal.SIGUSR1)
            writer.append(b"main")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sorted(records(tmp_path)) == [b"handler", b"main"]


def test_child_after_fork_writes_its_own_file_and_leaves_the_lock_to_its_parent(tmp_path: Path) -> None:
    script = f"""
import os, sys
from fleetcast.client.spool import SpoolReader, SpoolWriter
writer = SpoolWriter({str(tmp_path)!r})
writer.append(b"before")
child = os.fork()
writer.append(b"child" if not child else b"parent")
if not child:
    sys.stdin.read()  # outlives its parent
    os._exit(0)
print(child)
"""
    # Standard output stays open in the child, so that the parent's end is not awaited through it.
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.wait(20) == 0
        with SpoolReader(tmp_path) as reader:
            assert sorted(record.data for record in reader.pending()) in (
                [b"before", b"child", b"parent"],
                [b"before", b"parent"],  # the child has not come so far yet
            )
            for record in reader.pending():
                reader.commit(record)
            # The parent's segment is gone although its child lives: the child kept no lock on it.
            assert not any(f"-{process.pid}." in name for name in segments(tmp_path))
    finally:
        process.stdin.close()
        process.stdout.read()
        process.stdout.close()


@pytest.mark.parametrize("room", [5, 20, 40])
def test_record_that_finds_the_disk_full_is_refused_and_leaves_no_torn_one(tmp_path: Path, room: int) -> None:
    script = f"""
import resource
from fleetcast.client.spool import SpoolFull, SpoolWriter
writer = SpoolWriter({str(tmp_path)!r})
writer.append(b"first")
size = writer._segments[True].size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + {room}, resource.RLIM_INFINITY))
try:
    writer.append(b"x" * 100)
except SpoolFull as full:
    print("refused", full)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.append(b"last")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused")
    damage: list[object] = []
    with SpoolReader(tmp_path, on_damaged=damage.append) as reader:
        assert [record.data for record in reader.pending()] == [b"first", b"last"]
    assert damage == []


def test_failed_sync_is_an_error_and_the_segment_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    writer = SpoolWriter(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fails)
        with pytest.raises(SpoolError, match="Input/output error"):
            writer.append(b"1")
    writer.append(b"2")
    assert len(segments(tmp_path)) == 2


def test_folder_that_cannot_be_written_is_an_error_of_the_spool(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="Not a directory"):
        SpoolWriter(tmp_path / "file" / "spool").append(b"1")


@pytest.mark.parametrize("record", [b"", b"a\nb", b"x" * 1_000_001])
def test_what_is_no_record_is_refused_before_it_is_written(tmp_path: Path, record: bytes) -> None:
    with pytest.raises(ValueError, match="a record"):
        SpoolWriter(tmp_path).append(record)
    assert segments(tmp_path) == []


def test_spool_of_ones_own_is_private(tmp_path: Path) -> None:
    SpoolWriter(tmp_path).append(b"1")
    assert stat.S_IMODE((tmp_path / segments(tmp_path)[0]).stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write as another user")
@pytest.mark.parametrize(("folder_mode", "mode"), [(0o1777, 0o644), (0o3775, 0o640)])
def test_forwarder_of_another_user_can_read_what_was_written(tmp_path: Path, folder_mode: int, mode: int) -> None:
    os.chown(tmp_path, 12345, 12345)
    tmp_path.chmod(folder_mode)
    SpoolWriter(tmp_path).append(b"1")
    status = (tmp_path / segments(tmp_path)[0]).stat()
    assert stat.S_IMODE(status.st_mode) == mode
    if folder_mode & stat.S_ISGID:
        assert status.st_gid == 12345


def test_the_limit_of_this_process_is_untouched() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
