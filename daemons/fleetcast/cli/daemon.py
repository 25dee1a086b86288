"""`fleetcast run DAEMON`: one daemon in the foreground."""

from collections.abc import Callable
from importlib import import_module

from fleetcast.cli.call import Call
from fleetcast.cli.connection import environment
from fleetcast.cli.problems import Problem, usage
from fleetcast.config.loader import load
from fleetcast.config.settings import Settings

DAEMONS = {
    "distributor": "fleetcast.daemons.distributor",
    "registry": "fleetcast.daemons.registry",
    "monitor": "fleetcast.daemons.monitor",
    "remedy": "fleetcast.daemons.remedy",
    "notifier": "fleetcast.daemons.notifier",
    "trainer": "fleetcast.daemons.trainer",
    "gateway": "fleetcast.daemons.gateway",
}
"""Packages by daemon; each has `main(settings) -> int`."""
CONTROLS = tuple(name for name in DAEMONS if name not in {"distributor", "trainer", "gateway"})
"""Daemons that serve the whole fleet, and that it cannot do without: one or two nodes run them."""


def run(call: Call, daemon: str) -> int:
    """Run *daemon* until it is told to stop; its exit code is ours.

    A daemon never looks for a running `up`: which fleet it belongs to is said by its settings alone.
    """
    if daemon not in DAEMONS:
        raise usage(f"no daemon is called {daemon!r}", why=f"there is {', '.join(DAEMONS)}")
    if daemon == "gateway":
        check_gateway()
    flags: dict[str, object] = {"bus.url": call.server}
    main: Callable[[Settings], int] = import_module(DAEMONS[daemon]).main
    return main(load(call.config, env=environment(call), flags=flags).settings)


def check_gateway() -> None:
    """Raises Problem: what only the gateway needs is not installed."""
    from fleetcast.daemons.gateway import INSTALL, missing

    if lacking := missing():
        raise Problem(
            "missing",
            f"the gateway needs {' and '.join(lacking)}",
            why="they are installed where a gateway runs, and nowhere else",
            next_step=INSTALL,
        )
