"""Archival: which versions leave the nodes for the archive, as a pure decision over entries, slots and rollouts. What
is done about it (commands, sweeps, files) is elsewhere."""

from fleetcast.registry.archival.pins import pinned
from fleetcast.registry.archival.plan import Proposal, plan

__all__ = ["Proposal", "pinned", "plan"]
