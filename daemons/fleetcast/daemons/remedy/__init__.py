"""The remedy daemon: what somebody must know about becomes an incident, and what can be remedied is, by playbooks.

`incidents/` decides what becomes of an incident and keeps it; `playbooks/` runs named steps; `ledger.py` is how both
write; `daemon.py` connects them. Nothing here writes a slot: the registry daemon is asked to.
"""

from fleetcast.config.settings import Settings

__all__ = ["main"]


def main(settings: Settings) -> int:
    """Run the remedy daemon until it is told to stop; returns the process's exit code."""
    # The command line reads what may be asked from this package, and needs no daemon for that.
    from fleetcast.daemons.remedy.daemon import main as run

    return run(settings)
