"""What a registry daemon shows of a large fleet does not hold its loop up."""

import asyncio
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.cli.builders import slot

from fleetcast.bus import Bus, BusState
from fleetcast.daemons.metrics.backups import BackupWatch
from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.registry.fleet import FleetView

MODELS = 400


def reading() -> Any:
    # The daemon and its reading import each other; the daemon is where that begins.
    import_module("fleetcast.daemons.registry.daemon")
    made = import_module("fleetcast.daemons.metrics.readings.fleet").FleetReading
    around: dict[str, Any] = {
        "bus": SimpleNamespace(state=BusState.CLOSED),
        "nodes": SimpleNamespace(view=FleetView((), frozenset())),
        "driver": SimpleNamespace(slots={f"m{n}": slot(f"m{n}", "1", 1) for n in range(MODELS)}, open={}),
        "engine": SimpleNamespace(on_answer=None),
        "projector": SimpleNamespace(as_of_seq=0, behind=0),
        "audit": SimpleNamespace(records=0, broken=0, checked_at=None),
        "backups": BackupWatch(cast("Bus", SimpleNamespace(state=BusState.CLOSED)), 60.0),
    }
    return made(**around)


@pytest.mark.asyncio
async def test_others_have_their_turn_while_slots_are_counted() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    sheet = Sheet("node-1", "registry")
    await reading().read(sheet)
    beside.cancel()
    assert len(sheet.values["fleetcast_slot_generation"]) == MODELS
    assert turns >= MODELS // 50
