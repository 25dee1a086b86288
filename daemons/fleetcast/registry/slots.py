"""Slot orders, read for somebody who carries some models only: what the others are does not cost memory here."""

from collections.abc import AsyncIterator, Callable, Iterable

import structlog
from pydantic import ValidationError

from fleetcast.bus import Bus, Entry, InSync
from fleetcast.bus.streams import REGISTRY
from fleetcast.events.content import Kind
from fleetcast.events.ids import is_name
from fleetcast.events.payloads import Wants
from fleetcast.events.state import SlotState, slot_subject

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

Line = tuple[Kind, str]
"""A model or a lane."""
Keeps = Callable[[Line], bool]
"""Whether somebody cares for a line."""

ALL_SLOTS = (slot_subject("*"), slot_subject("*", Kind.DATASET))
MAX_SUBJECTS = 64
"""Up to so many lines are asked for by name; a server compares every message with each of them."""
_LANE = slot_subject("*", Kind.DATASET).removesuffix("*")


def subjects_for(wants: Wants, held: Iterable[Line] = ()) -> tuple[str, ...]:
    """The subjects of the slots that a node needs: those of its lines, where its wants are names and no patterns.

    *held*: lines that it has something of, whether or not it wants them.
    """
    patterns = [(Kind.MODEL, p) for p in wants.models] + [(Kind.DATASET, p) for p in wants.lanes]
    if any(character in pattern for _, pattern in patterns for character in "*?["):
        return ALL_SLOTS
    lines = {(kind, name) for kind, name in [*patterns, *held] if is_name(name)}
    # A reader needs one subject at least; nothing is ever stored for a line of this name.
    found = tuple(sorted(slot_subject(name, kind) for kind, name in lines)) or (slot_subject("_none"),)
    return found if len(found) <= MAX_SUBJECTS else ALL_SLOTS


def line_of(subject: str) -> Line:
    """The model or lane whose slots are kept under a subject."""
    return (Kind.DATASET if subject.startswith(_LANE) else Kind.MODEL, subject.rsplit(".", 1)[-1])


async def watch_slots(bus: Bus, subjects: Iterable[str], keeps: Keeps) -> AsyncIterator[SlotState | InSync]:
    """Every slot of a line that is kept, `InSync`, then every change; begins anew after every interruption."""
    async for item in bus.watch(REGISTRY, tuple(subjects)):
        if isinstance(item, InSync):
            yield item
        elif (state := _kept(item, keeps)) is not None:
            yield state


class SlotsSince:
    """Reads what was ordered since it read last, from the stream itself: a watch that has fallen silent hides nothing.

    It asks for the newest sequence first, so that a quiet fleet costs two small requests.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._read_to = 0

    def read_to(self, sequence: int) -> None:
        """Everything up to *sequence* of the stream is known."""
        self._read_to = sequence

    async def read(self, subjects: Iterable[str], keeps: Keeps) -> list[SlotState]:
        """The slots of lines that are kept, and that were ordered since.

        Raises:
            TransportFailed: the bus does not answer; the next call reads the same.
        """
        newest = max([0, *[entry.sequence for s in ALL_SLOTS if (entry := await self._bus.last(REGISTRY, s))]])
        if newest == self._read_to:
            return []
        # A stream that was set back, from a backup say, is read from its beginning.
        start = self._read_to + 1 if newest > self._read_to else 1
        entries = self._bus.tail(REGISTRY, tuple(subjects), start_sequence=start)
        found = [state async for entry in entries if (state := _kept(entry, keeps)) is not None]
        self._read_to = newest
        return found


def _kept(entry: Entry, keeps: Keeps) -> SlotState | None:
    """A slot, if its line is kept; one record that cannot be read must not hide all the others."""
    if not keeps(line_of(entry.subject)):
        return None
    try:
        return SlotState.model_validate_json(entry.data)
    except ValidationError as damaged:
        reason = str(damaged.errors()[0]["msg"])
        log.warning("record.unreadable", subject=entry.subject, sequence=entry.sequence, reason=reason)
        return None
