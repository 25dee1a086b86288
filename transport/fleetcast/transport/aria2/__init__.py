"""The aria2 rung: ranges of a file from every node that holds it, by one aria2c per node (ADR 0013).

Here belongs whatever knows aria2: its control file, its options, its RPC. `control`, `metalink`, `mirrors`, `ledger`
and `watch` decide and are pure; `child`, `rpc`, `ranges`, `files` and `downloads` act; `fetching` is one transfer from
start to end. Nothing here trusts aria2 or a mirror: every piece is read back and proven by whoever waits for it.
"""

from fleetcast.transport.aria2.transport import Aria2Stats, Aria2Transport

__all__ = ["Aria2Stats", "Aria2Transport"]
