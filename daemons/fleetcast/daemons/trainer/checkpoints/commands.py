"""What is asked of trainers about checkpoints, and what they answer."""

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from fleetcast.events.content import Stored, Value
from fleetcast.events.ids import FilePath, Name, Version
from fleetcast.events.lifecycle import Text, Words

CHECKPOINTS_SUBJECT: Final = "fc.svc.trainer.checkpoints"
"""Any trainer answers: pins are kept in the run's record."""


class PinCheckpoint(Value):
    """Keep a checkpoint, whatever the lane's policy says."""

    do: Literal["pin"] = "pin"
    run: Name
    path: FilePath
    reason: Words
    by: Text


class UnpinCheckpoint(Value):
    """Leave a checkpoint to the lane's policy again."""

    do: Literal["unpin"] = "unpin"
    run: Name
    path: FilePath
    by: Text


class BringCheckpoint(Value):
    """Have a checkpoint that lies on the node that is asked distributed to another one."""

    do: Literal["bring"] = "bring"
    run: Name
    path: FilePath
    version: Version | None = None
    to: Name


AnyRequest = Annotated[PinCheckpoint | UnpinCheckpoint | BringCheckpoint, Field(discriminator="do")]
REQUESTS: Final[TypeAdapter[PinCheckpoint | UnpinCheckpoint | BringCheckpoint]] = TypeAdapter(AnyRequest)


class CheckpointAnswer(Stored):
    """What came of a request.

    Attributes:
        version: under which a checkpoint is on its way.
    """

    outcome: Literal["done", "unknown", "refused"]
    message: str = ""
    version: str | None = None
