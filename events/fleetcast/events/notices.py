"""What the notifier tells of itself: a message that reached nobody."""

from pydantic import Field

from fleetcast.events.ids import Name
from fleetcast.events.lifecycle import Text
from fleetcast.events.payloads import Moment, Payload


class NotificationFailed(Payload):
    """A message to people was given up: it is parked, and its channel raises an incident that other channels tell.

    Attributes:
        channel: as the settings name it.
        kind: what the channel is: `slack`, `mail`, `pagerduty`, `webhook` or `apprise`.
        message: id of the message.
        about: the incidents, playbook runs or decisions that it told, the first 50.
        since: the first attempt.
        reason: of the last failure.
    """

    channel: Name
    kind: Text
    message: Text
    title: Text
    about: tuple[Text, ...] = Field(default=(), max_length=50)
    since: Moment
    attempts: int = Field(ge=1)
    reason: str
    next_step: str
    node: Name
