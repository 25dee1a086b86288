"""What nodes tell of hooks: the commands and signals by which a serving process learns what it shall serve."""

from typing import Literal

from pydantic import Field

from fleetcast.events.ids import Name, Sha256, Version
from fleetcast.events.payloads import Payload

HookReason = Literal["activated", "drained", "undrained"]
"""Why a hook runs: a version came into force on the node, or the node was taken out of service or back in."""


class HookFailed(Payload):
    """A hook did not do its work: the pointer moved, and whoever serves may not know of it.

    Attributes:
        generation: of the slot order that was obeyed.
        slot: the one that `current` follows there.
        occasion: why it ran.
        attempt: counted from 1; told of the attempts 1, 2, 4, 8 and so on.
        error: one line: how it ended.
        output: the end of what it printed.
    """

    node: Name
    model: Name
    version: Version
    artifact: Sha256
    generation: int = Field(ge=1)
    slot: str
    occasion: HookReason
    attempt: int = Field(ge=1)
    error: str
    output: str = ""
    seconds: float = Field(ge=0)


class HookRecovered(Payload):
    """A hook that had failed did its work.

    Attributes:
        attempts: all of them, this one included.
    """

    node: Name
    model: Name
    version: Version
    generation: int = Field(ge=1)
    attempts: int = Field(ge=2)
