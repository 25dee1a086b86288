"""How fast a part receives."""

import asyncio
import math
from statistics import linear_regression

from fleetcast.transport.capped import Capped


async def slope(part: Capped, between: tuple[int, int], fetching: asyncio.Future[None]) -> float:
    """Bytes per second while so much, and so much, has been received; infinite: at once."""
    seen = []
    while (received := part.moved().received) < between[1] and not fetching.done():
        if received >= between[0]:
            seen.append((asyncio.get_running_loop().time(), received))
        await asyncio.sleep(0.05)
    if len(seen) < 2:
        return math.inf
    return linear_regression([at for at, _ in seen], [count for _, count in seen]).slope
