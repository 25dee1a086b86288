"""From settings to channels."""

from typing import Protocol

from fleetcast.config.notifier import (
    AppriseChannel,
    MailChannel,
    NotifierSettings,
    PagerDutyChannel,
    SlackChannel,
)
from fleetcast.daemons.notifier.channels.mail import Mail
from fleetcast.daemons.notifier.channels.other import Apprise
from fleetcast.daemons.notifier.channels.pagerduty import PagerDuty
from fleetcast.daemons.notifier.channels.slack import Slack
from fleetcast.daemons.notifier.channels.webhook import Webhook
from fleetcast.daemons.notifier.rules import Outcome
from fleetcast.daemons.notifier.state import Message


class Channel(Protocol):
    """Brings messages to people; `kind` as the settings name it."""

    kind: str

    async def send(self, message: Message) -> Outcome:
        """Deliver once, and say what came of it; whoever calls limits the time."""


def open_channel(name: str, settings: NotifierSettings) -> Channel:
    """The channel *name* of the settings."""
    chosen = settings.channels[name]
    match chosen:
        case SlackChannel():
            return Slack(chosen)
        case PagerDutyChannel():
            return PagerDuty(chosen)
        case MailChannel():
            return Mail(chosen, attempt_seconds=settings.attempt_seconds)
        case AppriseChannel():
            return Apprise(chosen)
        case _:
            return Webhook(chosen)
