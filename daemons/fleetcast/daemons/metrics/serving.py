"""One daemon's metrics as a root task: takes a port, says where, and answers.

Metrics are never why a daemon does not work: where there is no port or no disk for the note, it says so and goes on.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError
from fleetcast.daemons.metrics import process
from fleetcast.daemons.metrics.certificates import Certificates
from fleetcast.daemons.metrics.endpoint import Endpoint
from fleetcast.daemons.metrics.listening import authority, leave_note, listen, note_path, remove_note
from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.daemons.metrics.vitals import Read, Vitals
from fleetcast.daemons.runtime import Daemon

if TYPE_CHECKING:
    from fleetcast.daemons.metrics.exposition import Exposition

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.metrics")


async def serve(daemon: Daemon, bus: Bus, read: Read, *, told: Callable[[], None] = lambda: None) -> None:
    """Answer until cancelled.

    Args:
        read: fills in what this kind of daemon shows.
        told: called once `Daemon.metrics_url` says where.
    """
    settings = daemon.settings.metrics
    vitals = Vitals(bus, lambda: daemon.is_ready)
    if not settings.enabled:
        await asyncio.Event().wait()
    try:
        listener = listen(daemon.name, settings)
    except OSError as fault:
        fix = "set metrics.bind to an address of this machine"
        log.warning("metrics.unavailable", address=settings.bind, reason=fault.strerror, next_step=fix)
        await asyncio.Event().wait()
        return
    address = authority(listener, _reached_by(daemon, bus))
    note = note_path(daemon.settings.store.data, daemon.name)
    await asyncio.to_thread(leave_note, note, daemon.node, daemon.name, address)
    daemon.metrics_url = f"http://{address}/metrics"
    told()
    log.info("metrics.served", url=daemon.metrics_url)
    try:
        await Endpoint(Writer(daemon, vitals, read).write).serve(listener)
    finally:
        await asyncio.to_thread(remove_note, note)


def _reached_by(daemon: Daemon, bus: Bus) -> str:
    """The address by which other machines reach this one."""
    try:
        return daemon.settings.network.address or bus.local_address()
    except BusError:
        return "127.0.0.1"


class Writer:
    """Makes the text of one daemon: read on the loop, written beside it."""

    def __init__(self, daemon: Daemon, vitals: Vitals, read: Read) -> None:
        self._daemon, self._vitals, self._read = daemon, vitals, read
        self._certificates = Certificates(daemon.settings)
        self._exposition: Exposition | None = None

    async def write(self) -> tuple[str, bytes]:
        """Content type and text, as of now."""
        sheet = Sheet(self._daemon.node, self._daemon.name)
        self._vitals.read(sheet)
        await self._read(sheet)
        return await asyncio.to_thread(functools.partial(self._written, sheet))

    def _written(self, sheet: Sheet) -> tuple[str, bytes]:
        from fleetcast.daemons.metrics import exposition

        process.read(sheet)
        self._certificates.read(sheet)
        if self._exposition is None:
            self._exposition = exposition.Exposition(self._daemon.name)
        return exposition.CONTENT_TYPE, self._exposition.write(sheet)
