"""The reading side: at least once, one forwarder, and damage that never blocks."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.client.spool import Damaged, SpoolBusy, SpoolError, SpoolReader, SpoolWriter
from fleetcast.client.spool.reader import MAX_DAMAGED
from fleetcast.client.spool.record import encode_line
from fleetcast.client.ulid import new_ulid


def write(folder: Path, *records: bytes, durable: bool = True) -> None:
    """Append *records* as a process that ends afterwards."""
    writer = SpoolWriter(folder)
    for record in records:
        writer.append(record, durable=durable)
    writer.close()


def plant(folder: Path, content: bytes) -> Path:
    """A segment with *content*, whose writer is gone."""
    path = folder / f"{new_ulid()}-1.jsonl"
    path.write_bytes(content)
    return path


class Forwarder:
    """A reader and what it was told."""

    def __init__(self, folder: Path) -> None:
        self.damaged: list[Damaged] = []
        self.reader = SpoolReader(folder, on_damaged=self.damaged.append)

    def seen(self) -> list[bytes]:
        return [record.data for record in self.reader.pending()]

    def forward(self) -> list[bytes]:
        """All that waits, committed one by one."""
        done = []
        for record in self.reader.pending():
            done.append(record.data)
            self.reader.commit(record)
        return done


@pytest.fixture
def forwarder(tmp_path: Path) -> Iterator[Forwarder]:
    made = Forwarder(tmp_path)
    yield made
    made.reader.close()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in {"forwarder.lock", "damaged"})


def test_records_come_in_order_and_what_is_done_is_deleted(tmp_path: Path, forwarder: Forwarder) -> None:
    write(tmp_path, b"1", b"2")
    write(tmp_path, b"3")
    assert forwarder.reader.waiting() == 3
    assert forwarder.forward() == [b"1", b"2", b"3"]
    assert forwarder.reader.waiting() == 0
    assert left(tmp_path) == []


def test_record_that_was_not_committed_comes_again(tmp_path: Path, forwarder: Forwarder) -> None:
    write(tmp_path, b"1", b"2", b"3")
    first = next(forwarder.reader.pending())
    assert forwarder.seen() == [b"1", b"2", b"3"]
    forwarder.reader.commit(first)
    assert forwarder.seen() == [b"2", b"3"]


def test_the_next_forwarder_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    write(tmp_path, b"1", b"2", b"3")
    with SpoolReader(tmp_path) as reader:
        reader.commit(next(reader.pending()))
    with SpoolReader(tmp_path) as reader:
        assert [record.data for record in reader.pending()] == [b"2", b"3"]


def test_commit_of_an_earlier_record_takes_nothing_back(tmp_path: Path, forwarder: Forwarder) -> None:
    write(tmp_path, b"1", b"2", b"3")
    first, second, _ = forwarder.reader.pending()
    forwarder.reader.commit(second)
    forwarder.reader.commit(first)
    assert forwarder.seen() == [b"3"]


def test_two_forwarders_are_refused(tmp_path: Path, forwarder: Forwarder) -> None:
    with pytest.raises(SpoolBusy, match="another process forwards it"):
        SpoolReader(tmp_path)
    forwarder.reader.close()
    SpoolReader(tmp_path).close()


def test_segment_of_a_live_process_stays_until_it_ends(tmp_path: Path, forwarder: Forwarder) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(b"1")
    assert forwarder.forward() == [b"1"]
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    writer.append(b"2")
    assert forwarder.forward() == [b"2"]
    writer.close()
    assert forwarder.forward() == []
    assert left(tmp_path) == []


def test_record_that_a_live_process_is_writing_waits(tmp_path: Path, forwarder: Forwarder) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(b"1")
    descriptor = writer._segments[True]._descriptor
    line = encode_line(b"2")
    os.write(descriptor, line[:5])
    assert forwarder.forward() == [b"1"]
    assert forwarder.damaged == []
    os.write(descriptor, line[5:])
    assert forwarder.forward() == [b"2"]
    writer.close()


def test_torn_last_record_of_a_dead_process_is_set_aside(tmp_path: Path, forwarder: Forwarder) -> None:
    whole, torn = encode_line(b"1"), encode_line(b"2")[:-3]
    path = plant(tmp_path, whole + torn)
    assert forwarder.forward() == [b"1"]
    assert forwarder.forward() == []
    (damaged,) = forwarder.damaged
    assert damaged.reason.startswith("torn")
    assert (damaged.file, damaged.offset) == (path.name, len(whole))
    assert Path(damaged.kept).read_bytes() == torn
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [b"\n", b"garbage\n", b"\0" * 500 + b"\n", b"5 00000000 hello\n", b"999 12345678 {}\n", b"9" * 100 + b" x y\n"],
)
def test_damaged_record_is_set_aside_and_blocks_nothing(tmp_path: Path, forwarder: Forwarder, damage: bytes) -> None:
    plant(tmp_path, encode_line(b"1") + damage + encode_line(b"2"))
    assert forwarder.forward() == [b"1", b"2"]
    (damaged,) = forwarder.damaged
    assert Path(damaged.kept).read_bytes() == damage
    assert Path(damaged.kept).with_suffix(".reason").read_text().strip() == damaged.reason
    assert left(tmp_path) == []


def test_record_behind_a_torn_one_in_the_same_line_is_saved(tmp_path: Path, forwarder: Forwarder) -> None:
    torn = encode_line(b"1")[:-4]
    plant(tmp_path, torn + encode_line(b"2") + encode_line(b"3"))
    assert forwarder.forward() == [b"2", b"3"]
    assert Path(forwarder.damaged[0].kept).read_bytes() == torn
    assert left(tmp_path) == []


def test_damage_is_told_once_although_nothing_before_it_was_committed(tmp_path: Path, forwarder: Forwarder) -> None:
    plant(tmp_path, encode_line(b"1") + b"garbage\n" + encode_line(b"2"))
    for _ in range(3):
        assert forwarder.seen() == [b"1", b"2"]
    assert len(forwarder.damaged) == 1


def test_line_beyond_every_record_is_read_in_pieces_and_set_aside(tmp_path: Path, forwarder: Forwarder) -> None:
    plant(tmp_path, encode_line(b"1") + b"x" * 2_500_000 + b"\n" + encode_line(b"2"))
    assert forwarder.forward() == [b"1", b"2"]
    assert sum(Path(damaged.kept).stat().st_size for damaged in forwarder.damaged) == 2_500_001


def test_damaged_records_are_kept_up_to_a_bound(tmp_path: Path, forwarder: Forwarder) -> None:
    plant(tmp_path, b"".join(b"garbage %d\n" % number for number in range(MAX_DAMAGED + 20)))
    forwarder.forward()
    kept = sorted((tmp_path / "damaged").glob("*.bytes"))
    assert len(kept) == MAX_DAMAGED
    assert kept[-1].read_bytes() == b"garbage %d\n" % (MAX_DAMAGED + 19)


def test_damage_that_cannot_be_set_aside_stays_and_blocks_nothing(tmp_path: Path, forwarder: Forwarder) -> None:
    path = plant(tmp_path, b"garbage\n" + encode_line(b"1"))
    (tmp_path / "damaged" / f"{path.name}@{0:012d}.bytes").mkdir()
    assert forwarder.seen() == [b"1"]
    assert forwarder.seen() == [b"1"]
    (damaged,) = forwarder.damaged
    assert damaged.kept == ""
    assert "could not be set aside" in damaged.reason
    assert path.exists()


def test_sound_record_that_nobody_can_use_is_set_aside_with_the_reason(tmp_path: Path, forwarder: Forwarder) -> None:
    write(tmp_path, b"{}", b"1")
    unusable = next(forwarder.reader.pending())
    damaged = forwarder.reader.set_aside(unusable, "specversion is missing")
    assert Path(damaged.kept).read_bytes() == b"{}"
    assert forwarder.forward() == [b"1"]


@pytest.mark.parametrize(
    "offset", [b"", b"garbage", b"20 00000000 00000000000000000005\n", encode_line(b"%020d" % 10**6)]
)
def test_damaged_offset_makes_a_repeat_and_never_a_gap(tmp_path: Path, offset: bytes) -> None:
    path = plant(tmp_path, encode_line(b"1") + encode_line(b"2"))
    Path(f"{path}.offset").write_bytes(offset)
    forwarder = Forwarder(tmp_path)
    assert forwarder.forward() == [b"1", b"2"]
    assert left(tmp_path) == []
    forwarder.reader.close()


def test_offset_without_its_segment_is_swept(tmp_path: Path, forwarder: Forwarder) -> None:
    (tmp_path / f"{new_ulid()}-1.jsonl.offset").write_text("5")
    forwarder.forward()
    assert left(tmp_path) == []


def test_hidden_file_of_a_process_that_died_early_is_swept_when_it_is_old(tmp_path: Path, forwarder: Forwarder) -> None:
    old, young = (tmp_path / f".{new_ulid()}-1.jsonl" for _ in range(2))
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    forwarder.forward()
    assert left(tmp_path) == [young.name]


def test_empty_segment_of_a_dead_process_is_deleted(tmp_path: Path, forwarder: Forwarder) -> None:
    plant(tmp_path, b"")
    assert forwarder.forward() == []
    assert left(tmp_path) == []


def test_links_and_pipes_that_somebody_planted_are_not_followed(tmp_path: Path, forwarder: Forwarder) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(encode_line(b"secret"))
    (tmp_path / f"{new_ulid()}-1.jsonl").symlink_to(secret)
    os.mkfifo(tmp_path / f"{new_ulid()}-2.jsonl")
    write(tmp_path, b"1")
    assert forwarder.forward() == [b"1"]
    assert len(forwarder.damaged) == 2
    assert all("cannot be read" in damaged.reason for damaged in forwarder.damaged)


def test_folder_of_damage_that_is_a_link_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "damaged").symlink_to(elsewhere)
    with pytest.raises(SpoolError, match="is a link"):
        SpoolReader(spool)


def test_files_that_are_no_segments_are_left_alone(tmp_path: Path, forwarder: Forwarder) -> None:
    (tmp_path / "notes.jsonl").write_bytes(encode_line(b"1"))
    (tmp_path / ("x" * 240 + ".jsonl")).write_bytes(b"garbage")
    assert forwarder.forward() == []
    assert len(left(tmp_path)) == 2


def test_commit_succeeds_although_its_offset_cannot_be_written(tmp_path: Path, forwarder: Forwarder) -> None:
    write(tmp_path, b"1", b"2")
    (path,) = tmp_path.glob("*.jsonl")
    Path(f"{path}.offset").mkdir()
    assert forwarder.forward() == [b"1", b"2"]
    assert not path.exists()


LINES = st.lists(
    st.tuples(st.sampled_from(["sound", "damaged"]), st.binary(min_size=1, max_size=20)), min_size=1, max_size=8
)


@settings(deadline=None, max_examples=60)
@given(lines=LINES, tail=st.binary(max_size=10), commits=st.lists(st.booleans(), max_size=8))
def test_every_sound_record_is_delivered_whatever_lies_around_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, bytes]], tail: bytes, commits: list[bool]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    clean = [(kind, data.replace(b"\n", b".")) for kind, data in lines]
    content = b"".join(encode_line(data) if kind == "sound" else b"!" + data + b"\n" for kind, data in clean)
    plant(folder, content + tail.replace(b"\n", b"."))
    sound = [data for kind, data in clean if kind == "sound"]
    forwarder = Forwarder(folder)
    # A first pass that commits only some of them, as with a bus that goes away; then a clean one.
    committed = 0
    for number, record in enumerate(forwarder.reader.pending()):
        if commits[number : number + 1] != [True]:
            break
        forwarder.reader.commit(record)
        committed += 1
    forwarder.reader.close()
    forwarder = Forwarder(folder)
    assert forwarder.forward() == sound[committed:]
    forwarder.forward()
    assert left(folder) == []
    forwarder.reader.close()
