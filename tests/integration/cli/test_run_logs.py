"""`fleetcast logs RUN`, as a person types it, against nodes that have the run."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.cli.stand import Cli, commands_in, ended, standing, start
from tests.integration.cli.stand import Stand as Fleet
from tests.integration.trainer.supervision.stand import Stand

from fleetcast.bus import Service
from fleetcast.bus.errors import ServiceFailed
from fleetcast.daemons.trainer.ledger import TrainingLedger, stored
from fleetcast.daemons.trainer.supervision.handle import Handle
from fleetcast.daemons.trainer.supervision.service import PIECE_BYTES, LogDesk
from fleetcast.events.state import Cause
from fleetcast.events.training import TrainingPhase, TrainingRunState, logs_subject, training_subject

AT = "2026-11-21T12:00:00Z"
CAUSE = Cause(event="01K0000000000000000000TEST", sequence=1, by="/fleet/node-1/test", correlation="x")


class Room:
    """A fleet, and the folders of runs on its nodes."""

    def __init__(self, fleet: Fleet, home: Path) -> None:
        self.fleet = fleet
        self.home = home
        self.runs = Stand(home)

    def keep(self, name: str, phase: TrainingPhase, owner: str | None) -> None:
        """What is kept of a run."""

        async def write() -> None:
            ledger = TrainingLedger(self.fleet.bus)
            before = await ledger.find(training_subject(name), TrainingRunState)
            state = TrainingRunState(
                run=name, lane="chess", model="chess", phase=phase, owner=owner, created_at=AT, at=AT, cause=CAUSE
            )
            await ledger.write([stored(training_subject(name), state, before.sequence)])

        self.fleet.do(write())

    @contextmanager
    def trainer(self, node: str) -> Iterator[Path]:
        """A node that answers for the runs in its folder."""
        folder = self.home / node
        desk = LogDesk(folder, node)
        endpoints = {"logs": (logs_subject(node), desk.answer)}
        service = Service(name="fleetcast-trainer", version="0.1.0", description="a test", endpoints=endpoints)
        running = self.fleet.do(self.fleet.bus.serve(service))
        yield folder
        self.fleet.do(running.stop())

    def start(self, node: str, name: str, script: str, **more: object) -> Handle:
        """Start a run's command on a node."""
        spec = self.runs.spec("sh", "-c", script, name=name, **{"folder": str(self.home / node / name)} | more)  # type: ignore[arg-type]
        return asyncio.run(self.runs.start(spec))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with standing(tmp_path_factory.mktemp("logs")) as found:
        yield found


@pytest.fixture
def room(fleet: Fleet, tmp_path: Path) -> Iterator[Room]:
    found = Room(fleet, tmp_path)
    yield found
    found.runs.clean()


@pytest.fixture
def cli(room: Room, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return commands_in(room.home, room.fleet.url, monkeypatch, capsys)


def test_what_a_run_printed_is_shown_from_the_node_that_has_it(room: Room, cli: Cli) -> None:
    room.keep("run-a", TrainingPhase.FAILED, "node-2")
    with room.trainer("node-1"), room.trainer("node-2"):
        script = "printf 'one\\ntwo\\tof\\nthr\\033[2Jee'; echo oops >&2; exit 3"
        asyncio.run(room.start("node-2", "run-a", script).wait())
        shown = cli("logs", "run-a", "-n", "2")
        assert shown.code == 0
        out, note, err, unended = shown.out.splitlines()
        assert (out, err, unended) == ("out two     of", "err oops", "out thr\\x1b[2Jee")
        assert note.startswith("err [fleetcast] claim 1: ")
        assert "run-a, claim 1 on node-2: exit 3" in shown.err
        documents = [json.loads(line) for line in cli("logs", "run-a", "--json").out.splitlines()]
        assert [(d["offset"], d["text"]) for d in documents if d["stream"] == "stdout"] == [
            (0, "one"),
            (4, "two\tof"),
            (11, "thr\x1b[2Jee"),
        ]


def test_following_shows_every_line_once_and_ends_with_the_run(room: Room) -> None:
    room.keep("run-b", TrainingPhase.RUNNING, "node-1")
    with room.trainer("node-1") as runs:
        count = 3 * PIECE_BYTES // 20
        script = f"echo begun; while ! test -e go; do sleep 0.02; done; seq 100000000 {100000000 + count - 1}"
        handle = room.start("node-1", "run-b", script, log_bytes=64 << 20)
        process = start(room.home, room.fleet.url, "logs", "run-b", "-f")
        assert process.stdout is not None
        assert process.stdout.readline() == "out begun\n"
        (runs / "run-b/go").touch()
        assert asyncio.run(handle.wait()).ok
        room.keep("run-b", TrainingPhase.SUCCEEDED, "node-1")
        followed = ended(process)
    assert followed.code == 0
    numbers = [line for line in followed.out.splitlines() if line.startswith("out ")]
    assert numbers == [f"out {100000000 + i}" for i in range(count)]


def test_following_goes_on_on_the_node_that_takes_the_run_over(room: Room) -> None:
    room.keep("run-c", TrainingPhase.RUNNING, "node-1")
    with room.trainer("node-1"), room.trainer("node-2"):
        room.start("node-1", "run-c", "echo here; sleep 300")
        process = start(room.home, room.fleet.url, "logs", "run-c", "-f", "-n", "1")
        assert process.stdout is not None
        assert process.stdout.readline() == "out here\n"
        asyncio.run(room.start("node-2", "run-c", "echo first; echo there", claim=2).wait())
        room.keep("run-c", TrainingPhase.SUCCEEDED, "node-2")
        followed = ended(process)
    assert [line for line in followed.out.splitlines() if line.startswith("out ")] == ["out first", "out there"]
    assert "run-c goes on on node-2" in followed.err


def test_following_waits_for_a_trainer_that_is_being_restarted(room: Room) -> None:
    room.keep("run-h", TrainingPhase.RUNNING, "node-1")
    with room.trainer("node-1") as runs:
        handle = room.start("node-1", "run-h", "echo one; while ! test -e go; do sleep 0.02; done; echo two")
        process = start(room.home, room.fleet.url, "logs", "run-h", "-f")
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "out one\n"
    said = process.stderr.readline()
    (runs / "run-h/go").touch()
    asyncio.run(handle.wait())
    with room.trainer("node-1"):
        room.keep("run-h", TrainingPhase.SUCCEEDED, "node-1")
        followed = ended(process)
    assert "the trainer of node-1 does not answer" in said
    assert [line for line in followed.out.splitlines() if line.startswith("out ")] == ["out two"]


def test_output_that_is_not_kept_any_more_is_counted(room: Room, cli: Cli) -> None:
    room.keep("run-d", TrainingPhase.SUCCEEDED, "node-1")
    with room.trainer("node-1") as runs:
        asyncio.run(room.start("node-1", "run-d", "seq 1000000", log_bytes=1 << 18).wait())
        kept = sum(file.stat().st_size for file in (runs / "run-d").glob("stdout.log*"))
        assert kept <= 1 << 18
        shown = cli("logs", "run-d", "-n", "100000", "--json")
    numbers = [int(d["text"]) for d in map(json.loads, shown.out.splitlines()) if d["stream"] == "stdout" and d["text"]]
    assert numbers[-1] == 1000000
    assert numbers[1:] == list(range(numbers[1], 1000001))


def test_who_has_no_logs_is_said(room: Room, cli: Cli) -> None:
    room.keep("run-e", TrainingPhase.QUEUED, None)
    room.keep("run-f", TrainingPhase.RUNNING, "node-9")
    room.keep("run-g", TrainingPhase.RUNNING, "node-1")
    for name, code, words in (
        ("nonesuch", 3, "no lane has started a run nonesuch"),
        ("../etc", 3, "not the name of a run"),
        ("run-e", 3, "no node has had run-e yet"),
        ("run-f", 1, "the trainer of node-9 does not answer"),
        ("run-g", 3, "node-1 has no logs of run-g"),
    ):
        with room.trainer("node-1"):
            shown = cli("logs", name)
        assert (shown.code, words in shown.err) == (code, True), shown
    assert cli("logs", "run-e", "--daemon", "nats").code == 2


def test_a_request_that_climbs_out_of_the_folder_of_runs_is_refused(room: Room) -> None:
    with room.trainer("node-1"):
        for body, told in (
            (b'{"run": "../secrets"}', "run: '../secrets' is not a name"),
            (b"{", "the request: Invalid JSON"),
            (b'{"run": "a", "stdout": -4}', "stdout: .* greater than or equal to 0"),
        ):
            with pytest.raises(ServiceFailed, match=told):
                room.fleet.do(room.fleet.bus.request(logs_subject("node-1"), body))
