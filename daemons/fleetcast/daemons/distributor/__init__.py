"""The distributor: runs on every node, offers what this node publishes, fetches what it wants, installs it verified,
and moves its pointers by slot orders. `rules` decides; the other modules connect it to bus, store and transports.

Here belongs how content reaches nodes. What shall be served is decided by the registry, never here.
"""

from fleetcast.config.settings import Settings


def main(settings: Settings) -> int:
    """Run the distributor until it is told to stop; returns the process's exit code."""
    # The rules are imported by the command line too, which must not pay for the transports.
    from fleetcast.daemons.distributor.daemon import main as run_distributor

    return run_distributor(settings)
