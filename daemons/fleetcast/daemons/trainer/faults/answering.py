"""Nodes that a person keeps from training runs, or gives them again: `fc.svc.trainer.quarantine` in, JSON out."""

from datetime import timedelta

from pydantic import Field

from fleetcast.daemons.runtime.requests import read_request, refusals
from fleetcast.daemons.trainer.faults.book import QuarantineBook
from fleetcast.events.content import Stored
from fleetcast.events.ids import Name
from fleetcast.events.lifecycle import Text

HOURS = 2.0
MOST_SECONDS = 90 * 86400.0


class ChangeQuarantine(Stored):
    """A request.

    Attributes:
        quarantined: False: the node gets runs again.
        seconds: for which it gets none.
    """

    node: Name
    quarantined: bool
    seconds: float = Field(default=HOURS * 3600, gt=0, le=MOST_SECONDS)
    reason: Text
    by: Text


class QuarantineAnswer(Stored):
    """What became of it; `until`: None: the node gets runs."""

    node: Name
    known: bool = True
    until: str | None = None
    reason: str = ""


class QuarantineService:
    """Answers requests about nodes."""

    def __init__(self, book: QuarantineBook) -> None:
        self._book = book

    async def answer(self, body: bytes) -> bytes:
        """The answer to a request, as JSON.

        Raises:
            ServiceError: 400: it is none; 500: what is stored cannot be read; 503: not now, ask again.
        """
        asked = read_request(ChangeQuarantine.model_validate_json, body)
        with refusals():
            answer = await self._change(asked)
        return answer.model_dump_json().encode()

    async def _change(self, asked: ChangeQuarantine) -> QuarantineAnswer:
        if asked.quarantined:
            length = timedelta(seconds=asked.seconds)
            record = await self._book.order(asked.node, length, reason=asked.reason, by=asked.by)
            return QuarantineAnswer(node=asked.node, until=record.until, reason=record.reason)
        left = await self._book.leave(asked.node, by=f"{asked.by}: {asked.reason}"[:200])
        return QuarantineAnswer(node=asked.node, known=left is not None)
