"""What the rules of archival propose, asked of a registry daemon (`fc.svc.registry.archival`), whose settings hold."""

from typing import Final

from pydantic import Field, ValidationError

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.events.content import Stored
from fleetcast.events.ids import Name, Version
from fleetcast.events.lifecycle import ArchiveRule
from fleetcast.registry.errors import NoKeeper, RecordDamaged

ARCHIVAL_SUBJECT: Final = "fc.svc.registry.archival"
ANSWER_SECONDS: Final = 30.0
"""All entries are read for an answer."""
MOST_PROPOSALS: Final = 1000
"""In one answer: more do not fit into a message."""


class ArchivalQuestion(Stored):
    """What should go to the archive? *model*: of one model; None: of all."""

    model: Name | None = None
    limit: int = Field(default=MOST_PROPOSALS, ge=1, le=MOST_PROPOSALS)


class Proposed(Stored):
    """A version that should go, under which rule, and why in words."""

    model: Name
    version: Version
    rule: ArchiveRule
    reason: str


class ArchivalAnswer(Stored):
    """What should go.

    Attributes:
        total: how many there are; `proposals` are the first of them.
        mode: what the daemon does about it by itself.
        node: that keeps the archive; empty: each version's origin.
    """

    proposals: tuple[Proposed, ...]
    total: int
    mode: str
    node: str


async def proposals(bus: Bus, question: ArchivalQuestion) -> ArchivalAnswer:
    """Ask once.

    Raises:
        NoKeeper: no registry daemon answers.
        RecordDamaged: the answer cannot be read.
    """
    try:
        data = await bus.request(ARCHIVAL_SUBJECT, question.model_dump_json().encode(), ANSWER_SECONDS)
        return ArchivalAnswer.model_validate_json(data)
    except (NoResponder, BusTimeout, ConnectionLost, ServiceFailed) as e:
        raise NoKeeper(f"no registry daemon answered: {e}") from e
    except ValidationError as e:
        raise RecordDamaged(f"the answer cannot be read: {e.errors()[0]['msg']}") from e
