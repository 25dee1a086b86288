"""The monitor's shell: connects its parts, and stops them in order."""

import asyncio
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from fleetcast.bus import Bus, Lease, Service, connect
from fleetcast.bus.jetstream import parse_time
from fleetcast.bus.services import RunningService
from fleetcast.bus.streams import LEASE_SECONDS, PERF, declare
from fleetcast.client.ulid import new_ulid
from fleetcast.config.settings import Settings
from fleetcast.daemons import metrics
from fleetcast.daemons.metrics.readings.performance import PerformanceReading
from fleetcast.daemons.monitor.clock import ServerClock
from fleetcast.daemons.monitor.flow import Flow
from fleetcast.daemons.monitor.judging import Judging
from fleetcast.daemons.monitor.loading import load
from fleetcast.daemons.monitor.minutes import MinuteWriter
from fleetcast.daemons.monitor.policy import Policy
from fleetcast.daemons.monitor.queries import PARTS_SUBJECT, QueryDesk
from fleetcast.daemons.monitor.refusing import Refusals
from fleetcast.daemons.monitor.shards import Shards
from fleetcast.daemons.monitor.surroundings import Surroundings
from fleetcast.daemons.monitor.telling import Teller
from fleetcast.daemons.runtime import Daemon, Roots, Stage, run_daemon
from fleetcast.daemons.runtime.beat import VERSION, Heartbeat, until_closed
from fleetcast.daemons.runtime.readiness import say_ready
from fleetcast.events.envelope import Event
from fleetcast.events.incidents import VerdictChanged
from fleetcast.events.state import SlotState
from fleetcast.events.verdicts import MONITOR_QUERY_SUBJECT

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.monitor")

GROUP = "monitor"
"""Monitors share the questions: each is answered by one of them, for all."""
QUIET_SECONDS = 300.0
"""Without a single snapshot for so long, a monitor that has models to judge says so."""


def main(settings: Settings) -> int:
    """Run the monitor until it is told to stop; returns the process's exit code."""
    return run_daemon("monitor", settings, run)


async def run(daemon: Daemon) -> None:
    """The body of the daemon."""
    settings = daemon.settings
    policy = await asyncio.to_thread(_policy, settings.monitor.policy)
    async with connect(settings.bus, node=daemon.node, daemon="monitor") as bus:
        await declare(bus, settings.bus.replicas)
        monitor = Monitor(daemon, bus, policy)
        async with daemon.roots() as roots:
            await monitor.start(roots)
        await monitor.stopped()


def _policy(path: Path | None) -> Policy:
    if path is None:
        log.warning(
            "policy.none", reason="the usual limits hold, and nothing but observing; monitor.policy names a file"
        )
        return Policy.default()
    return load(path)


class Monitor:
    """The parts of one monitor, and how they are connected.

    Args:
        lease_seconds: how long a shard stays with a monitor that is not heard from; as the bucket of leases says.
    """

    def __init__(self, daemon: Daemon, bus: Bus, policy: Policy, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._daemon = daemon
        self._bus = bus
        self._clock = ServerClock()
        beat_seconds = daemon.settings.distributor.heartbeat_seconds
        self._around = Surroundings(bus, self._clock, heartbeat_seconds=beat_seconds)
        owner = f"{daemon.node}.monitor/{new_ulid()}"
        self._shards = Shards(
            bus.leases,
            self,
            name=daemon.node,
            owner=owner,
            members=self._around.members,
            lease_seconds=lease_seconds,
        )
        self._refusals = Refusals(bus, now=self._clock.now)
        self._minutes = MinuteWriter(bus, holds=self._shards.holds)
        self._teller = Teller(
            bus, self._clock, owner=owner, holds=self._shards.holds, fenced=self._shards.give_up, told=_told
        )
        self._judging = Judging(policy, self._around, self._refusals, self._minutes, self._teller.tell)
        self._flow = Flow(
            bus,
            self._clock,
            self._judging,
            self._teller,
            replay_seconds=60.0 * daemon.settings.monitor.replay_minutes,
        )
        self._beat = Heartbeat(daemon, bus, self.sentence, whole=self._is_whole)
        self._desk = QueryDesk(bus, self._judging, self._teller, self._around, now=self._clock.now)
        self._reading = PerformanceReading(
            self._judging, self._around, self._shards, self._flow, self._minutes, self._clock
        )
        self._services: list[RunningService] = []
        self._around.on_slot = self._ordered
        self._around.on_facts = self._judging.learn
        self._around.on_member = self._shards.look

    async def start(self, roots: Roots) -> None:
        """Start everything, in the order in which it leans on each other."""
        roots.start("bus", until_closed(self._bus), stage=Stage.SUPPORT)
        self._clock.seen(parse_time((await self._bus.js.api(f"STREAM.INFO.{PERF}"))["ts"]))
        roots.start("metrics", metrics.serve(self._daemon, self._bus, self._reading.read), stage=Stage.SUPPORT)
        roots.start("heartbeat", self._beat.run(), stage=Stage.SUPPORT)
        roots.start("slots", self._around.watch_slots())
        roots.start("nodes", self._around.watch_nodes())
        roots.start("facts", self._around.read_facts())
        roots.start("facts-news", self._around.watch_facts())
        await self._around.known.wait()
        roots.start("minutes", self._minutes.run(), stage=Stage.SUPPORT)
        roots.start("refusals", self._refusals.run(), stage=Stage.SUPPORT)
        roots.start("telling", self._teller.run(), stage=Stage.SUPPORT)
        roots.start("flow", self._flow.follow())
        roots.start("replay", self._flow.take_over())
        roots.start("time", self._flow.tick())
        roots.start("shards", self._shards.run())
        for service in (self._as_service(), self._as_part()):
            self._services.append(await self._bus.serve(service))
        await say_ready(self._daemon, self._bus, self.sentence)

    async def stopped(self) -> None:
        """Last words of an orderly end."""
        for service in self._services:
            await service.stop()
        await self._beat.stopped()

    @property
    def position(self) -> int:
        """Sequence of FC_PERF up to which everything was judged."""
        return self._flow.position

    def tick(self, ahead_seconds: float) -> None:
        """Let the judges believe that it is so much later."""
        self._judging.tick(self._clock.now().timestamp() + ahead_seconds)

    @property
    def live(self) -> frozenset[int]:
        """The shards that are judged here, now."""
        return self._judging.live_shards

    @property
    def minutes_written(self) -> int:
        """How many minutes were stored."""
        return self._minutes.written

    # -- shards come and go

    def gained(self, shard: int, lease: Lease) -> None:
        """A shard is ours."""
        self._flow.gained(shard, lease)

    def lost(self, shard: int) -> None:
        """A shard is another's."""
        self._flow.lost(shard)

    def _ordered(self, slot: SlotState) -> None:
        self._judging.order(slot)
        known = self._teller.said(slot.model)
        if known is not None and self._judging.is_judged(slot.model):
            self._judging.retire(known)

    # -- what is said of itself

    def sentence(self) -> str:
        """What it does right now, in one line."""
        models = self._judging.models
        said = f"{models} model{'' if models == 1 else 's'} watched in {len(self._shards.held)} of 16 shards"
        if self._flow.lag_seconds > 1:
            return f"{said}; {self._flow.behind} snapshots behind, {self._flow.lag_seconds:.0f} s"
        if self._is_quiet():
            last = self._judging.last_at
            return f"{said}; no snapshot since {last:%H:%M:%S} UTC" if last else f"{said}; no snapshot was seen yet"
        return said

    def _is_quiet(self) -> bool:
        """Whether nothing comes though models are served: then nothing is judged, whatever they do."""
        if not self._around.slots or not self._clock.known:
            return False
        last = self._judging.last_at
        return last is None or self._clock.now() - last > timedelta(seconds=QUIET_SECONDS)

    def _is_whole(self) -> bool:
        return self._flow.lag_seconds < 60 and not (self._judging.last_at and self._is_quiet())

    def _as_service(self) -> Service:
        return Service(
            name="fleetcast-monitor",
            version=VERSION,
            description="judges how the versions that are served perform",
            metadata=self._metadata(),
            endpoints={"query": (MONITOR_QUERY_SUBJECT, self._desk.answer)},
            group=GROUP,
            data=self._counts,
        )

    def _as_part(self) -> Service:
        """Without a group: every monitor answers for its share."""
        return Service(
            name="fleetcast-monitor-part",
            version=VERSION,
            description="the share of one monitor; ask fleetcast-monitor",
            metadata=self._metadata(),
            endpoints={"part": (PARTS_SUBJECT, self._desk.part)},
        )

    def _metadata(self) -> dict[str, str]:
        return {"node": self._daemon.node, "daemon": "monitor", "pid": str(os.getpid())}

    def _counts(self) -> Mapping[str, Any]:
        return {
            "shards": sorted(self._shards.held),
            "models": self._judging.models,
            "snapshots": self._judging.snapshots,
            "behind": self._flow.behind,
            "passed_over": self._flow.passed_over,
            "minutes_written": self._minutes.written,
            "minutes_lost": self._minutes.lost,
            "refusals_untold": self._refusals.untold,
            "void": self._teller.void,
        }


def _told(event: Event) -> None:
    payload = event.payload
    if isinstance(payload, VerdictChanged):
        log.info(
            "verdict.changed",
            model=payload.model,
            version=payload.version,
            signal=payload.signal,
            node=payload.node,
            verdict=payload.verdict.value,
            before=payload.before.value if payload.before else None,
            actual=payload.actual,
            required=payload.required,
            action=payload.action,
            correlation_id=event.correlationid,
        )
    else:
        log.info("said", what=event.type.name, key=event.key, correlation_id=event.correlationid)
