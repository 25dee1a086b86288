"""The registry daemon's shell: connects its parts, and stops them in order."""

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from fleetcast.bus import Bus, Service, connect
from fleetcast.bus.streams import declare
from fleetcast.config.settings import Settings
from fleetcast.daemons import metrics
from fleetcast.daemons.metrics.audit import AuditWatch
from fleetcast.daemons.metrics.backups import BackupWatch
from fleetcast.daemons.metrics.readings.fleet import FleetReading
from fleetcast.daemons.registry.adoption import adopt_all, take_authority
from fleetcast.daemons.registry.archival import ArchivalDesk
from fleetcast.daemons.registry.desk import TransitionDesk
from fleetcast.daemons.registry.driver import Driver
from fleetcast.daemons.registry.projector import Projector
from fleetcast.daemons.registry.queries import QueryDesk
from fleetcast.daemons.registry.watching import Nodes
from fleetcast.daemons.runtime import Daemon, Stage, run_daemon
from fleetcast.daemons.runtime.beat import VERSION, Heartbeat, until_closed
from fleetcast.daemons.runtime.progress import Progress
from fleetcast.daemons.runtime.readiness import say_ready
from fleetcast.daemons.runtime.starting import VAIN_SECONDS, patiently
from fleetcast.events.lifecycle import QUERY_SUBJECT, AuthorityState
from fleetcast.registry.archival.asking import ARCHIVAL_SUBJECT
from fleetcast.registry.commands import stamp
from fleetcast.registry.engine import Engine
from fleetcast.registry.gates import Policy, load
from fleetcast.registry.ledger import Ledger
from fleetcast.registry.registry import Registry

log = structlog.get_logger("fleetcast.registry")

GROUP = "registry"
"""Registry daemons share the requests: each is answered by one of them."""
SILENT_BEATS = 3.0
"""Heartbeats that a node may miss before it is called silent."""


def main(settings: Settings) -> int:
    """Run the registry daemon until it is told to stop; returns the process's exit code."""
    return run_daemon("registry", settings, run)


async def run(daemon: Daemon) -> None:
    """The body of the daemon."""
    settings = daemon.settings
    policy = await asyncio.to_thread(_policy, settings.registry.gates)
    async with connect(settings.bus, node=daemon.node, daemon="registry") as bus:
        await declare(bus, settings.bus.replicas)
        await _live(daemon, bus, policy)


def _policy(path: Path | None) -> Policy:
    if path is None:
        log.warning("gates.none", reason="whoever promotes decides; registry.gates names a file with gates")
        return Policy.default()
    policy = load(path)
    log.info("gates.loaded", file=str(path), digest=policy.digest)
    return policy


def _read_model(settings: Settings) -> Path:
    return settings.registry.read_model or settings.store.data / "registry" / "read-model.sqlite"


async def _live(daemon: Daemon, bus: Bus, policy: Policy) -> None:
    actor = f"/fleet/{daemon.node}/registry"
    ledger = Ledger(bus)
    nodes = Nodes(bus, silent_after_seconds=SILENT_BEATS * daemon.settings.distributor.heartbeat_seconds)
    engine = Engine(
        bus,
        policy=lambda: policy,
        readiness=nodes.readiness,
        ledger=ledger,
        archive_node=daemon.settings.archival.node,
        obeyed=nodes.obeyed,
        node_facts=nodes.facts,
    )
    driver = Driver(bus, engine, nodes, actor=actor, look_seconds=daemon.settings.registry.look_seconds)
    desk = TransitionDesk(engine)
    archival = ArchivalDesk(bus, engine, daemon.settings.archival, actor=actor)
    projector = Projector(bus, _read_model(daemon.settings))
    beat = Heartbeat(daemon, bus, lambda: _sentence(driver))
    audit = AuditWatch(bus)
    backups = BackupWatch(bus, daemon.settings.backup.recovery_point_seconds)
    reading = FleetReading(bus, nodes, driver, engine, projector, audit, backups)
    async with daemon.roots() as roots:
        roots.start("bus", until_closed(bus), stage=Stage.SUPPORT)
        roots.start("audit", audit.run(), stage=Stage.SUPPORT)
        roots.start("metrics", metrics.serve(daemon, bus, reading.read), stage=Stage.SUPPORT)
        roots.start("read-model", projector.run(), stage=Stage.SUPPORT)
        roots.start("nodes", nodes.watch())
        roots.start("rollouts", driver.watch())
        daemon.status("reading what nodes report of themselves")
        await nodes.known.wait()
        daemon.status("taking over what the registry holds")
        wanted = _authority(daemon.node, policy)
        await patiently(lambda: take_authority(ledger, wanted), doing="taking authority")
        made = Progress(VAIN_SECONDS)
        adopt = partial(adopt_all, bus, Registry(bus), engine, actor, adopted=made.made)
        await patiently(adopt, doing="adopting versions", progress=made)
        roots.start("driver", driver.run())
        roots.start("heartbeat", beat.run(), stage=Stage.SUPPORT)
        if daemon.settings.archival.mode != "off":
            roots.start("archival", archival.run())
        service = await bus.serve(_service(daemon, desk, QueryDesk(bus, projector), archival, driver))
        await say_ready(daemon, bus, beat.sentence)
    await service.stop()
    await beat.stopped()


def _authority(node: str, policy: Policy) -> AuthorityState:
    gates = f"{policy.name} {policy.digest[:16]}" if policy.name else ""
    return AuthorityState(mode="daemon", node=node, gates=gates, at=stamp(datetime.now(UTC)))


def _service(
    daemon: Daemon, desk: TransitionDesk, queries: QueryDesk, archival: ArchivalDesk, driver: Driver
) -> Service:
    def data() -> Mapping[str, Any]:
        return {"rollouts": driver.under_way}

    return Service(
        name="fleetcast-registry",
        version=VERSION,
        description="decides which version of a model is served, and says what was decided",
        metadata={"node": daemon.node, "daemon": "registry", "pid": str(os.getpid())},
        endpoints={
            **desk.endpoints(),
            "query": (QUERY_SUBJECT, queries.answer),
            "archival": (ARCHIVAL_SUBJECT, archival.answer),
        },
        group=GROUP,
        data=data,
    )


def _sentence(driver: Driver) -> str:
    count = driver.under_way
    return f"{count} rollout{'' if count == 1 else 's'} under way" if count else "no rollout under way"
