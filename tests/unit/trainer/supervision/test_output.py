"""Logs are bounded, and read back by offsets while they grow and are cut."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.trainer.supervision import output
from fleetcast.daemons.trainer.supervision.output import LEAST_PART_BYTES, PARTS, Log, Tail, last_lines, parts_of
from fleetcast.daemons.trainer.supervision.reading import read_end, read_last_lines, read_piece

PART = LEAST_PART_BYTES
MOST = PART * PARTS


def written(path: Path, *chunks: bytes) -> Log:
    log = Log(path, MOST)
    for chunk in chunks:
        log.write(chunk)
    return log


def kept(path: Path, whole: bytes) -> None:
    """Everything that can be read is what was written at that offset."""
    at = 0
    while (piece := read_piece(path, at, 1000)).data:
        assert whole[piece.start : piece.next] == piece.data
        assert piece.start >= at
        at = piece.next
    assert at == len(whole) == piece.end


@given(sizes=st.lists(st.integers(0, 3 * PART), max_size=12))
def test_whatever_is_kept_is_read_at_the_offset_where_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("log") / "stdout.log"
    chunks = [os.urandom(size) for size in sizes]
    whole = b"".join(chunks)
    log = written(path, *chunks)
    assert log.end == len(whole)
    assert log.lost == 0
    assert sum(file.stat().st_size for file in path.parent.iterdir()) <= MOST
    kept(path, whole)
    assert read_piece(path, 0, PART).data == whole[:PART]
    assert read_piece(path, max(len(whole) - PART, 0), PART).next <= len(whole)


def test_a_gap_is_seen_by_where_the_next_bytes_begin(tmp_path: Path) -> None:
    path = tmp_path / "stdout.log"
    log = written(path, b"a" * PART * 7)
    starts = [start for start, _ in parts_of(path)]
    assert starts == [0, PART * 4, PART * 5]
    piece = read_piece(path, PART + 10, 50)
    assert (piece.start, piece.end) == (PART * 4, log.end)


def test_a_log_goes_on_where_an_earlier_supervisor_left_it(tmp_path: Path) -> None:
    path = tmp_path / "stdout.log"
    written(path, b"a" * (PART + 10))
    log = written(path, b"b" * 5)
    assert log.end == PART + 15
    kept(path, b"a" * (PART + 10) + b"b" * 5)


def test_what_finds_no_room_is_counted_and_told_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    log = Log(tmp_path / "stdout.log", MOST, clock=lambda: now)
    log.write(b"before\n")
    write = os.write

    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.write(b"x" * 10)
    monkeypatch.setattr(os, "write", write)
    log.write(b"y" * 5)
    assert log.lost == 15
    now += output.RETRY_SECONDS
    log.write(b"after\n")
    assert (tmp_path / "stdout.log").read_bytes() == (
        b"before\n\n[fleetcast] 15 bytes of output were lost here: No space left on device\nafter\n"
    )
    assert log.lost == 15


def test_a_log_that_cannot_be_opened_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "stdout.log").mkdir()
    log = Log(tmp_path / "stdout.log", MOST)
    log.write(b"abc")
    assert log.lost == 3


def test_a_log_does_not_follow_a_link_that_the_command_has_laid(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "stdout.log").symlink_to(tmp_path / "precious")
    log = Log(tmp_path / "stdout.log", MOST)
    log.write(b"abc")
    assert (tmp_path / "precious").read_text() == "precious"


def test_full_parts_give_way_to_what_matters_more(tmp_path: Path) -> None:
    path = tmp_path / "stdout.log"
    log = written(path, b"a" * PART * 3)
    log.give_way()
    assert parts_of(path) == []


def test_the_tail_is_what_a_terminal_would_show_last() -> None:
    tail = Tail()
    for percent in range(5000):
        tail.add(f"\rstep {percent}: loss 0.{percent}".encode())
    tail.add(b"\nTraceback (most recent call last):\r\n  boom \xff\n")
    assert tail.lines() == ("step 4999: loss 0.4999", "Traceback (most recent call last):", "  boom \ufffd")


def test_the_tail_is_bounded_in_lines_and_in_their_length() -> None:
    tail = Tail()
    tail.add(b"x" * 1_000_000)
    for i in range(100):
        tail.add(b"\n%d" % i)
    lines = tail.lines()
    assert lines == tuple(str(i) for i in range(60, 100))
    assert [len(line) for line in last_lines(b"x" * 5000)] == [1000]
    assert last_lines(b"") == ()


@pytest.mark.parametrize(
    ("lines", "expected"), [(0, b""), (1, b"three\n"), (2, b"two\nthree\n"), (9, b"one\ntwo\nthree\n")]
)
def test_the_last_lines_of_a_log_are_counted_from_its_end(tmp_path: Path, lines: int, expected: bytes) -> None:
    path = tmp_path / "stderr.log"
    written(path, b"one\ntwo\nthree\n")
    found = read_last_lines(path, lines, 1000)
    assert found.data == expected
    assert found.next == 14


def test_a_line_without_end_is_the_last_line_too(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    written(path, b"one\ntwo")
    assert read_last_lines(path, 1, 1000).data == b"two"
    assert read_last_lines(path, 1, 2).data == b"wo"


def test_the_end_of_a_log_goes_over_its_parts_and_not_before_the_start_that_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    written(path, b"a" * PART, b"b" * 10)
    assert read_end(path, most_bytes=20).data == b"a" * 10 + b"b" * 10
    assert read_end(path, at_least=PART + 3).data == b"b" * 7
    assert read_end(tmp_path / "nonesuch.log").data == b""
