"""That somebody dealt with what could not be handled."""

from enum import StrEnum

from pydantic import Field

from fleetcast.events.lifecycle import Text, Words
from fleetcast.events.payloads import Payload


class Settlement(StrEnum):
    """What became of a dead letter."""

    RETRIED = "retried"
    DROPPED = "dropped"


class LetterSettled(Payload):
    """A dead letter was published again, or dropped, by somebody; it is off the list.

    Attributes:
        consumer: who could not handle it.
        number: its place in FC_DEAD.
        subject: of the message in it; empty where that is no longer stored.
        event: id of the event in it, where it can be told.
        by: who settled it.
    """

    consumer: str
    number: int = Field(ge=1)
    outcome: Settlement
    subject: str = ""
    event: str = ""
    by: Text
    reason: Words | None = None
