"""Work that a cancellation must not cut off."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Run *work* to its end even when the caller is cancelled meanwhile; the cancellation goes on afterwards.

    An acknowledgement that is cut off would make the effect of a finished handler happen twice. *work* has to be
    bounded in time by itself.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
