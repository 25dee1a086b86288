"""The key ring on the bus: every node follows it; its number only grows."""

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusUnavailable
from fleetcast.bus.publish import BatchMessage
from fleetcast.bus.streams import NODES_BUCKET
from fleetcast.cli.call import Call
from fleetcast.cli.connection import connected, target
from fleetcast.cli.problems import Problem
from fleetcast.cli.running import run_async
from fleetcast.events.signing import RING_SUBJECT, KeyRing
from fleetcast.events.state import NodeStatus
from fleetcast.transport.errors import RingRefused
from fleetcast.transport.signing.ring import open_ring, succeeds


def known_ring(call: Call, roots: tuple[str, ...]) -> KeyRing | None:
    """The ring that the fleet was told last; None: none.

    Raises:
        Problem: what is there is signed by another root key.
    """
    aim = target(call)

    async def run() -> KeyRing | None:
        async with connected(aim) as bus:
            return (await _known(bus, roots))[0]

    return run_async(run())


def hold_against_fleet(call: Call, ring: KeyRing, roots: tuple[str, ...]) -> None:
    """Before a change: see that nobody has published a later edition than the one it starts from. A fleet that cannot
    be asked is told later.

    Raises:
        Problem: somebody has.
    """
    try:
        known = known_ring(call, roots)
    except BusUnavailable:
        return
    if known is not None and known.number >= ring.number and known != ring:
        raise _conflict(f"the fleet knows key ring {known.number}, this folder {ring.number}")


def followers(call: Call) -> dict[str, int | None]:
    """The edition that each node goes by; None: it checks no signatures, or knows no ring."""
    aim = target(call)

    async def run() -> dict[str, int | None]:
        async with connected(aim) as bus:
            values = [NodeStatus.model_validate_json(e.data) for e in await bus.kv_entries(NODES_BUCKET)]
            return {v.node: v.keyring for v in values if v.daemon == "distributor"}

    return run_async(run())


def publish(call: Call, data: bytes, roots: tuple[str, ...], *, replace: bool = False) -> bool:
    """Tell the fleet; False: it knows this edition already. *replace*: also one of another root key.

    Raises:
        Problem: the fleet knows a newer edition, or one of another root key.
    """
    aim = target(call)

    async def run() -> bool:
        async with connected(aim) as bus:
            known, sequence = await _known(bus, roots, replace=replace)
            ring = open_ring(data, roots)
            try:
                if not succeeds(known, ring):
                    return False
            except RingRefused as refused:
                raise _conflict(f"the fleet was not told: {refused.reason}") from refused
            await bus.batch([BatchMessage(RING_SUBJECT, data, sequence)])
            return True

    return run_async(run())


def _conflict(what: str) -> Problem:
    why = "somebody else changed the ring from another copy of this folder"
    return Problem("conflict", what, why=why, next_step="take the newer copy of the folder, and make the change there")


async def _known(bus: Bus, roots: tuple[str, ...], *, replace: bool = False) -> tuple[KeyRing | None, int]:
    entry = await bus.last("FC_REGISTRY", RING_SUBJECT)
    if entry is None:
        return None, 0
    try:
        return open_ring(entry.data, roots), entry.sequence
    except RingRefused as refused:
        if replace:
            return None, entry.sequence
        raise Problem(
            "foreign_ring",
            f"what is on the bus is not a ring of this root key: {refused.reason}",
            why="nodes keep the newest ring of a root key in their settings",
            next_step="if it is yours to replace: fleetcast keys publish --replace",
        ) from refused
