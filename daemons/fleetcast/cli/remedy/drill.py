"""`fleetcast drill rollback MODEL`: judge and playbook on nothing that is served, with the time of every step.

The synthetic snapshots travel over the server on a subject of the drill's own, which no stream takes and no monitor
reads, and are judged here by the rules that hold for the model. The playbook is run by the remedy daemon as a drill:
the registry is asked what it would do, and writes nothing.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from fleetcast.bus import Bus, Message
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, Problem, not_found
from fleetcast.cli.remedy.playbooks import Order, answer, document, request, until_ended
from fleetcast.cli.running import run_async
from fleetcast.cli.units import duration, parse_duration
from fleetcast.client.ulid import new_ulid
from fleetcast.events.remedies import PlaybookRunState, RunPhase, StepOutcome
from fleetcast.registry.registry import Registry

SUBJECT = "fc.drill.perf."
HEALTHY_MINUTES = 5
MOST_MINUTES = 60
HEALTHY_RATE = 0.005
INTERVAL_SECONDS = 10
ARRIVAL_SECONDS = 5.0
PLAYBOOK = "model_rollback"


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judge said of the synthetic snapshots.

    Attributes:
        traffic_seconds: of bad traffic, in its own time, before the breach was said.
        seconds: that it took here, for all snapshots.
    """

    snapshots: int
    traffic_seconds: float
    seconds: float
    required: str
    actual: str


def rollback(call: Call, model: str, *, errors: float, requests: int, timeout: str) -> Exit:
    """Try it, and say how long every step took."""
    aim = target(call)
    seconds = parse_duration(timeout, option="--timeout")
    judged, run, total = run_async(_drill(aim, model, errors, requests, seconds))
    rows = _rows(judged, run)
    call.out.document(
        {
            "drill": "rollback",
            "model": model,
            "run": document(run),
            "steps": [{"step": name, "seconds": took, "detail": detail} for name, took, detail in rows],
            "seconds": total,
            "ok": run.phase is RunPhase.SUCCEEDED,
        }
    )
    width = max(len(name) for name, _, _ in rows)
    for name, took, detail in rows:
        call.out.text(printable(f"  {name:<{width}}  {duration(took):>8}  {detail}"))
    call.out.text(f"drill of {model}: {run.phase.value} in {duration(total)}; no slot was moved, nobody was told")
    if run.phase is RunPhase.SUCCEEDED:
        return Exit.OK
    call.out.say(f"a rollback would not have worked: {run.phase_detail}")
    return Exit.FAILED


async def _drill(
    aim: Target, model: str, errors: float, requests: int, seconds: float
) -> tuple[Judged, PlaybookRunState, float]:
    async with connected(aim) as bus:
        slot = await Registry(bus).slot(model)
        if slot is None or slot.production is None:
            raise not_found(f"nothing is served of {model}: there is nothing to try", next_step="fleetcast models")
        bad = (slot.canary or slot.production).version
        judged = await _judged(aim, bus, model, errors, requests)
        began = time.monotonic()
        order = Order(PLAYBOOK, model, version=bad)
        said = await answer(bus, request(aim, order, f"drill: {judged.actual}", drill=True))
        run = await until_ended(bus, said.runs[0].run, seconds)
        return judged, run, round(judged.seconds + time.monotonic() - began, 4)


async def _judged(aim: Target, bus: Bus, model: str, errors: float, requests: int) -> Judged:
    """Send the snapshots over the server, and judge what arrives."""
    subject = f"{SUBJECT}{model}.{new_ulid().lower()}"
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def take(message: Message) -> None:
        arrived.put_nowait(message.data)

    stop = await bus.listen(subject, take)
    began = time.perf_counter()
    try:
        judge = await asyncio.to_thread(_Bench, aim, model)
        for number in range((HEALTHY_MINUTES + MOST_MINUTES) * 60 // INTERVAL_SECONDS):
            at = number * INTERVAL_SECONDS
            rate = HEALTHY_RATE if at < HEALTHY_MINUTES * 60 else errors
            await bus.send(subject, _snapshot(model, requests, rate, number))
            async with asyncio.timeout(ARRIVAL_SECONDS):
                data = await arrived.get()
            breach = judge.take(data, number, at)
            if breach is not None:
                took = time.perf_counter() - began
                return Judged(number + 1, at - HEALTHY_MINUTES * 60 + INTERVAL_SECONDS, round(took, 4), *breach)
    finally:
        await stop()
    raise Problem(
        "no_breach",
        f"the rules of {model} see no breach in {MOST_MINUTES} minutes at {errors:.1%} errors, {requests} a minute",
        next_step=f"fleetcast monitor show {model}    (or a higher --errors)",
    )


def _snapshot(model: str, requests: int, rate: float, number: int) -> bytes:
    """One interval's report. Errors are spread evenly, so that every drill sees the same."""
    count = max(1, requests * INTERVAL_SECONDS // 60)
    errors = round((number + 1) * count * rate) - round(number * count * rate)
    return json.dumps(
        {
            "model": model,
            "version": "drill",
            "node": "drill",
            "interval_seconds": INTERVAL_SECONDS,
            "num_requests": count,
            "errors": min(count, errors),
        }
    ).encode()


class _Bench:
    """The judge with a slot of its own, in a time of its own."""

    def __init__(self, aim: Target, model: str) -> None:
        from fleetcast.daemons.monitor.judge import Judge
        from fleetcast.daemons.monitor.loading import load
        from fleetcast.daemons.monitor.policy import Policy
        from fleetcast.events.state import Cause, SlotEntry, SlotState

        self._began = datetime.now(UTC).timestamp()
        path = aim.settings.monitor.policy
        policy = Policy.default() if path is None else load(path)
        self._judge = Judge(policy.for_model(model), model)
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = SlotEntry(version="drill", artifact="0" * 64)
        cause = Cause(event="drill", sequence=0, by="drill", correlation="drill")
        self._judge.order(
            SlotState(model=model, generation=1, production=entry, cause=cause, at=at), self._began - 3600
        )

    def take(self, data: bytes, sequence: int, at: float) -> tuple[str, str] | None:
        """What is required and what is there, once it is a breach."""
        from fleetcast.events.incidents import Verdict
        from fleetcast.events.performance import parse_snapshot

        snapshot = parse_snapshot(data, stored_at=self._began + at, sequence=sequence + 1)
        for event in self._judge.take(snapshot):
            if event.verdict is Verdict.BREACH:
                return event.required, event.actual
        return None


def _rows(judged: Judged, run: PlaybookRunState) -> list[tuple[str, float, str]]:
    after = f"breach after {duration(judged.traffic_seconds)} of bad traffic ({judged.snapshots} snapshots)"
    rows = [("judge", judged.seconds, f"{after}: {judged.actual}, {judged.required}")]
    rows += [(step.name, step.seconds, step.detail) for step in run.steps if step.outcome is not StepOutcome.SKIPPED]
    return rows
