"""Runs that people cancel: wherever they are, they end, and nothing that is said of them later has an effect."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from unittest import mock

import psutil
import pytest
import pytest_asyncio
from tests.integration.trainer.runs.lives import a_run, ask, life, now, server, until, until_file, until_true

from fleetcast.bus import Bus
from fleetcast.bus.server import LocalServer
from fleetcast.bus.streams import EVENTS
from fleetcast.daemons.trainer.checkpoints.keeper import Checkpoints
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.answering import RunService
from fleetcast.daemons.trainer.claims.commands import CancelRun, RunAnswer
from fleetcast.daemons.trainer.claims.leasing import Owned
from fleetcast.daemons.trainer.claims.rules import Again, Ended
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.daemons.trainer.leftovers import Leftovers
from fleetcast.events.envelope import new_event
from fleetcast.events.payloads import ModelPromoted
from fleetcast.events.training import TRAINING_ENDED, TrainingPhase, TrainingRunState
from fleetcast.registry.fencing import Fence

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[4]
HEARD = "import os, signal, sys, time\npid, heard = {pid!r}, {heard!r}\n"
OBEYS = (
    "def end(*_):\n    open(heard, 'w').write('SIGTERM')\n    sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, end)\nopen(pid, 'w').write(str(os.getpid()))\ntime.sleep(600)"
)
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen(pid, 'w').write(str(os.getpid()))\ntime.sleep(600)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[LocalServer, Bus]]:
    async with server(tmp_path_factory.mktemp("cancelling")) as made:
        yield made


@pytest.fixture
def bus(served: tuple[LocalServer, Bus]) -> Bus:
    return served[1]


def script(folder: Path, what: str) -> str:
    """A script that says who it is, and what it heard."""
    return HEARD.format(pid=str(folder / "pid"), heard=str(folder / "heard")) + what


async def cancel(
    bus: Bus, run: str, *, silent: bool = False, reason: str = "wrong labels", **more: object
) -> RunAnswer:
    """Ask the service of a trainer that is not the owner's."""
    service = RunService(RunStore(TrainingLedger(bus), node="n7"), now=now, is_silent=lambda _: silent)
    request = CancelRun.model_validate({"run": run, "reason": reason, "by": "ann", **more})
    return RunAnswer.model_validate_json(await service.answer(request.model_dump_json().encode()))


async def finished(bus: Bus, run: str) -> list[dict[str, object]]:
    """The ends that were told of a run, once there is one."""
    async with asyncio.timeout(60):
        while True:
            found = [json.loads(e.data)["data"] async for e in bus.tail(EVENTS, (f"fc.ev.run.finished.{run}",))]
            if found:
                return found
            await asyncio.sleep(0.02)


async def begun(bus: Bus, folder: Path, run: str) -> int:
    """The process of a run, once it runs and listens."""
    await until(bus, run, lambda there: there.phase is TrainingPhase.RUNNING)
    await until_file(folder / "pid")
    return int((folder / "pid").read_text())


def is_gone(pid: int) -> Callable[[], bool]:
    return lambda: not psutil.pid_exists(pid)


async def test_a_run_that_waits_is_taken_by_no_node_once_it_is_cancelled(bus: Bus, tmp_path: Path) -> None:
    await ask(bus, a_run("waits", f"open({str(tmp_path / 'ran')!r}, 'w').write('x')"))
    tried = await cancel(bus, "run-waits", dry_run=True)
    assert tried.message.startswith("dry run: run-waits would be cancelled; it waited for a node")
    assert (await until(bus, "run-waits", lambda _: True)).phase is TrainingPhase.QUEUED
    answer = await cancel(bus, "run-waits")
    assert "the 200 samples that it was queued for stay spent: fleetcast trigger lane-waits" in answer.message
    await ask(bus, a_run("next", "pass"))
    async with life(bus, tmp_path):
        await until(bus, "run-next", lambda run: run.phase in TRAINING_ENDED)
    run = await until(bus, "run-waits", lambda _: True)
    assert (run.phase, run.phase_detail) == (TrainingPhase.CANCELLED, "ann cancelled it: wrong labels")
    assert not (tmp_path / "ran").exists()


async def test_a_run_that_waits_for_its_next_try_is_cancelled_and_its_end_told_of_the_node_that_had_it(
    bus: Bus, tmp_path: Path
) -> None:
    await ask(bus, a_run("retries", "pass"))
    store = RunStore(TrainingLedger(bus), node="n1")
    await store.change("run-retries", lambda there: rules.claimed(there, node="n1", pid=1, device="cpu", now=now()))
    later = Again(not_before=now() + timedelta(hours=1))
    await store.change("run-retries", lambda there: rules.queued_again(there, Ended("hardware"), later, now()))
    await cancel(bus, "run-retries")
    (told,) = await finished(bus, "run-retries")
    assert (told["outcome"], told["node"], told["claim"]) == ("cancelled", "n1", 1)
    assert told["reason"] == "ann cancelled it: wrong labels"


async def test_a_run_that_is_being_prepared_is_given_up_and_nothing_of_it_starts(bus: Bus, tmp_path: Path) -> None:
    preparing = asyncio.Event()

    async def brings_for_ever(*_: object) -> None:
        preparing.set()
        await asyncio.Event().wait()

    await ask(bus, a_run("prepared", "pass"))
    with mock.patch.object(Checkpoints, "resume", brings_for_ever):
        async with life(bus, tmp_path) as keeper:
            await asyncio.wait_for(preparing.wait(), 60)
            assert "n1 was preparing it, and stops" in (await cancel(bus, "run-prepared")).message
            await until_true(lambda: not keeper.owned)
    assert not (tmp_path / "n1" / "runs" / "run-prepared" / "spec.json").exists()
    assert [told["outcome"] for told in await finished(bus, "run-prepared")] == ["cancelled"]


async def test_a_run_under_way_gets_sigterm_and_its_grace_and_what_it_says_then_is_not_believed(
    bus: Bus, tmp_path: Path
) -> None:
    await ask(bus, a_run("obeys", script(tmp_path, OBEYS), grace_seconds=600.0))
    async with life(bus, tmp_path) as keeper:
        pid = await begun(bus, tmp_path, "run-obeys")
        answer = await cancel(bus, "run-obeys")
        assert "its process on n1 gets SIGTERM, and SIGKILL after 600 s" in answer.message
        await until_true(is_gone(pid))
        await until_true(lambda: not keeper.owned)
    assert (tmp_path / "heard").read_text() == "SIGTERM"
    # It ended with status 0, which is no success any more.
    run = await until(bus, "run-obeys", lambda _: True)
    assert (run.phase, run.attempts[-1].outcome) == (TrainingPhase.CANCELLED, "cancelled")
    assert run.cancelled is not None
    assert (run.cancelled.by, run.cancelled.reason) == ("ann", "wrong labels")
    assert [told["outcome"] for told in await finished(bus, "run-obeys")] == ["cancelled"]
    assert (tmp_path / "n1" / "runs" / "run-obeys" / "stderr.log").exists()


async def test_cancelled_twice_the_first_stays_and_the_second_may_have_it_end_at_once(bus: Bus, tmp_path: Path) -> None:
    await ask(bus, a_run("deaf", script(tmp_path, DEAF), grace_seconds=600.0))
    async with life(bus, tmp_path):
        pid = await begun(bus, tmp_path, "run-deaf")
        await cancel(bus, "run-deaf")
        log = tmp_path / "n1" / "runs" / "run-deaf" / "stderr.log"
        await until_true(lambda: b"ann cancelled it: wrong labels; SIGKILL follows in 600 s" in log.read_bytes())
        again = await cancel(bus, "run-deaf", reason="no patience", now=True)
        assert again.message.startswith("run-deaf was cancelled before by ann")
        await until_true(is_gone(pid))
    run = await until(bus, "run-deaf", lambda _: True)
    assert run.cancelled is not None
    assert (run.cancelled.reason, run.cancelled.now) == ("wrong labels", True)
    assert len(await finished(bus, "run-deaf")) == 1


async def test_the_process_of_a_run_that_was_cancelled_while_no_daemon_was_there_ends_when_one_is_back(
    bus: Bus, tmp_path: Path
) -> None:
    await ask(bus, a_run("left", script(tmp_path, OBEYS)))
    async with life(bus, tmp_path):
        pid = await begun(bus, tmp_path, "run-left")
    answer = await cancel(bus, "run-left", silent=True)
    assert "n1 is silent: it ends the process when it is back" in answer.message
    assert psutil.pid_exists(pid)
    async with life(bus, tmp_path):
        await until_true(is_gone(pid))
    assert (tmp_path / "heard").read_text() == "SIGTERM"


@pytest.mark.soak
async def test_without_the_search_for_leftovers_that_process_goes_on(bus: Bus, tmp_path: Path) -> None:
    await ask(bus, a_run("kept", script(tmp_path, OBEYS)))
    async with life(bus, tmp_path):
        pid = await begun(bus, tmp_path, "run-kept")
    await cancel(bus, "run-kept")
    with mock.patch.object(Leftovers, "run", asyncio.Event().wait):
        async with life(bus, tmp_path):
            await ask(bus, a_run("kept-next", "import time; time.sleep(2)"))
            await until(bus, "run-kept-next", lambda run: run.phase in TRAINING_ENDED)
    assert psutil.pid_exists(pid)
    async with life(bus, tmp_path):
        await until_true(is_gone(pid))


async def test_an_owner_that_hears_of_it_only_when_it_commits_ends_the_process_then(bus: Bus, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    await ask(bus, a_run("behind", SAVES.format(gate=str(gate)) + "\n" + script(tmp_path, OBEYS)))
    with mock.patch.object(Owned, "seen", return_value=None):
        async with life(bus, tmp_path):
            await until(bus, "run-behind", lambda run: run.phase is TrainingPhase.RUNNING)
            await cancel(bus, "run-behind")
            gate.touch()
            await until_file(tmp_path / "heard")
    run = await until(bus, "run-behind", lambda _: True)
    assert (run.phase, run.checkpoint) == (TrainingPhase.CANCELLED, None)


async def test_a_run_that_has_ended_or_never_was_is_not_cancelled(bus: Bus, tmp_path: Path) -> None:
    await ask(bus, a_run("over", "pass"))
    async with life(bus, tmp_path):
        before = await until(bus, "run-over", lambda run: run.phase in TRAINING_ENDED)
    over = await cancel(bus, "run-over")
    assert (over.outcome, "it succeeded" in over.message) == ("ended", True)
    assert (await until(bus, "run-over", lambda _: True)) == before
    assert (await cancel(bus, "run-never")).outcome == "unknown"


@contextlib.contextmanager
def owner(url: str, folder: Path, *mode: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A trainer as a process of its own."""
    command = [sys.executable, "-m", "tests.integration.trainer.runs.owner", url, str(folder), "n1", *mode]
    with (folder / "owner.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


SAVES = (
    "import os, time, zipfile\nwhile not os.path.exists({gate!r}): time.sleep(0.01)\n"
    "path = os.environ['FLEETCAST_CHECKPOINT_DIR'] + '/1.pt'\n"
    "with zipfile.ZipFile(path + '.tmp', 'w') as file: file.writestr('m/data.pkl', b'weights')\n"
    "os.replace(path + '.tmp', path)"
)
"""A training that saves and ends well, once it is let to."""


async def stalled(served: tuple[LocalServer, Bus], folder: Path, number: str, *mode: str) -> TrainingRunState:
    """A run whose owner stands still (SIGSTOP) while the run is cancelled and its process saves; as it is kept once the
    owner has gone on and is done with it."""
    nats, bus = served
    gate = folder / "gate"
    await ask(bus, a_run(number, SAVES.format(gate=str(gate))))
    with owner(nats.url, folder, *mode) as process:
        await until(bus, f"run-{number}", lambda run: run.phase is TrainingPhase.RUNNING)
        process.send_signal(signal.SIGSTOP)
        await cancel(bus, f"run-{number}")
        gate.touch()
        state = folder / "n1" / "runs" / f"run-{number}" / "state.json"
        await until_true(lambda: json.loads(state.read_text()).get("exit") is not None)
        assert (state.parent / "checkpoints" / "1.pt").exists()
        process.send_signal(signal.SIGCONT)
        log = folder / "owner.log"
        await until_true(lambda: any(word in log.read_bytes() for word in (b"run.left", b"run.succeeded")))
    return await until(bus, f"run-{number}", lambda _: True)


async def test_a_stalled_owner_commits_nothing_of_a_run_that_was_cancelled_meanwhile(
    served: tuple[LocalServer, Bus], tmp_path: Path
) -> None:
    run = await stalled(served, tmp_path, "stalled")
    assert (run.phase, run.checkpoint, run.commits) == (TrainingPhase.CANCELLED, None, ())
    # Nor does what its job says, at whichever origin, with its claim or without.
    for claim in (1, None):
        said = ModelPromoted(model="m", version="1", path="/m", node="n1", run_id="run-stalled", claim=claim)
        stale = await Fence(served[1]).commit(new_event(said, source="/job"))
        assert stale is not None
        assert (stale.reason, stale.winner) == (
            "run run-stalled was cancelled",
            "nobody: ann cancelled it: wrong labels",
        )


@pytest.mark.soak
async def test_without_the_fence_a_stalled_owner_undoes_the_cancellation(
    served: tuple[LocalServer, Bus], tmp_path: Path
) -> None:
    run = await stalled(served, tmp_path, "unfenced", "unfenced")
    assert run.phase is TrainingPhase.SUCCEEDED
    assert run.checkpoint is not None
