"""What the other nodes report of themselves: in a small fleet every heartbeat as it comes, in a large one all of them
from time to time.

What N nodes say to N nodes grows with the square of N: three hundred that heard each other's every heartbeat would have
the server send 18,000 messages a second. A distributor needs them for repairs only (who holds what, where it serves
it); what is new it hears by notices.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime

import structlog

from fleetcast.bus import Bus, Entry
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import NODES_BUCKET

log = structlog.get_logger("fleetcast.distributor.rollcall")

STREAM = f"KV_{NODES_BUCKET}"
SUBJECT = f"$KV.{NODES_BUCKET}.*.distributor"
FOLLOWED_NODES = 50
"""Up to so many nodes every heartbeat is heard at once."""
READ_PER_SECOND = 5.0
"""Of more nodes, so many heartbeats a second are read by each: all of 300 in a minute."""


def pause_seconds(nodes: int) -> float | None:
    """How long to rest before the heartbeats of so many nodes are read again; None: each is to be heard as it comes."""
    return None if nodes <= FOLLOWED_NODES else nodes / READ_PER_SECOND


async def heartbeats(bus: Bus) -> AsyncGenerator[Entry, None]:
    """Heartbeats of distributors, this node's own among them, until closed; one without data: the node's has expired.

    Each is the newest of its node, and comes at least as often as `pause_seconds` says.
    """
    known: set[str] = set()
    while True:
        async with contextlib.aclosing(bus.watch(STREAM, (SUBJECT,))) as watched:
            in_sync = False
            async for item in watched:
                if isinstance(item, Entry):
                    (known.add if item.data else known.discard)(item.subject)
                    yield item
                else:
                    in_sync = True
                if in_sync and pause_seconds(len(known)) is not None:
                    break
        async with contextlib.aclosing(_read_again(bus, known)) as read:
            async for entry in read:
                yield entry


async def _read_again(bus: Bus, known: set[str]) -> AsyncGenerator[Entry, None]:
    """Read all heartbeats from time to time, as long as there are many; *known* is kept up to date."""
    log.info("heartbeats.read", nodes=len(known), every_seconds=pause_seconds(len(known)))
    while (pause := pause_seconds(len(known))) is not None:
        # Nodes that began together must not ask together for ever.
        await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load
        try:
            entries = await bus.newest(STREAM, (SUBJECT,))
        except BusError as away:
            log.debug("heartbeats.missed", reason=str(away))
            continue
        there = {entry.subject for entry in entries if entry.data}
        for entry in (*entries, *expired(known - there)):
            yield entry
        known.clear()
        known.update(there)


def expired(subjects: Iterable[str]) -> list[Entry]:
    """What stands for heartbeats that are not there any more."""
    return [Entry(subject, b"", 0, datetime.now(UTC)) for subject in sorted(subjects)]
