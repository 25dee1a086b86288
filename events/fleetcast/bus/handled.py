"""What became of one message, for whoever counts."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Handled:
    """One call of a handler that has ended.

    Attributes:
        outcome: `done`, `again` (it will be delivered again) or `dead` (it became a dead letter).
        seconds: that the handler took.
        age_seconds: of the message when its handler got it, by this machine's clock; not below 0.
    """

    consumer: str
    subject: str
    outcome: Literal["done", "again", "dead"]
    seconds: float
    age_seconds: float
