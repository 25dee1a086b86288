"""`fleetcast drill reclaim NODE`: the node is told that its machine goes, as a cloud tells it, and the time of every
step until its runs go on elsewhere is printed. Runs do move; nothing is lost but the time."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from fleetcast.bus import Bus
from fleetcast.bus.errors import NotFound
from fleetcast.bus.streams import TRAINING
from fleetcast.cli.call import Call
from fleetcast.cli.connection import connected, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.units import duration, parse_duration
from fleetcast.daemons.trainer.ledger import read
from fleetcast.events.envelope import new_event
from fleetcast.events.training import (
    TRAINING_ENDED,
    TRAINING_OWNED,
    ReclaimNotice,
    TrainingPhase,
    TrainingRunState,
    training_subject,
)
from fleetcast.registry.commands import stamp

LOOK_SECONDS = 0.1
RUNNING = frozenset({TrainingPhase.RUNNING, TrainingPhase.DEGRADED})


@dataclass
class Journey:
    """How one run came from the node to another.

    Attributes:
        claim: under which the node had it.
        step: of the checkpoint that it had before the notice.
        steps: what happened, with seconds after the notice.
    """

    run: str
    claim: int
    step: int | None
    before: str | None
    steps: list[tuple[str, float, str]] = field(default_factory=list)
    done: bool = False

    def look(self, now: TrainingRunState, seconds: float) -> None:
        """Note what is new."""
        known = {name for name, _, _ in self.steps}
        at = now.checkpoint
        if at is not None and at.claim == self.claim and at.at != self.before:
            self._note(known, "saved", seconds, f"step {at.step}, epoch {at.epoch}, {at.path}")
        if now.phase is TrainingPhase.QUEUED or now.claim > self.claim:
            self._note(known, "released", seconds, f"step {at.step if at is not None else 'none'} is where it goes on")
        if now.claim > self.claim and now.owner is not None:
            self._note(known, "claimed", seconds, f"by {now.owner}, claim {now.claim}")
        if now.claim > self.claim and now.phase in RUNNING:
            self._note(known, "runs again", seconds, f"on {now.owner}, {now.device}")
            self.done = True
        if now.phase in TRAINING_ENDED:
            self._note(known, now.phase.value, seconds, now.phase_detail)
            self.done = True

    def _note(self, known: set[str], name: str, seconds: float, detail: str) -> None:
        if name not in known:
            self.steps.append((name, round(seconds, 3), detail))


def reclaim(call: Call, node: str, *, within: str, reason: str | None, timeout: str, dry_run: bool) -> Exit:
    """Tell the node, and follow its runs."""
    left, limit = parse_duration(within, option="--in"), parse_duration(timeout, option="--timeout")
    if left < 1:
        raise usage("a notice of less than a second is none", next_step="--in 2m")
    journeys, event = run_async(_drill(call, node, left, limit, reason or "drill", dry_run=dry_run))
    ok = all(each.done for each in journeys)
    call.out.document(
        {
            "drill": "reclaim",
            "node": node,
            "event": event,
            "published": not dry_run,
            "runs": [
                {
                    "run": each.run,
                    "steps": [{"step": n, "seconds": s, "detail": d} for n, s, d in each.steps],
                    "done": each.done,
                }
                for each in journeys
            ],
            "ok": ok or dry_run,
        }
    )
    if dry_run or not journeys:
        verb = "would tell" if dry_run else "told"
        called = ", ".join(each.run for each in journeys) or "it has no run"
        call.out.text(f"{verb} {node} that it is taken away in {duration(left)}: {called}")
        return Exit.OK
    for each in journeys:
        call.out.text(f"run {each.run}")
        for name, seconds, detail in each.steps:
            call.out.text(printable(f"  {name:<10}  {duration(seconds):>8}  {detail}"))
    if not ok:
        late = ", ".join(each.run for each in journeys if not each.done)
        call.out.say(f"not again running after {duration(limit)}: {late}; fleetcast why says what they wait for")
    return Exit.OK if ok else Exit.TIMEOUT


async def _drill(
    call: Call, node: str, left: float, limit: float, reason: str, *, dry_run: bool
) -> tuple[list[Journey], str | None]:
    aim = target(call)
    async with connected(aim) as bus:
        if not any(entry.key == f"{node}.trainer" for entry in await bus.kv_entries("fc_nodes")):
            raise not_found(f"no trainer runs on {node!r}", next_step="fleetcast status")
        journeys = [_journey(run) for run in await _runs(bus) if run.owner == node and run.phase in TRAINING_OWNED]
        if dry_run:
            return journeys, None
        deadline = stamp(datetime.now(UTC) + timedelta(seconds=left))
        event = new_event(ReclaimNotice(node=node, deadline=deadline, source="drill", detail=reason), source=aim.source)
        began = time.monotonic()
        await bus.publish(event)
        await _follow(bus, journeys, began, limit)
        return journeys, event.id


async def _follow(bus: Bus, journeys: Sequence[Journey], began: float, limit: float) -> None:
    open_ones = {each.run: each for each in journeys}
    while open_ones and time.monotonic() < began + limit:
        for run in await _runs(bus):
            if run.run in open_ones:
                open_ones[run.run].look(run, time.monotonic() - began)
        open_ones = {name: each for name, each in open_ones.items() if not each.done}
        await asyncio.sleep(LOOK_SECONDS)


def _journey(run: TrainingRunState) -> Journey:
    at = run.checkpoint
    return Journey(run.run, run.claim, at.step if at is not None else None, at.at if at is not None else None)


async def _runs(bus: Bus) -> list[TrainingRunState]:
    try:
        return [read(TrainingRunState, entry) for entry in await bus.newest(TRAINING, (training_subject("*"),))]
    except NotFound:
        return []
