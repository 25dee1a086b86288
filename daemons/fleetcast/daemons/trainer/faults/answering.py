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
        dry_run: only say what would become of it.
    """

    node: Name
    quarantined: bool
    seconds: float = Field(default=HOURS * 3600, gt=0, le=MOST_SECONDS)
    reason: Text
    by: Text
    dry_run: bool = False


class QuarantineAnswer(Stored):
    """What became of it.

    Attributes:
        known: False: nothing was ever noted of the node.
        before: until when it was to get no runs before this; None: it got some.
        until: the same now; None: it gets runs.
    """

    node: Name
    known: bool = True
    before: str | None = None
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
        there, dry = await self._book.find(asked.node), asked.dry_run
        before = there.until if there is not None else None
        if asked.quarantined:
            length = timedelta(seconds=asked.seconds)
            record = await self._book.order(asked.node, length, reason=asked.reason, by=asked.by, dry_run=dry)
            return QuarantineAnswer(node=asked.node, before=before, until=record.until, reason=record.reason)
        left = await self._book.leave(asked.node, by=f"{asked.by}: {asked.reason}"[:200], dry_run=dry)
        return QuarantineAnswer(node=asked.node, known=left is not None, before=before)
