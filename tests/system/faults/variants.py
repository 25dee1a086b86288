"""Nodes that are broken in one way, to show that a test notices."""

import os
from pathlib import Path

import pytest
from tests.system.faults.stage import Change

from fleetcast.config.settings import Settings

BROKEN = str(Path(__file__).parent / "broken")
FOR_EVER = 1e6


def broken(variant: str, *nodes: str) -> dict[str, dict[str, str]]:
    """Environments of a stage that break nodes in the way that `broken/sitecustomize.py` describes."""
    path = os.pathsep.join(filter(None, (BROKEN, os.environ.get("PYTHONPATH"))))
    return {node: {"PYTHONPATH": path, "FAULT_VARIANT": variant} for node in nodes}


def break_here(monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    """Break the processes that the test itself starts."""
    for name, value in broken(variant, "all")["all"].items():
        monkeypatch.setenv(name, value)


def unwatched(node: str) -> Change:
    """Settings with which a node waits for ever for whoever is silent."""

    def change(name: str, settings: Settings) -> Settings:
        if name != node:
            return settings
        never = {"stall_seconds": FOR_EVER, "slow_seconds": FOR_EVER, "floor_seconds": FOR_EVER}
        aria2 = settings.aria2.model_copy(update=never)
        ladder = settings.ladder.model_copy(update={"stall_seconds": FOR_EVER})
        return settings.model_copy(update={"aria2": aria2, "ladder": ladder})

    return change
