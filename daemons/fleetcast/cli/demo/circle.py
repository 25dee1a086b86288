"""The steps of `demo --full`: new data starts one training run, its node dies, it goes on elsewhere, and what it makes
is served by all."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fleetcast.cli import history
from fleetcast.cli.demo import evidence
from fleetcast.cli.demo.evidence import check
from fleetcast.cli.demo.material import CIRCLE, Material, digest_of, make_games
from fleetcast.cli.demo.stage import ORIGIN, STEP_SECONDS, Stage, publish
from fleetcast.cli.local.layout import Layout
from fleetcast.cli.narrate import sentence
from fleetcast.cli.units import duration
from fleetcast.cli.waiting import until_served
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.daemons.trainer.supervision.folder import read_state
from fleetcast.events.envelope import Event
from fleetcast.events.payloads import ExportCompleted
from fleetcast.events.runs import RunEpochLogged
from fleetcast.events.training import (
    CheckpointRecord,
    Commit,
    RunMoved,
    TrainingPhase,
    TrainingRunState,
    lane_subject,
    training_subject,
)

TRAINERS = 2
GAMES = 20_000
TAKEOVER_SECONDS = 120.0
"""A node that is gone is believed gone when its lease and its heartbeat have ended; then somebody else starts."""
LOOK_SECONDS = 0.25
LANE = """\
# The lane of `fleetcast demo --full`; config/lanes.toml has every setting, with comments.
[lane.{lane}]
command = [{python}, "-m", "fleetcast.examples.training.train", "--epochs", "5", "--step-seconds", "0.05",
  "--out", {out}, "--export-lane", "{lane}_hard"]
grace_seconds = 10
env = {{ TMPDIR = {temporary} }}
bucket = {{ required = {games} }}
resources = {{ labels = {{ gpu = "simulated" }} }}
checkpoints = {{ keep_last = 2, copies = 1 }}
"""


def write_lanes(layout: Layout) -> Path:
    """The file with the demo's lane."""
    path = layout.folder / "lanes.toml"
    # torch leaves a cache where temporary files go; this one goes with the demo.
    temporary = layout.folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    said = {"python": sys.executable, "out": layout.publish, "temporary": temporary}
    words = {name: _quoted(str(value)) for name, value in said.items()}
    path.write_text(LANE.format(lane=CIRCLE, games=GAMES, **words), encoding="utf-8")
    return path


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass
class Circle:
    """What the steps leave to each other.

    Attributes:
        data: what was trained on.
        run: its id.
        first: node that took it first.
        checkpoint: the newest one that was committed before that node died.
    """

    data: Material
    run: str
    first: str
    checkpoint: CheckpointRecord | None = None


async def start_by_data(stage: Stage) -> str:
    """New data is verified on the GPU nodes, and exactly one of them starts a run."""
    data = await asyncio.to_thread(make_games, stage.local.layout.publish, "games-1", GAMES, 5)
    newest = await stage.bus.last_sequence(history.STREAM)
    told = ExportCompleted(
        lane=CIRCLE,
        path=str(data.path),
        node=ORIGIN,
        samples_new=GAMES,
        samples_total=GAMES,
        dataset_id=data.version,
    )
    event, _ = await publish(stage, told)
    run = await _until(stage, _is_running, "started")
    assert run.owner is not None
    stage.circle = Circle(data, run.run, run.owner)
    # The first node that has the data may begin; nobody waits for the others.
    await until_served(stage.fleet, CIRCLE, data.version, timeout_seconds=STEP_SECONDS)
    for node in stage.gpu_nodes:
        await asyncio.to_thread(evidence.check_installed, stage.local.layout, node, data, "datasets")
    moved = await _moves(stage, newest + 1)
    check(len({fact.run_id for _, fact in moved}) == 1, "more than one run was queued")
    claims = [fact for _, fact in moved if fact.phase is TrainingPhase.CLAIMED]
    check([fact.claim for fact in claims] == [1], f"{len(claims)} claims instead of one")
    started = next(at for at, fact in moved if fact.phase is TrainingPhase.RUNNING)
    after = duration((started.time - event.time).total_seconds())
    library = "torch" if find_spec("torch") else "numpy"
    return f"run {run.run} started on {run.owner} and nowhere else, {after} after the event; it trains with {library}"


async def kill_the_owner(stage: Stage) -> str:
    """Everything on the run's node dies in the middle of it, after a checkpoint has reached another node."""
    circle = _circle(stage)
    run = await _until(stage, _has_copy, "has a checkpoint on another node")
    circle.checkpoint = run.checkpoint
    assert run.checkpoint is not None
    check(run.owner == circle.first, f"the run is on {run.owner}, not on {circle.first}")
    killed = await asyncio.to_thread(_kill_node, stage, circle)
    return (
        f"SIGKILL to {', '.join(killed)} on {circle.first}, after step {run.checkpoint.step} was saved"
        f" and brought to {', '.join(run.checkpoint.nodes[1:])}"
    )


async def resume_elsewhere(stage: Stage) -> str:
    """The other node goes on from the checkpoint, under the next claim, and its step counter goes on with it."""
    circle = _circle(stage)
    began = asyncio.get_running_loop().time()
    run = await _until(stage, lambda run: _is_running(run) and run.owner != circle.first, "went on", TAKEOVER_SECONDS)
    took = asyncio.get_running_loop().time() - began
    check(run.claim == 2, f"it goes on under claim {run.claim}, not 2")
    [*_, attempt] = run.attempts
    resumed = attempt.resumed_step or 0
    check(resumed > 0, "it began from scratch")
    first = await _first_epoch(stage, run)
    check((first.step or 0) > resumed, f"its first epoch ended at step {first.step}, and it went on at {resumed}")
    return (
        f"{run.owner} took it under claim {run.claim}, {duration(took)} after {circle.first} died, and went on at step"
        f" {resumed}; epoch {first.epoch} ended at step {first.step}"
    )


async def serve_what_it_made(stage: Stage) -> str:
    """The run promotes once; every node serves the result, the killed one too as soon as it is back."""
    circle = _circle(stage)
    await _until(stage, lambda run: run.phase is TrainingPhase.SUCCEEDED, "succeeded")
    made = await asyncio.to_thread(_made, stage, await _until(stage, _has_promoted, "promoted"))
    stage.local.nodes[circle.first].start()
    stage.local.trainers[circle.first].start()
    await stage.local.until_ready(stage.fleet, (circle.first,))
    await until_served(stage.fleet, CIRCLE, made.version, timeout_seconds=STEP_SECONDS)
    await evidence.check_each(stage.names, stage.local.layout, made)
    run = await _until(stage, _has_promoted, "promoted")
    claims = [commit.claim for commit in _promotions(run)]
    check(claims == [run.claim], f"claims {claims} promoted, and {run.claim} had the run")
    return f"{CIRCLE}@{made.version} is served by {', '.join(stage.names)}, SHA-256 compared on disk; promoted once"


def _promotions(run: TrainingRunState) -> list[Commit]:
    return [commit for commit in run.commits if commit.what.startswith("model.promoted ")]


def _has_promoted(run: TrainingRunState) -> bool:
    return bool(_promotions(run))


def _made(stage: Stage, run: TrainingRunState) -> Material:
    """What the run promoted, as its job wrote it."""
    version = _promotions(run)[0].what.rpartition("@")[2]
    path = stage.local.layout.publish / f"{CIRCLE}-{version}.safetensors"
    return Material(CIRCLE, version, path, path.stat().st_size, digest_of(path))


async def read_the_run(stage: Stage) -> str:
    """What happened to the run, from the log alone; and the lane's ledger adds up."""
    circle = _circle(stage)
    wanted = history.subjects(("run.moved", "run.fault.recorded", "run.fallback"), circle.run)
    for event in await history.collect(stage.bus, wanted):
        if isinstance(event, Event):
            stage.out.say(f"      {sentence(event)}")
    run = await _state(stage)
    assert run is not None
    ledger = TrainingLedger(stage.bus)
    runs = [each for each in await ledger.all((training_subject("*"),), TrainingRunState) if each.lane == CIRCLE]
    check(len(runs) == 1, f"the lane started {len(runs)} runs, not one")
    outcomes = ", ".join(f"claim {each.claim} on {each.node}: {each.outcome}" for each in run.attempts)
    return f"one run, {len(run.attempts)} attempts ({outcomes}); fleetcast runs show {run.run}"


def _circle(stage: Stage) -> Circle:
    assert stage.circle is not None
    return stage.circle


def _is_running(run: TrainingRunState) -> bool:
    return run.phase in {TrainingPhase.RUNNING, TrainingPhase.DEGRADED}


def _has_copy(run: TrainingRunState) -> bool:
    return run.checkpoint is not None and len(run.checkpoint.nodes) > 1


async def _state(stage: Stage) -> TrainingRunState | None:
    """The newest run of the demo's lane."""
    ledger = TrainingLedger(stage.bus)
    runs = await ledger.all((training_subject("*"),), TrainingRunState)
    mine = [run for run in runs if run.lane == CIRCLE]
    return max(mine, key=lambda run: run.created_at, default=None)


async def _until(
    stage: Stage, condition: Callable[[TrainingRunState], bool], what: str, seconds: float = STEP_SECONDS
) -> TrainingRunState:
    run = None
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                run = await _state(stage)
                if run is not None and condition(run):
                    return run
                await asyncio.sleep(LOOK_SECONDS)
    found = f"it is {run.phase.value} on {run.owner}: {run.phase_detail}" if run else "there is none"
    check(False, f"no run of {CIRCLE} {what} within {duration(seconds)}", f"{found}; lane: {lane_subject(CIRCLE)}")
    raise AssertionError


async def _moves(stage: Stage, start: int) -> list[tuple[Event, RunMoved]]:
    """What became of runs since *start*."""
    wanted = history.subjects(("run.moved",), None)
    return [
        (event, event.payload)
        async for event in history.follow(stage.bus, wanted, start_sequence=start)
        if isinstance(event, Event) and isinstance(event.payload, RunMoved)
    ]


async def _first_epoch(stage: Stage, run: TrainingRunState) -> RunEpochLogged:
    """The first epoch that ended under the run's newest claim."""
    wanted = history.subjects(("run.epoch.logged",), run.run)
    async with asyncio.timeout(STEP_SECONDS):
        async for event in history.follow(stage.bus, wanted, start_sequence=1, follow=True):
            payload = event.payload if isinstance(event, Event) else None
            if isinstance(payload, RunEpochLogged) and payload.claim == run.claim:
                return payload
    raise AssertionError("unreachable: the log is followed for ever")


def _kill_node(stage: Stage, circle: Circle) -> list[str]:
    """SIGKILL to the distributor and the trainer of a node, and to the run with its supervisor, which would outlive
    them."""
    stage.local.nodes[circle.first].kill()
    stage.local.trainers[circle.first].kill()
    state = read_state(stage.local.layout.data(circle.first) / "runs" / circle.run)
    check(state is not None, f"no run of {circle.run} is on {circle.first}")
    assert state is not None
    for process in (state.supervisor, state.main):
        if process is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    return ["distributor", "trainer", "the run"]


STEPS = (
    ("new data starts one run on one of two GPU nodes", start_by_data),
    ("kill that node in the middle of the run", kill_the_owner),
    ("it goes on elsewhere, from its checkpoint", resume_elsewhere),
    ("what it made is served by every node", serve_what_it_made),
    ("read what became of the run", read_the_run),
)
