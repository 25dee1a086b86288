"""A node that takes runs, as a process: real claims, heartbeats and take-overs, and a training that is a short pause.

What goes wrong with a run follows from its name and its claim, so that every order of things is tried and each run
comes to an end: the process kills itself before or after it has said its result, or stops itself (SIGSTOP) between two
instructions until somebody lets it go on.

    python worker.py URL NODE
"""

import asyncio
import hashlib
import os
import signal
import sys
from datetime import UTC, datetime

from fleetcast.bus import Bus, connect
from fleetcast.bus.streams import NODES_BUCKET
from fleetcast.bus.testing import fast_settings
from fleetcast.daemons.testing import heartbeat
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.claiming import Claimer, Pace
from fleetcast.daemons.trainer.claims.eligibility import NodeFacts
from fleetcast.daemons.trainer.claims.jobs import Jobs
from fleetcast.daemons.trainer.claims.keeper import Keeper
from fleetcast.daemons.trainer.claims.leasing import Owned, lease_seconds
from fleetcast.daemons.trainer.claims.rules import Again, Ended
from fleetcast.daemons.trainer.claims.store import Change, RunStore
from fleetcast.daemons.trainer.claims.takeover import Takeover
from fleetcast.daemons.trainer.claims.watching import NodeWatch, RunWatch
from fleetcast.daemons.trainer.lanes.queue import put
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.events.envelope import new_event
from fleetcast.events.payloads import ModelPromoted, Wants
from fleetcast.events.state import NodeStatus
from fleetcast.events.training import TrainingPhase, TrainingRunState

BEAT_SECONDS, SILENT_SECONDS, GRACE_SECONDS = 0.3, 1.2, 0.2
LIMITS = {"cpu": 4}
FAULTY_CLAIMS = 2
"""Later claims of a run meet no fault: every run ends."""


def now() -> datetime:
    return datetime.now(UTC)


def fate(run: str, claim: int) -> str:
    """What goes wrong under this claim."""
    if claim > FAULTY_CLAIMS:
        return ""
    roll = hashlib.sha256(f"{run}/{claim}".encode()).digest()[0] / 256
    if roll < 0.125:
        return "killed before"
    if roll < 0.25:
        return "killed after"
    return "stalled" if roll < 0.6 else ""


def lost(run: TrainingRunState, at: datetime) -> Change:
    """A run whose node is gone goes on elsewhere, however often."""
    return Change(rules.queued_again(run, Ended("lost", f"{run.owner} is gone"), Again(), at))


async def train(bus: Bus, owned: Owned, adopted: bool) -> None:
    """A training; what an earlier life had in hand is gone with it."""
    if adopted:
        await owned.change(lambda there: lost(there, now()))
        return
    run, fails = owned.run, fate(owned.id, owned.claim)
    await owned.change(lambda there: rules.running(there, now()))
    await asyncio.sleep(0.05)
    if fails == "killed before":
        os.kill(os.getpid(), signal.SIGKILL)
    if fails == "stalled":
        os.kill(os.getpid(), signal.SIGSTOP)
    # Whoever was stopped here does not know it: nothing is looked up between the stall and the word.
    said = ModelPromoted(
        model=run.model, version=run.run, path="/m.pt", node=bus.node, run_id=run.run, claim=owned.claim
    )
    await bus.publish(new_event(said, source=f"/fleet/{bus.node}/job"))
    if fails == "killed after":
        os.kill(os.getpid(), signal.SIGKILL)
    await owned.change(lambda there: rules.finished(there, TrainingPhase.SUCCEEDED, Ended("succeeded"), now()))


async def beat(bus: Bus) -> None:
    """Say that this node is there, whatever the bus answers."""
    while True:
        status = heartbeat(
            bus.node,
            at=now().isoformat(),
            daemon="trainer",
            pid=os.getpid(),
            wants=Wants(models=(), lanes=()),
            limits=LIMITS,
        )
        async with asyncio.TaskGroup() as once:
            once.create_task(_put(bus, status))
            once.create_task(asyncio.sleep(BEAT_SECONDS))


async def _put(bus: Bus, status: NodeStatus) -> None:
    try:
        data = status.model_dump_json().encode()
        await bus.kv_put(NODES_BUCKET, f"{bus.node}.trainer", data, deadline_seconds=1.0)
    except Exception as away:
        sys.stderr.write(f"no beat: {away}\n")


async def live(url: str, node: str) -> None:
    """Take runs until killed."""
    async with connect(fast_settings(url), node=node, daemon="trainer") as bus:
        store, watch = RunStore(TrainingLedger(bus), node=node), RunWatch(bus)
        nodes = NodeWatch(bus, silent_after_seconds=SILENT_SECONDS)
        keeper = Keeper(
            bus,
            store,
            watch,
            pid=os.getpid(),
            now=now,
            lease_seconds=await lease_seconds(bus),
            carry=lambda owned, adopted: train(bus, owned, adopted),
            look_seconds=0.2,
        )
        claimer = Claimer(
            bus,
            store,
            watch,
            pid=os.getpid(),
            here=lambda: NodeFacts(node, limits=LIMITS, runs=keeper.reported),
            device=lambda _run, _gpus: "cpu",
            now=now,
            begin=keeper.begin,
            pace=Pace(delay_seconds=0.02, look_seconds=0.2),
        )
        takeover = Takeover(
            bus,
            store,
            watch,
            is_silent=nodes.is_silent,
            lost=lost,
            now=now,
            grace_seconds=GRACE_SECONDS,
            look_seconds=0.1,
            queue=lambda run: put(bus, run),
        )
        async with asyncio.TaskGroup() as tasks:
            for work in (watch.run(), nodes.run(), keeper.run(), claimer.run(), takeover.run(), beat(bus)):
                tasks.create_task(work)
            tasks.create_task(Jobs(bus, store, watch).run())


if __name__ == "__main__":
    asyncio.run(live(sys.argv[1], sys.argv[2]))
