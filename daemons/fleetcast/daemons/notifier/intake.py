"""Events in, wishes out: an event is acknowledged once what is to be told of it, and to whom, is stored."""

import asyncio

import structlog

from fleetcast.bus import Bus, ConsumerSpec, Delivery, Reject
from fleetcast.bus.errors import NotFound, TransportFailed
from fleetcast.bus.streams import EVENTS
from fleetcast.config.notifier import NotifierSettings
from fleetcast.daemons.notifier.ledger import Ledger
from fleetcast.daemons.notifier.routing import routes_in_force, wishes
from fleetcast.daemons.notifier.state import Topic
from fleetcast.daemons.notifier.topics import EVENTS as TOLD
from fleetcast.daemons.notifier.topics import fold, topic_of
from fleetcast.events.envelope import Event
from fleetcast.events.names import find
from fleetcast.registry.commands import stamp
from fleetcast.registry.errors import RecordDamaged

log = structlog.get_logger("fleetcast.notifier")

GROUP = "notifier"
"""Notifiers share the events; each is taken in by one of them."""
LOOK_SECONDS = 0.05
ACK_SECONDS = 5.0
"""How long the events of a notifier that died wait for another one."""
DELIVERIES = 100_000
"""An event that cannot be taken in now waits for weeks, and those behind it wait too: their order is what they say."""


class Intake:
    """Takes events in, one after the other."""

    def __init__(self, bus: Bus, ledger: Ledger, settings: NotifierSettings) -> None:
        self._bus = bus
        self._ledger = ledger
        self._routes = routes_in_force(settings)

    async def run(self) -> None:
        """Take in until cancelled."""
        spec = ConsumerSpec(
            stream=EVENTS,
            subjects=tuple(find(name).subject("*") for name in TOLD),
            durable=GROUP,
            start="new",
            max_deliver=DELIVERIES,
            ack_wait_seconds=ACK_SECONDS,
            concurrency=1,
            max_ack_pending=1,
            description="What people are told of",
        )
        source = f"/fleet/{self._bus.node}/notifier"
        await self._bus.consume_events(spec, self.take, reject_source=source)

    async def listening(self) -> None:
        """Return once no event can be missed any more: what is said before the first notifier listens is no news."""
        while True:
            try:
                await self._bus.js.api(f"CONSUMER.INFO.{EVENTS}.{GROUP}")
                return
            except (NotFound, TransportFailed):
                await asyncio.sleep(LOOK_SECONDS)

    async def take(self, event: Event, delivery: Delivery) -> None:
        """Take one event in.

        Raises:
            Reject: what is stored of its topic cannot be read.
            BusUnavailable: not now.
        """
        name = topic_of(event)
        if name is None:
            return

        def change(topic: Topic | None) -> Topic | None:
            folded = fold(topic, event, sequence=delivery.sequence, at=delivery.time)
            if folded is None:
                return None
            made, what = folded
            return made.model_copy(update={"wishes": dict(wishes(made, what, self._routes, stamp(delivery.time)))})

        try:
            changed = await self._ledger.put_topic(name, change)
        except RecordDamaged as e:
            raise Reject(str(e), next_step="fleetcast dlq show NUMBER") from e
        if changed:
            log.info("notice.taken", topic=name, type=event.type.name)
