"""The remedy daemon's shell: connects its parts, and stops them in order."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import structlog

from fleetcast.bus import Bus, Service, connect
from fleetcast.bus.streams import declare
from fleetcast.config.settings import Settings
from fleetcast.daemons import metrics
from fleetcast.daemons.metrics.readings.remedies import RemedyReading
from fleetcast.daemons.remedy.incidents.commands import INCIDENTS_SUBJECT
from fleetcast.daemons.remedy.incidents.commands import READS as INCIDENT_READS
from fleetcast.daemons.remedy.incidents.desk import IncidentDesk
from fleetcast.daemons.remedy.ledger import RemedyLedger
from fleetcast.daemons.remedy.playbooks.commands import READS as PLAYBOOK_READS
from fleetcast.daemons.remedy.playbooks.dependents import Dependents
from fleetcast.daemons.remedy.playbooks.desk import PlaybookDesk
from fleetcast.daemons.remedy.playbooks.intake import Incidents, Intake
from fleetcast.daemons.remedy.playbooks.keeper import Keeper
from fleetcast.daemons.remedy.playbooks.loading import Playbooks, load_all
from fleetcast.daemons.remedy.playbooks.steps import Step, Surroundings, params_of, registered
from fleetcast.daemons.runtime import Daemon, Stage, run_daemon
from fleetcast.daemons.runtime.beat import VERSION, Heartbeat, until_closed
from fleetcast.daemons.runtime.readiness import say_ready
from fleetcast.daemons.runtime.requests import with_reading
from fleetcast.events.remedies import PLAYBOOKS_SUBJECT
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.nodes import FleetWatch
from fleetcast.registry.registry import Registry

log = structlog.get_logger("fleetcast.remedy")

GROUP = "remedy"
"""Remedy daemons share the requests: each is answered by one of them."""
SILENT_BEATS = 3.0


def main(settings: Settings) -> int:
    """Run the remedy daemon until it is told to stop; returns the process's exit code."""
    return run_daemon("remedy", settings, run)


async def run(daemon: Daemon) -> None:
    """The body of the daemon."""
    settings = daemon.settings
    steps = await asyncio.to_thread(registered)
    playbooks = await asyncio.to_thread(load_all, settings.remedy.playbooks, params_of(steps))
    log.info("playbooks.loaded", playbooks=list(playbooks.all), folder=str(settings.remedy.playbooks or ""))
    async with connect(settings.bus, node=daemon.node, daemon="remedy") as bus:
        await declare(bus, settings.bus.replicas)
        await _live(daemon, bus, playbooks, steps)


async def _live(daemon: Daemon, bus: Bus, playbooks: Playbooks, steps: Mapping[str, Step]) -> None:
    settings = daemon.settings
    ledger = RemedyLedger(bus)
    incidents = IncidentDesk(bus, ledger, settings.incidents)
    fleet = FleetWatch(bus, silent_after_seconds=SILENT_BEATS * settings.distributor.heartbeat_seconds)
    actor = f"/fleet/{daemon.node}/remedy"
    around = Surroundings(
        bus=bus,
        registry=RegistryClient(bus, actor=actor),
        book=Registry(bus),
        fleet=fleet,
        now=incidents.clock.now,
        actor=actor,
        dependents=Dependents(settings).of,
    )
    keeper = Keeper(bus, ledger, settings, playbooks, steps, around)
    intake = Intake(bus, keeper, Incidents(lambda: incidents.open, incidents.incidents.note))
    beat = Heartbeat(daemon, bus, lambda: f"{keeper.sentence()}, {incidents.sentence()}")
    async with daemon.roots() as roots:
        roots.start("bus", until_closed(bus), stage=Stage.SUPPORT)
        reading = RemedyReading(incidents, keeper)
        roots.start("metrics", metrics.serve(daemon, bus, reading.read), stage=Stage.SUPPORT)
        roots.start("heartbeat", beat.run(), stage=Stage.SUPPORT)
        roots.start("nodes", fleet.watch(), stage=Stage.SUPPORT)
        roots.start("incidents", incidents.run())
        roots.start("playbooks", keeper.run())
        await asyncio.gather(incidents.known.wait(), keeper.known.wait(), fleet.known.wait())
        roots.start("requests", intake.consume())
        roots.start("timelines", intake.tell())
        service = await bus.serve(_service(daemon, incidents, PlaybookDesk(keeper), keeper))
        await say_ready(daemon, bus, beat.sentence)
    await service.stop()
    await beat.stopped()


def _service(daemon: Daemon, incidents: IncidentDesk, playbooks: PlaybookDesk, keeper: Keeper) -> Service:
    def data() -> Mapping[str, Any]:
        return {"runs": len(keeper.runner.under_way), "incidents": len(incidents.open)}

    return Service(
        name="fleetcast-remedy",
        version=VERSION,
        description="keeps incidents, and runs playbooks",
        metadata={"node": daemon.node, "daemon": "remedy", "pid": str(os.getpid())},
        endpoints={
            **with_reading("incidents", INCIDENTS_SUBJECT, incidents.answer, INCIDENT_READS),
            **with_reading("playbooks", PLAYBOOKS_SUBJECT, playbooks.answer, PLAYBOOK_READS),
        },
        group=GROUP,
        data=data,
    )
