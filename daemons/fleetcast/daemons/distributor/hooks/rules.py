"""What a serving process is to be told, and whether it has to be told at all: values and pure decisions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetcast.config.environment import for_program
from fleetcast.events.content import Stored
from fleetcast.events.hooks import HookReason
from fleetcast.events.state import CanaryForm
from fleetcast.transport.store import AppliedSlot


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What the process that serves a model shall know.

    Attributes:
        version, artifact: what `current` holds.
        slot: the one that `current` follows.
        canary: the version and share of requests of a canary that servers split requests for; empty: there is none.
        drained: whether this node is out of service.
    """

    model: str
    version: str
    artifact: str
    generation: int
    slot: str
    canary: str = ""
    drained: bool = False

    def is_same(self, other: "Telling | Told | None") -> bool:
        """Whether a process that knows the one need not be told the other; the generation alone changes nothing."""
        return other is not None and _matter(self) == _matter(other)


class Told(Stored):
    """What a node keeps about its newest hook, beside the slot order: `done` is written when the hook has ended well,
    and what it is about to tell is written before it begins, so that a crash in between tells it again."""

    version: str
    artifact: str
    generation: int
    canary: str = ""
    drained: bool = False
    done: bool
    before: str = ""
    """The version that the process was told of last with success."""


def _matter(what: "Telling | Told") -> tuple[str, str, str, bool]:
    return (what.version, what.artifact, what.canary, what.drained)


def telling(model: str, applied: AppliedSlot) -> Telling | None:
    """What there is to tell of the slot order in force; None: nothing is served here."""
    current, follows = applied.current, applied.follows
    if current is None or follows is None:
        return None
    canary = applied.slot.canary
    splits = canary is not None and canary.form is CanaryForm.REQUESTS and "canary" in applied.shown
    return Telling(
        model=model,
        version=current.version,
        artifact=current.artifact,
        generation=applied.slot.generation,
        slot=follows,
        canary=f"{canary.version} {canary.percent}" if splits and canary is not None else "",
        drained=applied.drained,
    )


def occasion(what: Telling, told: Told | None) -> HookReason | None:
    """Why a hook has to run; None: the process knows."""
    if told is None or not told.done:
        return "activated"
    if what.is_same(told):
        return None
    if (told.version, told.artifact, told.canary) != (what.version, what.artifact, what.canary):
        return "activated"
    return "drained" if what.drained else "undrained"


def about_to_tell(what: Telling, told: Told | None) -> Told:
    """What is kept before a hook begins."""
    return _told(what, done=False, before=known_before(told))


def has_told(what: Telling) -> Told:
    """What is kept once a hook has ended well."""
    return _told(what, done=True, before=what.version)


def known_before(told: Told | None) -> str:
    """The version that the process was told of last with success; empty: none."""
    if told is None:
        return ""
    return told.version if told.done else told.before


def _told(what: Telling, *, done: bool, before: str) -> Told:
    return Told(
        version=what.version,
        artifact=what.artifact,
        generation=what.generation,
        canary=what.canary,
        drained=what.drained,
        done=done,
        before=before,
    )


def environment(
    what: Telling, *, path: Path, previous: str, why: HookReason, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a command."""
    return for_program(inherited) | {
        "FLEETCAST_MODEL": what.model,
        "FLEETCAST_VERSION": what.version,
        "FLEETCAST_PATH": str(path),
        "FLEETCAST_GENERATION": str(what.generation),
        "FLEETCAST_SLOT": what.slot,
        "FLEETCAST_PREVIOUS": previous,
        "FLEETCAST_DRAINED": "1" if what.drained else "0",
        "FLEETCAST_REASON": why,
    }


def is_told_of(attempt: int) -> bool:
    """Whether the fleet hears of a failed attempt: of 1, 2, 4, 8 and so on, so that a hook that never works does not
    fill the log."""
    return attempt & (attempt - 1) == 0
