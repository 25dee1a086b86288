"""The daemon dies at every step of a run, and the next life goes on from there: one process, one claim, one end."""

from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from tests.integration.trainer.runs.lives import (
    LEASE_SECONDS,
    a_run,
    ask,
    killed_at,
    life,
    now,
    until,
    until_file,
    until_true,
)

from fleetcast.bus import Bus
from fleetcast.bus.server import LocalServer
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.rules import Again, Ended
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.events.training import TRAINING_ENDED, TrainingPhase

STEPS = (
    "training.lease.after",
    "training.claimed.before",
    "training.claimed.after",
    "training.process.before",
    "training.process.after",
    "training.running.before",
    "training.running.after",
    "training.succeeded.before",
    "training.succeeded.after",
)
QUICK = ("training.process.after",)
"""Where most would go wrong: there is a process of which the record knows nothing."""


def counted(folder: Path) -> str:
    """A script that leaves a line for each time it was run."""
    return f"open({str(folder / 'runs.txt')!r}, 'a').write('once\\n')"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=() if step in QUICK else pytest.mark.soak) for step in STEPS]
)
async def test_a_daemon_that_dies_at_a_step_is_followed_by_one_that_goes_on_there(
    bus: Bus, tmp_path: Path, step: str
) -> None:
    await ask(bus, a_run("1", counted(tmp_path)))
    await killed_at(bus, tmp_path, step)
    async with life(bus, tmp_path):
        run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
    assert run.phase is TrainingPhase.SUCCEEDED
    assert run.claim == 1
    assert (tmp_path / "runs.txt").read_text() == "once\n"


@pytest.mark.soak
@pytest.mark.asyncio
async def test_a_run_goes_on_while_no_daemon_is_there_and_the_next_one_has_it_in_hand(bus: Bus, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n" + counted(tmp_path)
    await ask(bus, a_run("1", script))
    async with life(bus, tmp_path):
        first = await until(bus, "run-1", lambda run: run.phase is TrainingPhase.RUNNING)
    gate.touch()
    async with life(bus, tmp_path):
        run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
    assert (run.phase, run.claim) == (TrainingPhase.SUCCEEDED, first.claim)
    assert (tmp_path / "runs.txt").read_text() == "once\n"


@pytest.mark.asyncio
async def test_a_run_goes_on_while_the_bus_is_away_for_longer_than_its_lease_and_is_nobody_else_s_then(
    served: tuple[LocalServer, Bus], tmp_path: Path
) -> None:
    nats, bus = served
    script = f"import time\ntime.sleep({2 * LEASE_SECONDS})\n" + counted(tmp_path)
    await ask(bus, a_run("1", script))
    async with life(bus, tmp_path):
        await until(bus, "run-1", lambda run: run.phase is TrainingPhase.RUNNING)
        await nats.stop_async()
        await until_file(tmp_path / "runs.txt")
        await nats.start_async()
        run = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
    assert (run.phase, run.claim) == (TrainingPhase.SUCCEEDED, 1)
    assert (tmp_path / "runs.txt").read_text() == "once\n"


@pytest.mark.asyncio
async def test_the_process_of_a_run_that_was_taken_back_is_ended_on_its_former_node(bus: Bus, tmp_path: Path) -> None:
    script = f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    await ask(bus, a_run("1", script))
    async with life(bus, tmp_path) as keeper:
        await until(bus, "run-1", lambda run: run.phase is TrainingPhase.RUNNING)
        await until_file(tmp_path / "pid")
        elsewhere = Again(away_from="n1", away_until=now() + timedelta(hours=1))
        store = RunStore(TrainingLedger(bus), node="test")
        await store.change("run-1", lambda run: rules.queued_again(run, Ended("lost"), elsewhere, now()))
        pid = int((tmp_path / "pid").read_text())
        await until_true(lambda: not psutil.pid_exists(pid))
        await until_true(lambda: not keeper.owned)
    run = await until(bus, "run-1", lambda _: True)
    assert (run.phase, run.owner) == (TrainingPhase.QUEUED, None)


@pytest.mark.asyncio
async def test_a_command_that_does_not_exist_ends_its_run_with_the_reason(bus: Bus, tmp_path: Path) -> None:
    run = a_run("1", "", command=("/no/such/program",), retries={"unknown": 0})
    await ask(bus, run)
    async with life(bus, tmp_path):
        ended = await until(bus, "run-1", lambda run: run.phase in TRAINING_ENDED)
    assert ended.phase is TrainingPhase.FAILED
    assert "/no/such/program" in str(ended.attempts[-1].evidence)
