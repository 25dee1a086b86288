"""When a channel fails: the facts that tell of it, and the incident that goes through the other channels."""

from datetime import datetime

from fleetcast.bus import Bus
from fleetcast.daemons.notifier.state import Outbox, Parked
from fleetcast.daemons.notifier.topics import line
from fleetcast.events.envelope import new_event
from fleetcast.events.incidents import IncidentCleared, IncidentRaised, ResourceType, Severity
from fleetcast.events.notices import NotificationFailed
from fleetcast.registry.commands import stamp

TRIGGER = "notification_failed"


class Trouble:
    """Tells of one channel. Ids follow from what happened, so that nothing is told twice."""

    def __init__(self, bus: Bus, channel: str, kind: str) -> None:
        self._bus = bus
        self._channel = channel
        self._kind = kind
        self._source = f"/fleet/{bus.node}/notifier"

    async def given_up(self, parked: Parked) -> None:
        """A message was parked. Raises BusUnavailable."""
        message = parked.message
        payload = NotificationFailed(
            channel=self._channel,
            kind=self._kind,
            message=message.id,
            title=line(message.title, 200),
            about=tuple(each.topic for each in message.members[:50]),
            since=parked.since,
            attempts=parked.attempts,
            reason=line(parked.reason, 500),
            next_step=f"fleetcast notify status {self._channel}",
            node=self._bus.node,
        )
        await self._bus.publish(new_event(payload, source=self._source, event_id=f"{message.id}-failed"))

    async def raised(self, outbox: Outbox, reason: str) -> None:
        """The channel is an incident of its own now. Raises BusUnavailable."""
        since = outbox.failing_since
        said = f"{self._channel} fails since {since}: {line(reason)}"
        payload = IncidentRaised(
            source="notifier",
            resource_type=ResourceType.CHANNEL,
            resource_id=self._channel,
            trigger=TRIGGER,
            severity=Severity.HIGH,
            title=f"channel {self._channel} ({self._kind}) does not deliver",
            description="People who are told through this channel alone do not hear of anything.",
            began_at=since,
            context={"reasons": [said], "attempts": outbox.attempts, "given_up": outbox.unsaid},
        )
        await self._bus.publish(
            new_event(payload, source=self._source, event_id=f"{self._channel}-{since}-raised".replace(" ", "_"))
        )

    async def over(self, now: datetime) -> None:
        """It delivers again. Raises BusUnavailable."""
        payload = IncidentCleared(
            source="notifier",
            resource_type=ResourceType.CHANNEL,
            resource_id=self._channel,
            trigger=TRIGGER,
            reason=f"{self._channel} delivered a message at {stamp(now)}",
        )
        await self._bus.publish(new_event(payload, source=self._source))
