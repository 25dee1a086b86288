"""What may be removed from a node: a pure decision over values."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fleetcast.events.state import InstalledVersion, SlotState
from fleetcast.transport.store.layout import Line


@dataclass(frozen=True, slots=True)
class Pins:
    """What the caller still needs: runs, open incidents, playbooks, transfers under way.

    Attributes:
        versions: versions that stay.
        artifacts: artifacts whose bytes stay, installed or not.
    """

    versions: frozenset[tuple[Line, str]] = frozenset()
    artifacts: frozenset[str] = frozenset()


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


def expendable(views: Iterable[LineView], keep_versions: int, pins: Pins) -> list[Expendable]:
    """Return the versions that may go, those that were installed first in front.

    Kept are what a slot names, the last *keep_versions* in production, as many of the newest that were never served
    (a slot order may be on its way), and what the caller pins by name or by artifact.
    """
    free = [
        Expendable(view.line, version)
        for view in views
        for version in view.installed
        if version.version not in _kept(view, keep_versions) and not _is_pinned(view.line, version, pins)
    ]
    return sorted(free, key=lambda e: e.version.installed_at)


def _is_pinned(line: Line, version: InstalledVersion, pins: Pins) -> bool:
    return (line, version.version) in pins.versions or version.artifact in pins.artifacts


def _kept(view: LineView, keep_versions: int) -> frozenset[str]:
    slot = view.slot
    in_slots = [e.version for e in (slot.production, slot.previous, slot.canary) if e] if slot else []
    here = {v.version for v in view.installed}
    served = [v for v in view.served if v in here][:keep_versions]
    unserved = [v for v in view.installed if v.version not in view.served]
    newest = sorted(unserved, key=lambda v: v.installed_at, reverse=True)[:keep_versions]
    return frozenset((*in_slots, *served, *(v.version for v in newest)))
