"""How much this machine waits for its disk: the kernel's pressure stall information (Documentation/accounting/psi)."""

import asyncio
import re
from pathlib import Path

from fleetcast.daemons.distributor.board import Board

PRESSURE = Path("/proc/pressure/io")
LOOK_SECONDS = 2.0
"""The kernel renews its ten-second average as often."""

_FULL = re.compile(r"^full avg10=(\d+(?:\.\d+)?)", re.MULTILINE)


def disk_stall(text: str) -> float | None:
    """Share of the last ten seconds in which every runnable task waited for I/O; None: the text does not say."""
    found = _FULL.search(text)
    return None if found is None else float(found[1]) / 100


async def watch_disk(board: Board) -> None:
    """Keep the board's figure up to date while something is transferred, until cancelled; it stays None where the
    kernel does not measure."""
    while True:
        if board.active:
            board.disk_stall = await asyncio.to_thread(_read)
        await asyncio.sleep(LOOK_SECONDS)


def _read() -> float | None:
    try:
        return disk_stall(PRESSURE.read_text())
    except OSError:
        return None
