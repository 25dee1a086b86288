"""The capability of a node's file server, kept over restarts: endpoints that others remember stay true."""

import os
import re
from pathlib import Path

import aiofiles
import aiofiles.os

from fleetcast.transport.serve import new_capability

FILE = ".capability"
_FORM = re.compile(r"[0-9a-f]{32}\Z")


async def kept_capability(data: Path) -> str:
    """The capability kept below *data*; a fresh one when there is none, or none that can be used.

    Raises:
        OSError: the folder cannot be read or written.
    """
    path = data / FILE
    try:
        async with aiofiles.open(path, encoding="ascii", errors="replace") as file:
            kept = (await file.read(64)).strip()
    except FileNotFoundError:
        kept = ""
    return kept if _FORM.match(kept) else await _keep(path, new_capability())


async def _keep(path: Path, capability: str) -> str:
    await aiofiles.os.makedirs(path.parent, exist_ok=True)
    spare = path.with_name(f"{FILE}.next")
    async with aiofiles.open(spare, "w", encoding="ascii", opener=_private) as file:
        await file.write(capability)
    await aiofiles.os.replace(spare, path)
    return capability


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
