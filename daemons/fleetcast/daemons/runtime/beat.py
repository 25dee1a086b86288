"""The heartbeat of the daemons that serve the whole fleet: what they report of themselves in `fc_nodes`, and to whom
watches over the process.

    beat = Heartbeat(daemon, bus, sentence=lambda: "2 models watched")
    async with daemon.roots() as roots:
        roots.start("bus", until_closed(bus), stage=Stage.SUPPORT)
        roots.start("heartbeat", beat.run(), stage=Stage.SUPPORT)
        await say_ready(daemon, bus, beat.sentence)
    await beat.stopped()

A distributor's says more, of models and transfers, and is its own.
"""

import asyncio
import importlib.metadata
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from fleetcast.bus import Bus, BusState
from fleetcast.bus.errors import BusError, PayloadTooLarge
from fleetcast.bus.streams import NODES_BUCKET
from fleetcast.daemons.runtime.lifecycle import Daemon
from fleetcast.daemons.runtime.progress import Progress
from fleetcast.daemons.runtime.readiness import with_bus
from fleetcast.events.payloads import DaemonState, Endpoints, Wants
from fleetcast.events.state import NodeStatus

log = structlog.get_logger(__name__)

VERSION = importlib.metadata.version("fleetcast")
PROOF_SECONDS = 60.0
"""A beat waits at most for its distance and one request; this much silence means that the loop hangs."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Heartbeat:
    """Reports one daemon under `<node>.<daemon>`; every beat, answered or not, proves to the watchdog that it works.

    Attributes:
        sentence: what the daemon does right now, for people, in one line.
        whole: whether it does all that it promises; where it does not, it is `degraded` though the bus is ready.
        more: further fields of its `NodeStatus`, in place of what all daemons say.
    """

    def __init__(
        self,
        daemon: Daemon,
        bus: Bus,
        sentence: Callable[[], str],
        *,
        whole: Callable[[], bool] = lambda: True,
        more: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.sentence = sentence
        self.whole = whole
        self.more = more
        self._daemon = daemon
        self._bus = bus
        self._started = _now()
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Report now instead of at the next beat."""
        self._changed.set()

    async def run(self) -> None:
        """Report until cancelled."""
        alive = Progress(PROOF_SECONDS)
        self._daemon.progress("heartbeat", alive)
        while True:
            self._changed.clear()
            ready = self._bus.state is BusState.READY and self.whole()
            await self._put(DaemonState.READY if ready else DaemonState.DEGRADED)
            alive.made()
            self._daemon.status(with_bus(self._bus, self.sentence()))
            try:
                async with asyncio.timeout(self._daemon.settings.distributor.heartbeat_seconds):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def stopped(self) -> None:
        """Last words of an orderly end."""
        await self._put(DaemonState.STOPPED)

    async def _put(self, state: DaemonState) -> None:
        settings = self._daemon.settings
        status = NodeStatus(
            node=self._daemon.node,
            daemon=self._daemon.name,
            version=VERSION,
            state=state,
            status=self.sentence(),
            pid=os.getpid(),
            started_at=self._started,
            at=_now(),
            endpoints=Endpoints(),
            labels=settings.node.labels,
            wants=Wants(models=(), lanes=()),
            data=str(settings.store.data),
            metrics=self._daemon.metrics_url,
        ).model_copy(update=dict(self.more()))
        key = f"{status.node}.{status.daemon}"
        try:
            document = status.model_dump_json().encode()
            await self._bus.kv_put(NODES_BUCKET, key, document, deadline_seconds=settings.bus.request_timeout_seconds)
        except PayloadTooLarge as refused:
            log.warning("heartbeat.refused", reason=str(refused))
        except BusError as away:
            log.debug("heartbeat.missed", reason=str(away))


async def until_closed(bus: Bus) -> None:
    """A connection that closed for good ends the daemon: the service manager starts a fresh one."""
    await bus.closed.wait()
    raise ConnectionError("the connection to NATS closed for good")
