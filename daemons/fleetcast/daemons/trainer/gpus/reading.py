"""The GPUs of this machine, from whoever can say most about them."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import structlog

from fleetcast.daemons.trainer.gpus import amd, nvidia
from fleetcast.daemons.trainer.gpus.sysfs import Machine
from fleetcast.events.gpus import Gpu

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

SIMULATED: Final = "simulated"
SECONDS: Final = 20.0
"""A driver that hangs must not hold the heartbeat up."""


async def read_gpus(labels: Mapping[str, str] | None = None, *, root: Path = Path("/")) -> tuple[Gpu, ...]:
    """Every GPU of this machine, by vendor and index; empty: there is none. Never raises for what a driver does.

    Args:
        labels: of the node; `gpu = "simulated"` makes one up where there is none, for machines that only play a part.
        root: of the file system that sysfs and procfs are read from.

    Raises:
        TimeoutError: a driver did not answer.
    """
    async with asyncio.timeout(SECONDS):
        found = await asyncio.to_thread(read, Machine(root))
    if not found and labels is not None and labels.get("gpu") == SIMULATED:
        return (Gpu(index=0, vendor=SIMULATED, model="simulated GPU"),)
    return found


def read(machine: Machine) -> tuple[Gpu, ...]:
    """As `read_gpus`, on the calling thread."""
    found: list[Gpu] = []
    for ways in ((nvidia.by_library, nvidia.by_files), (amd.by_library, amd.by_files)):
        for way in ways:
            try:
                gpus: Sequence[Gpu] | None = way(machine)
            except Exception as e:  # a vendor's library may raise anything, and is not worth a daemon
                _warn(f"{way.__module__}.{way.__name__}", f"{type(e).__name__}: {e}")
                continue
            if gpus is not None:
                found += gpus
                break
    return tuple(found)


@cache
def _warn(way: str, reason: str) -> None:
    """Once for each reason: the GPUs are read every few seconds."""
    log.warning("gpus.unreadable", way=way, reason=reason)
