"""Which version is the last good one. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from fleetcast.events.lifecycle import EntryState, StageName
from fleetcast.events.state import SlotEntry, SlotState
from fleetcast.registry.fleet import FleetView

BARRED: Final = frozenset({StageName.QUARANTINED, StageName.REJECTED, StageName.ARCHIVED})


@dataclass(frozen=True, slots=True)
class Target:
    """What to serve instead of a bad version.

    Attributes:
        kind: `canary`: the canary is withdrawn, production stays; `former`: production goes back to a former version;
            `none`: no good one is left; `gone`: nothing is served of the version any more.
        considered: every candidate, and what there is to say about it.
    """

    kind: Literal["canary", "former", "none", "gone"]
    bad: str = ""
    version: str = ""
    considered: tuple[str, ...] = ()


def bad_version(slot: SlotState, named: str | None) -> str | None:
    """The version that a rollback is about: the one that is named, or else the canary, or else production."""
    if named is not None:
        return named
    entry = slot.canary or slot.production
    return entry.version if entry else None


def candidates(slot: SlotState, bad: str) -> tuple[SlotEntry, ...]:
    """Former production versions, the newest first."""
    found: dict[str, SlotEntry] = {}
    for each in (*slot.former, *((slot.previous,) if slot.previous else ())):
        if each.version != bad:
            found.setdefault(each.version, each)
    return tuple(found.values())


def choose(
    slot: SlotState | None,
    bad: str | None,
    to: str | None,
    entries: Mapping[str, EntryState],
    view: FleetView,
) -> Target:
    """The last verified version that is neither quarantined, rejected nor archived.

    Args:
        bad: the version to leave; None: the canary where there is one, else production.
        to: the version that somebody asks for instead.
        entries: of the candidates, where there are any.
    """
    if slot is None or (bad := bad_version(slot, bad)) is None:
        return Target("gone", bad or "")
    if slot.canary is not None and slot.canary.version == bad and to is None:
        stays = slot.production.version if slot.production else ""
        return Target("canary", bad, stays, (f"{bad} is a canary only; {stays or 'nothing'} stays",))
    if slot.production is None or slot.production.version != bad:
        return Target("gone", bad)
    if to is not None:
        return Target("former", bad, to, (f"{to} is asked for",))
    return _newest_good(candidates(slot, bad), bad, entries, view, slot.model)


def _newest_good(
    found: tuple[SlotEntry, ...], bad: str, entries: Mapping[str, EntryState], view: FleetView, model: str
) -> Target:
    wanting = set(view.wanting(model))
    good: list[tuple[str, int]] = []
    said: list[str] = []
    for each in found:
        entry = entries.get(each.version)
        if entry is not None and entry.stage in BARRED:
            said.append(f"{each.version} is {entry.stage.value}")
            continue
        holders = len(wanting & set(view.holders(each.artifact)))
        said.append(f"{each.version}: verified on {holders} of {len(wanting)} nodes")
        good.append((each.version, holders))
    # Where no heartbeat says that anybody holds it, the registry decides: it waits for a quorum before it moves a slot.
    chosen = next((version for version, holders in good if holders), good[0][0] if good else None)
    return Target("none" if chosen is None else "former", bad, chosen or "", tuple(said))
