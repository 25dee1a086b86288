"""Whether a key works: a connection of its own, a round trip, and an answer of JetStream where the role may ask."""

import asyncio

from fleetcast.bus import connect
from fleetcast.bus.errors import BusError
from fleetcast.config.settings import BusSettings
from fleetcast.security.roles import Role

PROVE_SECONDS = 15.0
"""How long it is tried: a server takes a moment to read its configuration again."""
AGAIN_SECONDS = 0.25


async def trouble_with(settings: BusSettings, role: Role, *, seconds: float = PROVE_SECONDS) -> str:
    """Why a key does not work; "" when it does. Tried at every server, each for *seconds*, until it works there."""
    for url in settings.url.split(","):
        if trouble := await _trouble_at(settings.model_copy(update={"url": url}), role, seconds):
            return trouble
    return ""


async def _trouble_at(settings: BusSettings, role: Role, seconds: float) -> str:
    trouble = "no time"
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while loop.time() < deadline:
        try:
            await _try(settings, role)
        except BusError as e:
            trouble = str(e)
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            return ""
    return trouble


async def _try(settings: BusSettings, role: Role) -> None:
    stores = role is not Role.SYSTEM
    async with connect(settings, node="proof", daemon="proof", require_jetstream=stores, wait=False) as bus:
        await bus.rtt()
