"""`slots.json`: what stands in the slots of a model, for servers that split requests between versions themselves.

It lies beside the pointers and is replaced in one step, after them. Every path in it leads to a complete version.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from fleetcast.events.content import Value
from fleetcast.events.ids import Name, Sha256, Version
from fleetcast.events.state import CanaryForm, SlotState
from fleetcast.transport.store.records import AppliedSlot, SlotName


class ServedSlot(Value):
    """One slot.

    Attributes:
        path: what loads: the file of a version that is one, else its folder; relative to the folder that `slots.json`
            lies in. None: the version is not on this node yet.
        percent: its share of what `canary_form` says; without a canary, production has all of it.
    """

    slot: SlotName
    version: Version
    artifact: Sha256
    path: str | None
    percent: int = Field(ge=0, le=100)


class SlotsFile(Value):
    """The slots of a model on one node.

    Attributes:
        generation: of the slot order that this follows.
        current: the slot that `current` follows on this node; None: there is no `current`.
        drained: whether the node is out of service: send its requests elsewhere.
        canary_form: `nodes`: the canary's nodes serve nothing else, and nobody splits requests; `requests`: every
            server sends `percent` of its requests to the canary. None: there is no canary.
    """

    schema_: int = Field(default=1, alias="schema")
    model: Name
    generation: int
    current: Literal["production", "canary"] | None
    drained: bool
    canary_form: CanaryForm | None
    slots: tuple[ServedSlot, ...]


def slots_file(applied: AppliedSlot, paths: Mapping[SlotName, str]) -> SlotsFile:
    """What `slots.json` says once *applied* is in force; *paths*: where the versions lie that are here, by slot."""
    slot = applied.slot
    return SlotsFile(
        model=slot.model,
        generation=slot.generation,
        current=applied.follows,
        drained=applied.drained,
        canary_form=slot.canary.form if slot.canary else None,
        slots=tuple(
            ServedSlot(slot=name, version=entry.version, artifact=entry.artifact, path=paths.get(name), percent=percent)
            for name, percent in _shares(slot).items()
            if (entry := getattr(slot, name)) is not None
        ),
    )


def _shares(slot: SlotState) -> dict[SlotName, int]:
    canary = slot.canary.percent if slot.canary else 0
    return {"production": 100 - canary, "canary": canary, "previous": 0}
