"""The checker itself: every rule of `aftermath` is given something broken, and must find it."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.system.faults import aftermath
from tests.system.faults.aftermath import Fetched, Moves, Seen
from tests.system.faults.machine import Turn, lost_seconds

ROOT = Path(__file__).parents[3]
ARTIFACT, DIGEST = "a" * 64, hashlib.sha256(b"right").hexdigest()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder as a healthy node leaves it."""
    data = tmp_path / "node-1" / "data"
    blob = data / "store/sha256" / DIGEST[:2] / DIGEST
    for folder in ("models/m/1", "models/m/.installs", "models_essential", "spool", "staging", "artifacts"):
        (data / folder).mkdir(parents=True)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"right")
    torrent = data / "swarm" / ARTIFACT / ARTIFACT[:16]
    torrent.mkdir(parents=True)
    for name in (torrent / "m.bin", data / "models/m/1/m.bin", data / "models_essential/m.bin"):
        os.link(blob, name)
    (data / "models/m/current").symlink_to("1")
    records = ("models/m/.slot.json", "models/m/slots.json", "models/m/.installs/1.json", f"artifacts/{ARTIFACT}.json")
    for plain in (".capability", *records):
        (data / plain).write_text("{}")
    (data / "spool" / f"{'0' * 26}-17.jsonl").write_text("")
    return data


def test_a_healthy_folder_has_no_leftovers(data: Path) -> None:
    assert aftermath.leftovers(data) == []


@pytest.mark.parametrize(
    "name",
    [
        "staging/anything",
        "quarantine/sha256-of-something",
        "swarm/x.bin",
        f"swarm/{ARTIFACT}/{ARTIFACT[:16]}/m.bin.aria2",
        f"swarm/{ARTIFACT}/{ARTIFACT[:16]}/.m.bin.Xy12Zw",
        f"swarm/{ARTIFACT}/{ARTIFACT[:16]}/unfinished.bin",
        f"store/sha256/{DIGEST[:2]}/{DIGEST}.part",
        "models/m/1/m.bin.tmp",
        "models/m/.slot.json.next",
        "aria2.conf",
        "core",
    ],
)
def test_a_leftover_is_named(data: Path, name: str) -> None:
    (data / name).parent.mkdir(parents=True, exist_ok=True)
    (data / name).write_bytes(b"left")
    assert aftermath.leftovers(data) == [f"node-1: {name}"]


def test_a_quarantine_is_allowed_only_where_a_test_says_so(data: Path) -> None:
    (data / "quarantine").mkdir()
    (data / "quarantine/1").write_bytes(b"bad")
    assert aftermath.leftovers(data, quarantine=True) == []
    assert aftermath.leftovers(data) != []


def test_wrong_and_missing_bytes_are_named(data: Path) -> None:
    wrong, missing = data / "wrong", data / "missing"
    wrong.write_bytes(b"wrong")
    served = {"good": data / "models/m/current/m.bin", "bad": wrong, "none": missing}
    found = aftermath.wrong_bytes(served, DIGEST)
    assert [line.split()[0] for line in found] == ["bad", "none"]


def test_more_than_a_tenth_fetched_again_is_named() -> None:
    fetched = [Fetched("just", 110, 100), Fetched("over", 111, 100), Fetched("late", 0, 100)]
    assert [line.split()[0] for line in aftermath.fetched_again(fetched)] == ["over"]


def test_what_was_on_its_way_from_every_source_may_come_twice() -> None:
    asked = aftermath.ASKED_BYTES
    fetched = [Fetched("just", 110 + 2 * asked, 100, sources=2), Fetched("over", 111 + 2 * asked, 100, sources=2)]
    assert [line.split()[0] for line in aftermath.fetched_again(fetched)] == ["over"]


def test_a_gap_is_named_and_an_excused_one_is_not() -> None:
    times = [0.0, 1.0, 9.0, 10.0]
    assert aftermath.gaps([Moves("still", times)], 5)[0].startswith("still stood still for 8.0 s, 1.0 s after")
    assert aftermath.gaps([Moves("excused", times, [(2.0, 6.0), (3.0, 8.0)])], 5) == []
    assert aftermath.gaps([Moves("half", times, [(2.0, 4.0), (20.0, 30.0)])], 5) != []
    assert aftermath.gaps([Moves("quick", times)], 8.5) == []


def test_time_that_a_busy_machine_did_not_give_is_no_gap_and_all_other_time_is() -> None:
    # Turns of 50 ms of rest and 1 ms of work, but one that took from 4.08 to 8.08.
    idle = [Turn(at, at + 0.05, at + 0.051) for at in (n * 0.051 for n in range(80))]
    turns = [*idle, Turn(4.08, 6.0, 8.08)]
    times = [0.0, 1.0, 9.0, 10.0]

    assert lost_seconds(turns, 0.0, 4.08) == pytest.approx(0.0)
    assert lost_seconds(turns, 0.0, 10.0) == pytest.approx(3.949)
    assert lost_seconds(turns, 6.08, 10.0) == pytest.approx(3.949 / 2)
    assert aftermath.gaps([Moves("starved", times)], 5, turns) == []
    assert aftermath.gaps([Moves("still", times)], 4, turns)[0].startswith("still stood still for 4.1 s, 1.0 s after")
    # What is excused already is not lost a second time.
    assert aftermath.gaps([Moves("still", times, [(4.0, 8.2)])], 3.5, turns) != []
    assert aftermath.gaps([Moves("still", times)], 5) != []


def test_clock_beside_a_fleet_tells_how_long_the_machine_had_no_time() -> None:
    command = [sys.executable, "-c", _WATCH_MACHINE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        while time.monotonic() < began + 1:
            time.sleep(0.1)
        process.send_signal(signal.SIGCONT)
        lost, _ = process.communicate("\n", timeout=30)
    assert float(lost) > 0.9


_WATCH_MACHINE = """
import time
from tests.system.faults.machine import Machine, lost_seconds
machine = Machine()
with machine.watched():
    while len(machine.turns) < 3:
        time.sleep(0.01)
    print("watching", flush=True)
    input()
print(lost_seconds(machine.turns, 0, time.monotonic()))
"""


def test_an_orphan_is_found_by_its_mark_even_when_its_parent_is_gone() -> None:
    mark = f"mark-of-{os.getpid()}"
    # The shell ends at once and leaves its child behind; the child has no word of ours in its command line.
    shell = ["sh", "-c", f"{sys.executable} -c 'import time; time.sleep(60)' >/dev/null 2>&1 & echo $!"]
    left = int(subprocess.run(shell, env={**os.environ, "MARK": mark}, capture_output=True, check=True).stdout)
    deadline = time.monotonic() + 10
    while not (found := [s for s in aftermath.marked(mark) if s.pid == left]):
        assert time.monotonic() < deadline
    assert aftermath.orphans(found)[0].startswith(f"process {left} is left")
    os.kill(left, 9)
    while aftermath.is_alive(found[0]):
        assert time.monotonic() < deadline
    assert aftermath.orphans(found) == []


def test_another_process_with_the_number_of_an_old_one_is_no_orphan() -> None:
    (me, *_) = aftermath.family(os.getpid())
    assert aftermath.orphans([me]) != []
    assert aftermath.orphans([Seen(me.pid, me.created - 1, me.command)]) == []
