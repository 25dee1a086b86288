"""What may be removed from a node: a pure decision over values."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fleetcast.events.state import InstalledVersion, SlotState
from fleetcast.transport.store.layout import Line

FORMER_KEPT = 3
"""Former production versions of a slot order that stay on a node that has them: what a rollback may go back to."""


@dataclass(frozen=True, slots=True)
class Pins:
    """What the caller still needs: runs, open incidents, playbooks, transfers under way.

    Attributes:
        versions: versions that stay.
        artifacts: artifacts whose bytes stay, installed or not.
        released: versions that were kept for a time that is over: that nobody ever served them keeps them no more.
        archived: versions that an archive keeps: only a slot order, or somebody who needs them, keeps them here.
        read: who reads a version by path now (`readers.py`).
        unknown: why that is not known, so that everything stays; empty: it is.
    """

    versions: frozenset[tuple[Line, str]] = frozenset()
    artifacts: frozenset[str] = frozenset()
    released: frozenset[tuple[Line, str]] = frozenset()
    archived: frozenset[tuple[Line, str]] = frozenset()
    read: Mapping[tuple[Line, str], str] = field(default_factory=dict)
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class LineView:
    """One line as it stands on this node.

    Attributes:
        served: versions that were in production here, the newest first.
    """

    line: Line
    installed: tuple[InstalledVersion, ...]
    slot: SlotState | None = None
    served: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expendable:
    """A version that nothing pins."""

    line: Line
    version: InstalledVersion = field(compare=False)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A version, and why it stays; no reason: it may go."""

    line: Line
    version: InstalledVersion = field(compare=False)
    reasons: tuple[str, ...] = ()


def expendable(views: Iterable[LineView], keep_versions: int, pins: Pins) -> list[Expendable]:
    """Return the versions that may go, those that were installed first in front."""
    free = [Expendable(j.line, j.version) for j in judge(views, keep_versions, pins) if not j.reasons]
    return sorted(free, key=lambda e: e.version.installed_at)


def judge(views: Iterable[LineView], keep_versions: int, pins: Pins) -> list[Judgement]:
    """Return every version with the reasons for which it stays.

    Kept are what a slot names, the newest former versions of the slot order, the last *keep_versions* in production
    here, as many of the newest that were never served (a slot order may be on its way), what somebody reads, and what
    the caller pins by name or by artifact.
    """
    return [
        Judgement(view.line, version, tuple(_reasons(view, version, keep_versions, pins)))
        for view in views
        for version in view.installed
    ]


def _reasons(view: LineView, version: InstalledVersion, keep_versions: int, pins: Pins) -> Iterator[str]:
    name, slot = version.version, view.slot
    for role in ("production", "canary", "previous"):
        entry = getattr(slot, role, None)
        if entry is not None and entry.version == name:
            yield role
    if slot is not None and name in {entry.version for entry in slot.former[:FORMER_KEPT]}:
        yield "in production before"
    # What an archive keeps takes no place among those that are kept here.
    staying = [v for v in view.installed if (view.line, v.version) not in pins.archived]
    here = {v.version for v in staying}
    if name in [v for v in view.served if v in here][:keep_versions]:
        yield f"one of the last {keep_versions} in production"
    unserved = [v for v in staying if v.version not in view.served and not _is_released(view.line, v, pins)]
    newest = sorted(unserved, key=lambda v: v.installed_at, reverse=True)[:keep_versions]
    if version in newest:
        yield f"one of the newest {keep_versions} that were never served"
    if (reader := pins.read.get((view.line, name))) is not None:
        yield f"read by {reader}"
    if pins.unknown:
        yield pins.unknown
    if (view.line, name) in pins.versions or version.artifact in pins.artifacts:
        yield "pinned"


def _is_released(line: Line, version: InstalledVersion, pins: Pins) -> bool:
    return (line, version.version) in pins.released
