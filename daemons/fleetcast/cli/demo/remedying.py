"""The steps of the demo in which a bad version is noticed by its errors and taken back by itself."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fleetcast.cli import history
from fleetcast.cli.demo import evidence
from fleetcast.cli.demo.evidence import check
from fleetcast.cli.demo.material import JUDGED
from fleetcast.cli.demo.stage import STEP_SECONDS, Stage
from fleetcast.cli.narrate import sentence
from fleetcast.cli.registry.reasons import decision_facts
from fleetcast.cli.units import duration
from fleetcast.client.ulid import new_ulid
from fleetcast.events.envelope import Event
from fleetcast.events.incidents import IncidentOpened, Verdict, VerdictChanged
from fleetcast.events.payloads import VersionActivated
from fleetcast.events.remedies import RUN_ENDED, PlaybookRunChanged, RunPhase, StepOutcome
from fleetcast.registry import Registry
from fleetcast.registry.querying import query

SNAPSHOT_SECONDS = 0.5
REQUESTS = 200
HEALTHY_ERRORS = 2
RISING_ERRORS = (2, 6, 24, 48)
"""Of so many requests: 1 %, 3 %, 12 %, 24 %."""
BAD, GOOD = "3", "2"
TOLD = ("verdict.changed", "incident.opened", "playbook.run.changed", "version.activated")


@dataclass(frozen=True)
class Seen:
    """What the log told while the version was taken back."""

    breach: Event
    incident: IncidentOpened
    run: PlaybookRunChanged
    last: Event

    @property
    def seconds(self) -> float:
        """From the verdict until the last node served the former version, by the events' own times."""
        return (self.last.time - self.breach.time).total_seconds()


async def take_back(stage: Stage) -> str:
    """The canary's errors rise: a verdict, an incident, a playbook, and every node is back on the version before."""
    slot = stage.fleet.slot(JUDGED)
    assert slot is not None
    assert slot.canary is not None
    [chosen] = slot.canary.nodes
    newest = await stage.bus.last_sequence(history.STREAM)
    async with _reporting(stage, chosen), asyncio.timeout(STEP_SECONDS):
        seen = await _seen(stage, newest + 1, chosen)
    check(seen.run.phase is RunPhase.SUCCEEDED, f"the playbook ended as {seen.run.phase}: {seen.run.detail}")
    for name in stage.names:
        await asyncio.to_thread(evidence.check_pointer, stage.local.layout, name, stage.judged[GOOD], "current")
    return (
        f"incident {seen.incident.incident}; {seen.run.playbook} done; {duration(seen.seconds)} from the verdict until "
        f"{chosen} served {GOOD} again, as all do, read from their disks"
    )


@asynccontextmanager
async def _reporting(stage: Stage, chosen: str) -> AsyncIterator[None]:
    """Serving code on every node: the version under trial answers with more and more errors."""
    reporter = asyncio.create_task(_report(stage, chosen), name="snapshots")
    try:
        yield
    finally:
        reporter.cancel()
        await asyncio.gather(reporter, return_exceptions=True)


async def _report(stage: Stage, chosen: str) -> None:
    for number in range(10_000):
        for node in stage.names:
            version, errors = GOOD, HEALTHY_ERRORS
            if node == chosen:
                version, errors = BAD, RISING_ERRORS[min(number, len(RISING_ERRORS) - 1)]
            told = {
                "version": version,
                "node": node,
                "interval_seconds": SNAPSHOT_SECONDS,
                "num_requests": REQUESTS,
                "errors": errors,
            }
            await stage.bus.publish_raw(f"fc.perf.{JUDGED}", json.dumps(told).encode(), {"Nats-Msg-Id": new_ulid()})
        await asyncio.sleep(SNAPSHOT_SECONDS)


async def _seen(stage: Stage, start: int, chosen: str) -> Seen:
    breach = incident = run = last = None
    subjects = history.subjects(TOLD, JUDGED)
    async for event in history.follow(stage.bus, subjects, start_sequence=start, follow=True):
        if not isinstance(event, Event):
            continue
        payload = event.payload
        if isinstance(payload, VerdictChanged) and payload.version == BAD and payload.verdict is Verdict.BREACH:
            breach = breach or event
        elif isinstance(payload, IncidentOpened):
            incident = payload
        elif isinstance(payload, PlaybookRunChanged):
            run = payload
        elif isinstance(payload, VersionActivated) and payload.node == chosen and payload.version == GOOD:
            last = event
        else:
            continue
        if not isinstance(payload, PlaybookRunChanged) or _is_told(payload):
            stage.out.say(f"      {sentence(event)}")
        if breach and incident and run and last and run.phase in RUN_ENDED:
            return Seen(breach, incident, run, last)
    raise AssertionError("unreachable: the log is followed for ever")


def _is_told(run: PlaybookRunChanged) -> bool:
    """Of a run, that it begins, what did not go well, and its end: `fleetcast playbook show` has every step."""
    return run.begins or run.phase is not RunPhase.RUNNING or run.outcome is not StepOutcome.SUCCEEDED


async def read_back(stage: Stage) -> str:
    """What was served at any time can be read, and why."""
    before = stage.canary_at
    assert before is not None
    told = await query(stage.bus, "history", {"model": JUDGED})
    then = await query(stage.bus, "registry_at", {"at": before, "model": JUDGED})
    [slot] = then.result["slots"]
    check(slot["canary"] == BAD, f"registry at {before} says that the canary was {slot['canary']}, not {BAD}")
    problems = await Registry(stage.bus).broken_links(JUDGED)
    check(not problems, f"the audit chain is broken: {problems}")
    for fact in await decision_facts(stage.bus, JUDGED):
        stage.out.say(f"      {fact}")
    return (
        f"{len(told.result['records'])} decisions in an unbroken chain; {BAD}, the canary of {before}, is quarantined"
    )
