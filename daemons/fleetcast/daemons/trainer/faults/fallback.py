"""The moment at which a run goes on on the CPU, as its log and the daemon's show it."""

import os
from pathlib import Path
from typing import Final

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

LINE: Final = "CPU fallback ready; continuing training without GPU acceleration."
"""What operators look for in the log of a training."""
LOG: Final = "stderr.log"


def announce(folder: Path, run: str, *, claim: int, reason: str) -> None:
    """Say in the run's log, and in the daemon's, that it goes on on the CPU from here; before its process is started.
    Blocks for one write. A log that cannot be written stops nothing."""
    log.warning("run.fell_back", said=LINE, run=run, claim=claim, reason=reason)
    text = f"[fleetcast] {LINE} Claim {claim}; {_one_line(reason)}\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOG, flags, 0o640)
        try:
            os.write(handle, text.encode(errors="replace"))
        finally:
            os.close(handle)
    except OSError as fault:
        log.warning("run.log_unwritable", run=run, reason=str(fault))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
