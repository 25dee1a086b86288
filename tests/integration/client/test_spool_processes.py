"""Several processes on one spool, some of them killed: what was acknowledged is delivered."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleetcast.client.spool import Damaged, SpoolBusy, SpoolReader

# Prints a number once its record is promised. The broken variant leaves records in the memory of its process, as a
# logger or an ordinary file would.
WRITER = """
import sys
from fleetcast.client.spool import SpoolWriter
folder, name, kind = sys.argv[1:4]
writer = SpoolWriter(folder, segment_bytes=4000)
if kind == "broken":
    from fleetcast.client.spool.record import encode_line
    writer.append(b"%s-0" % name.encode())
    file = open(next(iter(writer._segments.values())).path, "ab", buffering=10**6)
    writer.append = lambda record, durable: file.write(encode_line(record))
number = 0
while True:
    number += 1
    writer.append(b"%s-%d" % (name.encode(), number), durable=kind == "durable")
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""

FORWARDER = """
import sys
from fleetcast.client.spool import SpoolReader
with SpoolReader(sys.argv[1]) as reader:
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def process(script: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A child that runs *script*; killed at the end if it still runs."""
    child = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def promised(child: "subprocess.Popen[bytes]", records: int) -> int:
    """Let *child* write so many records, kill it in the middle of the next ones, and say which it promised last."""
    assert child.stdout is not None
    said = b"".join(child.stdout.readline() for _ in range(records))
    child.send_signal(signal.SIGKILL)
    said += child.stdout.read()
    return int(said.split(b"\n")[-2])


def forwarded(folder: Path, damaged: list[Damaged]) -> list[bytes]:
    done = []
    with SpoolReader(folder, on_damaged=damaged.append) as reader:
        for record in reader.pending():
            done.append(record.data)
            reader.commit(record)
    return done


def lost_by(kind: str, folder: Path) -> int:
    """How many records that a killed writer of *kind* had promised are not there."""
    with process(WRITER, str(folder), "w", kind) as child:
        last = promised(child, 300)
    damaged: list[Damaged] = []
    found = set(forwarded(folder, damaged))
    assert damaged == []
    return len({b"w-%d" % number for number in range(1, last + 1)} - found)


@pytest.mark.parametrize("kind", ["durable", "cheap"])
def test_killed_job_loses_nothing_that_it_was_promised(tmp_path: Path, kind: str) -> None:
    assert lost_by(kind, tmp_path) == 0


def test_the_rig_notices_a_writer_that_keeps_records_in_memory(tmp_path: Path) -> None:
    assert lost_by("broken", tmp_path) > 0


def test_forwarder_follows_jobs_that_write_meanwhile(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    received: list[bytes] = []
    with (
        process(WRITER, str(tmp_path), "a", "cheap") as a,
        process(WRITER, str(tmp_path), "b", "durable") as b,
        process(WRITER, str(tmp_path), "c", "cheap") as c,
        SpoolReader(tmp_path) as reader,
    ):
        last = {}
        for name, child in zip(names, (a, b, c), strict=True):
            assert child.stdout is not None
            child.stdout.readline()
            for record in reader.pending():
                received.append(record.data)
                reader.commit(record)
            last[name] = promised(child, 50)
        # Hidden: a job that was killed between making and naming its segment; swept after an hour.
        while [path for path in tmp_path.glob("*.jsonl") if not path.name.startswith(".")]:
            for record in reader.pending():
                received.append(record.data)
                reader.commit(record)
    for name in names:
        own = [record for record in received if record.startswith(name.encode() + b"-")]
        assert own == [b"%s-%d" % (name.encode(), number) for number in range(1, len(own) + 1)]
        assert len(own) >= last[name]
    assert not list(tmp_path.glob("*.offset"))


def test_forwarder_that_is_killed_makes_way_for_the_next(tmp_path: Path) -> None:
    with process(FORWARDER, str(tmp_path)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        with pytest.raises(SpoolBusy):
            SpoolReader(tmp_path)
        child.send_signal(signal.SIGKILL)
        child.wait()
        SpoolReader(tmp_path).close()


@pytest.mark.soak
@pytest.mark.parametrize("round_", range(50))
def test_killed_job_loses_nothing_however_often(tmp_path: Path, round_: int) -> None:
    with process(WRITER, str(tmp_path), "w", "cheap") as child:
        last = promised(child, 1 + 7 * round_)
    damaged: list[Damaged] = []
    assert {b"w-%d" % number for number in range(1, last + 1)} <= set(forwarded(tmp_path, damaged))
    assert damaged == []
