"""What training jobs and serving code import: `from fleetcast.client import emit, run, snapshot`. Standard library
only; nothing here raises into the caller, waits for a network, or installs a signal handler.

Environment, read when the first event comes:
    FLEETCAST_MODE: `online` (default), `offline` (events stay out of the node's spool), `disabled`.
    FLEETCAST_NODE_ID: this node's name; default: from the host name.
    FLEETCAST_SPOOL, FLEETCAST_STORE_DATA: the spool, or the data folder that it lies in.
    FLEETCAST_RANKS: `all` lets every rank of a distributed job emit; otherwise only rank 0 does.
    FLEETCAST_RUN_ID: the run that whoever started the job has registered for it.
    FLEETCAST_CLAIM, _LANE, _MODEL, _DATA, _CHECKPOINT, _CHECKPOINT_DIR, _DEVICE, _CADENCE_SECONDS, _STOP_FILE: what the
        trainer gives to a job that a lane starts (docs/training.md).
"""

from fleetcast.client.emit import emit
from fleetcast.client.node import default_node_id
from fleetcast.client.notices import lost
from fleetcast.client.runs import Run, run
from fleetcast.client.snapshots import snapshot

__all__ = ["Run", "default_node_id", "emit", "lost", "run", "snapshot"]
