"""What training jobs import: `from fleetcast.client import emit`. Standard library only; nothing here raises into the
caller, waits for a network, or installs a signal handler."""

from fleetcast.client.emit import emit
from fleetcast.client.node import default_node_id

__all__ = ["default_node_id", "emit"]
