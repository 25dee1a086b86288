"""One decision of a remedy daemon, one atomic batch: states by compare-and-swap, and the facts that tell the fleet. Any
number of remedy daemons may work at once; the expected sequences let one of them win."""

from collections.abc import Callable, Sequence
from datetime import datetime

from fleetcast.bus import BatchMessage, Bus
from fleetcast.bus.streams import REMEDY
from fleetcast.events.content import Value
from fleetcast.events.envelope import Event
from fleetcast.events.names import REMEDY_PREFIX
from fleetcast.registry.book import Antecedent, Book, Found, now, read
from fleetcast.registry.rules import dump

__all__ = ["Antecedent", "Found", "RemedyLedger", "now", "read", "stored"]


class RemedyLedger(Book):
    """FC_REMEDY: incidents, silences and playbook runs. Reads (`find`, `all`), ids of facts (`fact`) and repetition
    (`until_settled`) are those of every book."""

    def __init__(self, bus: Bus, *, clock: Callable[[], datetime] = now) -> None:
        super().__init__(bus, REMEDY, REMEDY_PREFIX, clock=clock)

    async def write(self, states: Sequence[BatchMessage], facts: Sequence[Event] = ()) -> int:
        """Store *states* (`stored`) and *facts*, all of it or nothing; the sequence of the last message.

        Raises:
            Conflict: somebody else wrote first, or a fact was told before: read again, decide again.
            OutcomeUnknown: no answer; `until_settled` reads what is there and decides again.
        """
        return await self.bus.batch([*states, *(self.fact_message(fact) for fact in facts)])


def stored(subject: str, value: Value, expected_sequence: int) -> BatchMessage:
    """A state as part of a batch; *expected_sequence* is that of the value it was decided from, 0: there was none."""
    return BatchMessage(subject, dump(value), expected_sequence)
