"""The GPUs of this machine, from whoever can say most about them."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
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


class GpuReader:
    """Reads the GPUs of this machine, by vendor and index, one reading at a time.

    A call into a driver that hangs ends by nothing at all. It is left to a thread that holds up neither the end of this
    process nor those in which everything else of it waits for the disk.
    """

    def __init__(
        self, labels: Mapping[str, str] | None = None, *, root: Path = Path("/"), seconds: float = SECONDS
    ) -> None:
        """Make one.

        Args:
            labels: of the node; `gpu = "simulated"` makes a GPU up where there is none, for machines that only play a
                part.
            root: of the file system that sysfs and procfs are read from.
            seconds: that a driver may take.
        """
        self._labels = labels or {}
        self._machine = Machine(root)
        self._seconds = seconds
        self._reading: threading.Thread | None = None

    async def read(self) -> tuple[Gpu, ...]:
        """Every GPU; empty: there is none.

        Raises:
            TimeoutError: a driver does not answer, or has not answered yet since it was asked before.
        """
        if self._reading is not None and self._reading.is_alive():
            raise TimeoutError
        async with asyncio.timeout(self._seconds):
            found = await self._apart()
        if not found and self._labels.get("gpu") == SIMULATED:
            return (Gpu(index=0, vendor=SIMULATED, model="simulated GPU"),)
        return found

    async def _apart(self) -> tuple[Gpu, ...]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[Gpu, ...]] = loop.create_future()

        def give(found: tuple[Gpu, ...]) -> None:
            if not answer.done():
                answer.set_result(found)

        def work() -> None:
            found = read(self._machine)
            with suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(give, found)

        self._reading = threading.Thread(target=work, name="gpus", daemon=True)
        self._reading.start()
        return await answer


def read(machine: Machine) -> tuple[Gpu, ...]:
    """Every GPU of *machine*, on the calling thread. Never raises for what a driver does."""
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
