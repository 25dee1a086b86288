"""Says which sources sent wrong bytes: whoever runs them shall hear of it, and a hostile one shall be seen."""

import structlog

from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.transfers import Transfers
from fleetcast.events.payloads import PeerBanned

log = structlog.get_logger("fleetcast.distributor.bans")


async def tell_bans(parts: Parts, transfers: Transfers) -> None:
    """Say every ban as an event, until cancelled."""
    while True:
        artifact, ban = await parts.bans.get()
        fact = PeerBanned(
            node=parts.node,
            peer=ban.peer,
            artifact=artifact,
            transport=ban.transport,
            reason=ban.reason,
            bytes_wasted=ban.wasted_bytes,
        )
        log.warning("peer.banned", **fact.model_dump(exclude={"node"}))
        offer = transfers.offer_of(artifact)
        if offer is None:
            parts.say_first(fact)
        else:
            parts.say_of(offer, fact, discriminator=f"{artifact}/{ban.peer}")
