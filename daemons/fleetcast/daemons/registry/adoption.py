"""Brings in what was there before a registry daemon ran: entries for versions that origins had written themselves."""

from collections.abc import Callable

import structlog

from fleetcast.bus import BatchMessage, Bus
from fleetcast.bus.errors import BusError, Conflict, TransportFailed
from fleetcast.bus.streams import REGISTRY
from fleetcast.events.content import Kind
from fleetcast.events.lifecycle import AUTHORITY_SUBJECT, AuthorityState, EntryState
from fleetcast.registry.commands import Adopt, Transition
from fleetcast.registry.engine import Engine
from fleetcast.registry.ledger import Ledger
from fleetcast.registry.registry import Registry
from fleetcast.registry.rules import dump

log = structlog.get_logger("fleetcast.registry")


async def take_authority(ledger: Ledger, wanted: AuthorityState) -> None:
    """Say that origins ask from now on; another daemon that says the same at once is no conflict.

    Raises:
        TransportFailed: the bus does not answer.
    """
    while True:
        found = await ledger.find(AUTHORITY_SUBJECT, AuthorityState)
        known = found.value
        if known is not None and (known.mode, known.gates) == (wanted.mode, wanted.gates):
            return
        try:
            await ledger.bus.batch([BatchMessage(AUTHORITY_SUBJECT, dump(wanted), found.sequence)])
        except Conflict:
            continue
        log.info("authority.taken", mode=wanted.mode, gates=wanted.gates or "none")
        return


async def adopt_all(
    bus: Bus, registry: Registry, engine: Engine, actor: str, *, adopted: Callable[[], None] = lambda: None
) -> int:
    """Make the entries that are missing; returns how many. *adopted* is told of each.

    Raises:
        TransportFailed: the bus does not answer; to be repeated, what was made is kept.
    """
    entries = await bus.newest(REGISTRY, ("fc.reg.state.entry.*.*",))
    known = set()
    for entry in entries:
        state = EntryState.model_validate_json(entry.data)
        known.add((state.model, state.version))
    missing = [v for v in await registry.versions() if v.kind is not Kind.DATASET and (v.model, v.version) not in known]
    for version in missing:
        command = Adopt(model=version.model, version=version.version)
        request = f"adopt/{version.model}/{version.version}"
        try:
            await engine.handle(Transition(request=request, actor=actor, command=command))
        except TransportFailed:
            raise
        except BusError as e:
            log.warning("adoption.waiting", model=version.model, version=version.version, reason=str(e))
        else:
            adopted()
    if missing:
        log.info("versions.adopted", count=len(missing))
    return len(missing)
