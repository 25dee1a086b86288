"""Jobs on machines where something is wrong: they end as they would have ended, and what is lost is counted and said.

Every rig has a broken client beside the real one, and notices it."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fleetcast.client.spool import Damaged, SpoolReader

EXIT_SECONDS = 5.0
"""What a client may add to the end of a job."""


def environment(spool: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLEETCAST_", "RANK", "SLURM_"))}
    # NATS is nowhere: the client must not care.
    own = {"FLEETCAST_SPOOL": str(spool), "FLEETCAST_NODE_ID": "gpu-1", "NATS_URL": "nats://127.0.0.1:9"}
    return {**kept, **own, "HOME": str(spool.parent / "home"), "XDG_STATE_HOME": str(spool)}


def job(spool: Path, script: str, *, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], env=environment(spool), capture_output=True, text=True, timeout=timeout
    )


def records(folder: Path) -> tuple[list[dict[str, Any]], list[Damaged]]:
    """What a forwarder would send, and what it would find damaged."""
    damaged: list[Damaged] = []
    with SpoolReader(folder, on_damaged=damaged.append) as reader:
        return [json.loads(record.data) for record in reader.pending()], damaged


# -- the disk


FILLING = """
import os, sys
from fleetcast.client import emit, lost, run
BROKEN
disk = os.path.dirname(os.environ["FLEETCAST_SPOOL"])
with run("hex8_2p") as r:
    hold = open(disk + "/hold", "wb")
    try:
        while True:
            hold.write(b"x" * 65536); hold.flush()
    except OSError:
        pass
    for step in range(3000):
        emit("run.metrics.logged", run_id=r.id, step=step, metrics={"loss": 1.0, "pad": "x" * 2000})
    r.log_epoch(0, loss=1.0, note={"pad" + "x" * 90 + str(n): n for n in range(100)})
    full = lost()
    os.truncate(disk + "/hold", 0)
    r.log_epoch(1, loss=0.5)
print(full, lost())
"""
RAISING = """
import fleetcast.client.runs
from fleetcast.client.emit import emitter
emit = lambda kind, **fields: emitter().emit(kind, fields)
"""


def fill(disk: Path, broken: str = "") -> subprocess.CompletedProcess[str]:
    return job(disk / "spool", FILLING.replace("BROKEN", broken))


def test_job_on_a_full_disk_ends_well_and_what_is_lost_is_counted_and_said(small_disk: Path) -> None:
    done = fill(small_disk)
    assert done.returncode == 0, done.stderr
    full, total = map(int, done.stdout.split())
    assert full == total > 1000, "when there is room again nothing more is lost"
    first, last = done.stderr.splitlines()
    assert "an event was lost" in first
    assert "No space left" in first
    assert last == f"fleetcast: {total} events of this job were lost"
    events, damaged = records(small_disk / "spool")
    assert not damaged
    kinds = Counter(event["type"] for event in events)
    assert kinds["run.started.v1"] == kinds["run.finished.v1"] == 1
    assert 1 in [event["data"]["epoch"] for event in events if event["type"] == "run.epoch.logged.v1"]


def test_the_rig_notices_a_client_that_lets_a_full_disk_end_the_job(small_disk: Path) -> None:
    done = fill(small_disk, RAISING)
    assert done.returncode != 0


def test_full_disk_leaves_no_litter_of_empty_files(small_disk: Path) -> None:
    fill(small_disk)
    assert len(list((small_disk / "spool").iterdir())) < 20


READ_ONLY = """
import os, subprocess
from fleetcast.client import lost, run
subprocess.run(["mount", "-o", "remount,ro", os.path.dirname(os.environ["FLEETCAST_SPOOL"])], check=True)
with run("hex8_2p") as r:
    for epoch in range(3):
        r.log_epoch(epoch, loss=1.0)
print(lost())
"""


def test_job_on_a_disk_that_is_read_only_ends_well_and_says_what_is_lost(small_disk: Path) -> None:
    done = job(small_disk / "spool", READ_ONLY)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5, "run.started, three epochs and run.finished"
    assert "no spool can be written" in done.stderr.splitlines()[0]
    assert done.stderr.splitlines()[-1] == f"fleetcast: {int(done.stdout)} events of this job were lost"


HANGING = """
import os, time
os.fdatasync = os.fsync = lambda descriptor: time.sleep(60)
from fleetcast.client import emit, run
BROKEN
with run("hex8_2p") as r:
    for epoch in range(50):
        r.log_epoch(epoch, loss=1.0)
"""
IMPATIENT = """
from fleetcast.client.patience import PatientSync
PatientSync.__call__ = lambda self, descriptor: os.fdatasync(descriptor)
"""


def test_job_ends_within_5_s_with_nats_dead_and_a_disk_that_hangs(tmp_path: Path) -> None:
    began = time.monotonic()
    done = job(tmp_path / "spool", HANGING.replace("BROKEN", ""), timeout=30)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert took < EXIT_SECONDS
    events, _ = records(tmp_path / "spool")
    assert len(events) == 52, "what waits for the disk is in the page cache, where the job's end does not reach it"


def test_the_rig_notices_a_client_that_waits_for_the_disk_as_long_as_it_takes(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        job(tmp_path / "spool", HANGING.replace("BROKEN", IMPATIENT), timeout=EXIT_SECONDS / 2)


# -- threads and forks


CROWD = """
import os, threading
BROKEN_EARLY
from fleetcast.client import emit, lost
BROKEN
said = []
def work(name):
    for number in range(200):
        said.append(emit("run.metrics.logged", run_id="r", step=number, metrics={"who": name}))
emit("run.metrics.logged", run_id="r", step=0)
threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
for t in threads: t.start()
children = []
for n in range(5):
    child = os.fork()
    if not child:
        said.clear()
        work(100 + n)
        os.write(1, ("\\n".join(said) + "\\n").encode())
        os._exit(0 if not lost() else 9)
    children.append(child)
for t in threads: t.join()
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
os.write(1, ("\\n".join(said) + "\\n").encode())
assert not lost()
"""
WITHOUT_LOCK = """
import contextlib, time
from fleetcast.client.spool.segment import Segment
from fleetcast.client.spool.writer import SpoolWriter
def halves(self, line):
    os.write(self._descriptor, line[:20]); time.sleep(0); os.write(self._descriptor, line[20:])
Segment.append = halves
made = SpoolWriter.__init__
def unlocked(self, *a, **k):
    made(self, *a, **k); self._lock = contextlib.nullcontext()
SpoolWriter.__init__ = unlocked
"""
WITHOUT_FORK = "os.register_at_fork = lambda **hooks: None\n"


def crowd(folder: Path, *, early: str = "", late: str = "", threads: int = 8) -> tuple[set[str], Counter[str], int]:
    """What eight threads and five children were promised, how often each event lies in the spool, and what is damaged
    there."""
    script = CROWD.replace("BROKEN_EARLY", early).replace("BROKEN", late).replace("THREADS", str(threads))
    done = job(folder, script)
    assert done.returncode == 0, done.stderr
    events, damaged = records(folder)
    return set(done.stdout.split()), Counter(event["id"] for event in events), len(damaged)


def numbers(ids: set[str]) -> set[str]:
    """What stands behind the time in *ids*: a random number that counts up, another one in every process."""
    return {each[10:] for each in ids}


def test_eight_threads_and_forks_in_their_middle_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    promised, found, damaged = crowd(tmp_path / "spool")
    assert len(numbers(promised)) == 13 * 200
    assert set(found) >= promised
    assert max(found.values()) == 1
    assert damaged == 0


def test_the_rig_notices_a_writer_that_threads_can_interrupt(tmp_path: Path) -> None:
    promised, found, damaged = crowd(tmp_path / "spool", late=WITHOUT_LOCK)
    assert damaged or not set(found) >= promised


def test_the_rig_notices_children_that_go_on_with_the_numbers_of_their_parent(tmp_path: Path) -> None:
    # Without threads: with them, such a child may wait for ever for a lock that one of them held.
    promised, _, _ = crowd(tmp_path / "spool", early=WITHOUT_FORK, threads=0)
    assert len(numbers(promised)) == 200, "only the millisecond keeps their events apart"


# -- the clock


JUMPING = """
import time
real, shift = time.time_ns, 0
time.time_ns = lambda: real() + shift
from fleetcast.client import emit
for shift in (0, -3600 * 10**9, 3600 * 10**9, -(10**18), 10**9):
    for _ in range(50):
        print(emit("run.metrics.logged", run_id="r", step=1))
"""


def test_clock_that_jumps_to_and_fro_neither_doubles_nor_reorders(tmp_path: Path) -> None:
    done = job(tmp_path / "spool", JUMPING)
    assert (done.returncode, done.stderr) == (0, "")
    promised = done.stdout.split()
    assert promised == sorted(set(promised)), "ids grow whatever the clock does"
    events, _ = records(tmp_path / "spool")
    assert [event["id"] for event in events] == promised
