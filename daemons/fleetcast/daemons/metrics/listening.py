"""Where a daemon's metrics are found: the port that it takes, and the note that names it.

Every daemon has a port of its own, counted from `metrics.port`, so that a scrape configuration can be written once. On
a machine with several nodes the second one finds it taken and takes a free one; the note is right in any case. It is a
file that Prometheus itself reads (`file_sd_configs`), below `metrics` in the data folder.
"""

import contextlib
import json
import socket
from pathlib import Path

import structlog

from fleetcast.config.metrics import MetricsSettings
from fleetcast.daemons.metrics.catalogue import DAEMONS

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.metrics")

BACKLOG = 16
FOLDER = "metrics"


def port_of(daemon: str, settings: MetricsSettings) -> int:
    """The port that a daemon is to have; 0: any free one."""
    return settings.port + DAEMONS.index(daemon) if settings.port else 0


def listen(daemon: str, settings: MetricsSettings) -> socket.socket:
    """A socket that listens where it should, or, where that port is another's, on a free one.

    Raises:
        OSError: this machine does not have the address.
    """
    port = port_of(daemon, settings)
    try:
        return _bound(settings.bind, port)
    except OSError as taken:
        if not port:
            raise
        log.warning(
            "metrics.port_taken",
            port=port,
            reason=taken.strerror,
            next_step="a free one is used: fleetcast metrics names it; metrics.port chooses others for this node",
        )
        return _bound(settings.bind, 0)


def _bound(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def authority(listener: socket.socket, reached_by: str) -> str:
    """`host:port` by which it is reached; *reached_by* stands for "all addresses"."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:
        host = reached_by
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def targets(node: str, daemon: str, address: str) -> list[dict[str, object]]:
    """What Prometheus reads: one target, called `node/daemon` in all that it scrapes there."""
    return [{"targets": [address], "labels": {"instance": f"{node}/{daemon}"}}]


def note_path(data: Path, daemon: str) -> Path:
    """Where the note of a daemon lies."""
    return data / FOLDER / f"{daemon}.json"


def leave_note(path: Path, node: str, daemon: str, address: str) -> None:
    """Write the note, whole or not at all. A disk that takes nothing keeps no daemon from its work."""
    fresh = path.with_suffix(".new")
    try:
        # The data folder itself is not made for a note.
        path.parent.mkdir(exist_ok=True)
        fresh.write_text(json.dumps(targets(node, daemon, address), indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)
    except OSError as fault:
        log.info("metrics.no_note", path=str(path), reason=fault.strerror)


def remove_note(path: Path) -> None:
    """Take the note away: nobody is there any more."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
