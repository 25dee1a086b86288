"""The gateway: the registry and the fleet over HTTP, for programs and browsers (docs/gateway.md).

It decides nothing and keeps nothing: lists come from the read model, the fleet from heartbeats and slots, changes are
asked of the registry daemon, events are passed on from the stream. `access`, `entries`, `problems` and `words` are
pure; `tokens` owns the token file, `stream` passes events to many clients, `actions` and `reads` ask over the bus,
`board`, `board_reads` and `duties` are what the dashboard asks for besides, `registry_routes`, `fleet_routes` and
`board_routes` say what is asked how, `app` puts them together, `daemon` connects. What browsers are served lies in
`dashboard/`. FastAPI and uvicorn are imported below this package and nowhere else; both are optional.
"""

from importlib.util import find_spec
from typing import Final

from fleetcast.config.settings import Settings

NEEDED: Final = ("fastapi", "uvicorn")
"""Packages that only the gateway needs."""
INSTALL: Final = "pip install 'fleetcast[gateway]'"


def missing() -> tuple[str, ...]:
    """What of `NEEDED` is not installed."""
    return tuple(name for name in NEEDED if find_spec(name) is None)


def main(settings: Settings) -> int:
    """Run the gateway until it is told to stop; returns the process's exit code."""
    # Only who runs it waits for FastAPI to be imported.
    from fleetcast.daemons.gateway.daemon import main as run

    return run(settings)
