"""A process that has emitted nothing yet, and what it wrote."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetcast.client import notices
from fleetcast.client.emit import _state
from fleetcast.client.spool import SpoolReader
from fleetcast.events.envelope import Event, parse

RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "NODE_RANK", "LOCAL_RANK")


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test begins like a process that has emitted nothing, with its spool in tmp_path."""
    for name in [*RANKS, *(each for each in os.environ if each.startswith("FLEETCAST_"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLEETCAST_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("FLEETCAST_NODE_ID", "gpu-1")
    notices.begin_anew()
    _state.clear()
    yield
    _state.clear()


@pytest.fixture
def said(tmp_path: Path) -> Callable[[], list[Event]]:
    """The events that were spooled, those of one kind in order; every one of them is sound."""

    def read() -> list[Event]:
        with SpoolReader(tmp_path / "spool") as reader:
            return sorted((parse(record.data) for record in reader.pending()), key=lambda event: event.id)

    return read
