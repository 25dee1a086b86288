"""A notifier: what its channels are still to be told, and how deliveries go."""

from collections.abc import Iterable
from datetime import datetime

from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.daemons.notifier.ledger import Ledger


class NoticeReading:
    """Of one notifier. Two of them share the same outboxes: take the greatest value."""

    def __init__(self, ledger: Ledger, channels: Iterable[str]) -> None:
        self._ledger, self._channels = ledger, tuple(channels)

    async def read(self, sheet: Sheet) -> None:
        """Fill in all of it."""
        sheet.start("fleetcast_notices_waiting", "channel", self._channels)
        for channel in (name for topic in self._ledger.topics for name in topic.wishes):
            if channel in self._channels:
                sheet.add("fleetcast_notices_waiting", 1, channel=channel)
        now = self._ledger.clock.now()
        for channel in self._channels:
            box = self._ledger.outbox(channel).value
            if box is None:
                continue
            since = datetime.fromisoformat(box.failing_since) if box.failing_since else now
            sheet.put("fleetcast_channel_failing_seconds", max(0.0, (now - since).total_seconds()), channel=channel)
            sheet.put("fleetcast_notices_sent_total", box.sent_total, channel=channel)
            sheet.put("fleetcast_notices_parked_total", box.parked_total, channel=channel)
            sheet.put("fleetcast_notices_parked", len(box.parked), channel=channel)
