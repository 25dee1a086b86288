"""When the certificates end that a daemon goes by: read from their files each time, as every new connection does; and
those that the NATS servers show, asked for by the registry daemon once an hour."""

import time
from datetime import datetime
from pathlib import Path

from fleetcast.bus.credentials import certificate_end
from fleetcast.bus.peer import server_certificate_end
from fleetcast.config.settings import BusSettings, Settings
from fleetcast.daemons.metrics.catalogue import GATEWAY, REGISTRY
from fleetcast.daemons.metrics.sheet import Sheet

NAME = "fleetcast_certificate_expiry_timestamp_seconds"
UNREADABLE = 0.0
"""For a certificate that is no more: it has ended as far as anybody can tell."""
ASK_SECONDS = 3600.0


class Certificates:
    """Reads them for one daemon."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asked_at: float | None = None
        self._shown: dict[str, datetime] = {}

    def read(self, sheet: Sheet) -> None:
        """Fill in all of it; reads files and asks servers, for a thread."""
        bus = self._settings.bus
        held = {"own": bus.cert, "authority": bus.ca}
        if sheet.daemon == GATEWAY:
            held["https"] = self._settings.gateway.certificate
        for certificate, path in held.items():
            if path is not None:
                sheet.put(NAME, _end(path), certificate=certificate)
        if sheet.daemon == REGISTRY and bus.ca is not None:
            self._ask(bus)
            first = min(self._shown.values(), default=None)
            sheet.put(NAME, first.timestamp() if first is not None else None, certificate="servers")

    def _ask(self, bus: BusSettings) -> None:
        now = time.monotonic()
        if self._asked_at is not None and now - self._asked_at < ASK_SECONDS:
            return
        self._asked_at = now
        for server in bus.url.split(","):
            end = server_certificate_end(server, bus)
            if end is not None:
                self._shown[server] = end


def _end(path: Path) -> float:
    end = certificate_end(path)
    return end.timestamp() if end is not None else UNREADABLE
