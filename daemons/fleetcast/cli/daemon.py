"""`fleetcast run DAEMON`: one daemon in the foreground."""

from collections.abc import Callable
from importlib import import_module

from fleetcast.cli.call import Call
from fleetcast.cli.connection import environment
from fleetcast.cli.problems import usage
from fleetcast.config.loader import load
from fleetcast.config.settings import Settings

DAEMONS = {
    "distributor": "fleetcast.daemons.distributor",
    "registry": "fleetcast.daemons.registry",
    "monitor": "fleetcast.daemons.monitor",
    "remedy": "fleetcast.daemons.remedy",
    "notifier": "fleetcast.daemons.notifier",
    "trainer": "fleetcast.daemons.trainer",
}
"""Packages by daemon; each has `main(settings) -> int`."""
CONTROLS = tuple(name for name in DAEMONS if name not in {"distributor", "trainer"})
"""Daemons that serve the whole fleet: one or two nodes run them."""


def run(call: Call, daemon: str) -> int:
    """Run *daemon* until it is told to stop; its exit code is ours.

    A daemon never looks for a running `up`: which fleet it belongs to is said by its settings alone.
    """
    if daemon not in DAEMONS:
        raise usage(f"no daemon is called {daemon!r}", why=f"there is {', '.join(DAEMONS)}")
    flags: dict[str, object] = {"bus.url": call.server}
    main: Callable[[Settings], int] = import_module(DAEMONS[daemon]).main
    return main(load(call.config, env=environment(call), flags=flags).settings)
