"""Whether what is installed may still be turned to: the key that vouched for it may have been revoked since."""

import asyncio

import structlog

from fleetcast.daemons.distributor.keyring import Keyring
from fleetcast.daemons.distributor.shelf import Shelf
from fleetcast.events.state import SlotEntry
from fleetcast.registry.slots import Line
from fleetcast.transport.errors import StoreError
from fleetcast.transport.store import Store

_Installed = tuple[Line, str, str]
"""Line, version, and when it was installed."""
log = structlog.get_logger("fleetcast.distributor.vouching")


class Vouching:
    """Owner of what was found out about installed versions: each is looked at once per key ring, and spoken of once."""

    def __init__(self, keyring: Keyring, store: Store, shelf: Shelf) -> None:
        self._keyring = keyring
        self._store = store
        self._shelf = shelf
        self._found: dict[_Installed, str | None] = {}
        """Why it may not be turned to; None: it may."""
        self._told: dict[_Installed, str] = {}

    def forget(self) -> None:
        """Another key ring is in force."""
        self._found.clear()
        self._told.clear()

    async def is_revoked(self, line: Line, entry: SlotEntry) -> bool:
        """Whether what a slot names may not be shown; what is shown already stays."""
        if not self._keyring.revokes:
            return False
        installed = self._shelf.find(line, entry.version)
        which = (line, entry.version, installed.installed_at if installed else "")
        if which not in self._found:
            try:
                self._found[which] = await self._look(line, entry.version)
            except StoreError as fault:
                # A disk may answer again. Who takes nothing unsigned shows nothing whose signature it cannot read.
                self._tell(which, "slot.unvouched", fault.reason)
                return self._keyring.refuses_unsigned
        if (why := self._found[which]) is not None:
            self._tell(which, "slot.revoked", why)
        return why is not None

    async def _look(self, line: Line, version: str) -> str | None:
        kind, name = line
        return self._keyring.revoked(await asyncio.to_thread(self._store.manifest, name, version, kind))

    def _tell(self, which: _Installed, what: str, reason: str) -> None:
        if self._told.get(which) != reason:
            self._told[which] = reason
            (_kind, model), version, _at = which
            log.warning(what, model=model, version=version, reason=reason)
