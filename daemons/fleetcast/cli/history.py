"""Reading the event log: messages of FC_EVENTS as events, and those that cannot be read as what they are."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from fleetcast.bus import Bus, Entry
from fleetcast.events.envelope import Event
from fleetcast.events.errors import EventInvalid
from fleetcast.events.names import EVENT_PREFIX, find

STREAM = "FC_EVENTS"
ALL = (f"{EVENT_PREFIX}>",)


def subjects(kinds: Iterable[str], key: str | None) -> tuple[str, ...]:
    """Subjects of events of *kinds* (any spelling; none: all) about *key* (None: anything).

    Raises:
        UnknownEventType: a kind is not in the catalogue.
    """
    wanted = [find(kind) for kind in kinds]
    if wanted:
        return tuple(subject for kind in wanted for subject in kind.filters(key or "*"))
    # Hand-typed events may come under the alias, which is one token instead of two.
    return (f"{EVENT_PREFIX}*.*.{key}", f"{EVENT_PREFIX}*.{key}") if key else ALL


def since(seconds: float) -> datetime:
    """The moment *seconds* ago."""
    return datetime.now(UTC) - timedelta(seconds=seconds)


def read(entry: Entry) -> Event | EventInvalid:
    """The event in a message of the log, or why it is none."""
    try:
        return entry.event()
    except EventInvalid as invalid:
        return invalid


async def follow(
    bus: Bus,
    wanted: Sequence[str] = ALL,
    *,
    start_sequence: int | None = None,
    start_time: datetime | None = None,
    follow: bool = False,
) -> AsyncIterator[Event | EventInvalid]:
    """Events of the log from a place or a time on; ends at its end unless *follow*."""
    entries = bus.tail(STREAM, wanted, start_sequence=start_sequence, start_time=start_time, follow=follow)
    async for entry in entries:
        yield read(entry)


async def collect(
    bus: Bus,
    wanted: Sequence[str] = ALL,
    *,
    start_sequence: int | None = None,
    start_time: datetime | None = None,
) -> list[Event]:
    """All readable events of the log from a place or a time on."""
    found = follow(bus, wanted, start_sequence=start_sequence, start_time=start_time)
    return [event async for event in found if isinstance(event, Event)]
