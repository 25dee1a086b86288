"""What the archive means for this node: which versions it keeps for the fleet, which it needs no more, and what is to
be done next. Values and decisions only; `archivist` acts."""

from collections.abc import Iterable
from enum import StrEnum

from fleetcast.daemons.distributor.rules import Goal, Urgency
from fleetcast.events.content import Kind
from fleetcast.events.lifecycle import EntryState
from fleetcast.registry.slots import Line
from fleetcast.transport.store import Line as StoreLine
from fleetcast.transport.store import Pins

Key = tuple[str, str]
"""Model and version."""


class Step(StrEnum):
    """What to do about one version."""

    KEEP = "keep"
    """Let the archive hold it."""
    FETCH = "fetch"
    """It is to be kept here, and is not here."""
    TELL = "tell"
    """Say that the archive holds it."""
    RETIRE = "retire"
    """Take it away from everywhere but the archive."""
    RETURN = "return"
    """Prove it, put it back, and say what became of it."""
    FORGET = "forget"
    """It is out of the archive for good."""


def next_step(entry: EntryState, me: str, *, listed: bool, held: bool, retired: bool) -> Step | None:
    """The next step of *me* for a version.

    Args:
        listed: the archive here lists it.
        held: it is installed here.
        retired: nothing but the archive holds it here.
    """
    order = entry.archive
    if order is None:
        return (Step.FORGET if held else Step.RETURN) if listed else None
    if order.node != me:
        return None
    if order.restore is not None:
        return Step.RETURN
    if not listed:
        return Step.KEEP if held else Step.FETCH
    if order.kept_at is None:
        return Step.TELL
    return None if retired else Step.RETIRE


class ArchiveBook:
    """The versions of the models followed here that an archive keeps or shall keep."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._entries: dict[Key, EntryState] = {}
        self.listed: frozenset[str] = frozenset()
        """Folders that the archive of this node lists."""

    def take(self, entries: Iterable[EntryState], listed_keys: Iterable[Key]) -> bool:
        """Note what became of versions; only those that concern an archive are remembered. Whether anything changed.

        *listed_keys*: versions that the archive here lists: theirs are remembered when they are out of it, too.
        """
        before, here = dict(self._entries), set(listed_keys)
        for entry in entries:
            key = (entry.model, entry.version)
            if entry.archive is not None or key in here:
                self._entries[key] = entry
            else:
                self._entries.pop(key, None)
        return self._entries != before

    def drop(self, key: Key) -> None:
        """The archive has nothing to do with a version any more."""
        self._entries.pop(key, None)

    @property
    def entries(self) -> tuple[EntryState, ...]:
        return tuple(self._entries.values())

    @property
    def models(self) -> frozenset[str]:
        return frozenset(model for model, _version in self._entries)

    def is_away(self, line: Line, version: str) -> bool:
        """Whether nobody shall fetch a version: an archive has it, is about to, or has not given it back yet."""
        entry = self._entries.get((line[1], version)) if line[0] is Kind.MODEL else None
        return entry is not None and entry.archive is not None

    def goals(self) -> list[tuple[Line, Goal]]:
        """What this node fetches to keep it."""
        return [
            ((Kind.MODEL, e.model), Goal(e.version, e.artifact, Urgency.PREVIOUS))
            for e in self._entries.values()
            if e.archive is not None
            and e.archive.node == self._node
            and e.archive.restore is None
            and e.archive.folder not in self.listed
        ]

    @property
    def pins(self) -> Pins:
        """Every byte stays until the archive is known to have it, and while it comes back; then none is pinned."""
        staying, going = set(), set()
        for entry in self._entries.values():
            key = (StoreLine(Kind.MODEL, entry.model), entry.version)
            if entry.archive is not None and entry.archive.kept_at is not None and entry.archive.restore is None:
                going.add(key)
            else:
                staying.add(key)
        return Pins(versions=frozenset(staying), archived=frozenset(going))
