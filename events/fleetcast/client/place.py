"""What the environment says about this process: whether it speaks, for which node, and for which run."""

import os
import sys
from collections.abc import Mapping

from fleetcast.client.node import default_node_id, spelled
from fleetcast.client.notices import warn

MODES = ("online", "offline", "disabled")
_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
"""Who a process is among all of its job; the first that is there counts."""
_IN_SOURCES = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def mode_of(environ: Mapping[str, str]) -> str:
    """One of MODES; anything else is taken as `online`, with a warning."""
    mode = environ.get("FLEETCAST_MODE") or "online"
    if mode not in MODES:
        warn(f"FLEETCAST_MODE={mode} is none of {', '.join(MODES)}; taken as online")
        return "online"
    return mode


def speaks(environ: Mapping[str, str]) -> bool:
    """Whether this process is the one of its job that emits: rank 0, or any with FLEETCAST_RANKS=all.

    Launchers that number processes by node alone (NODE_RANK and LOCAL_RANK) are understood as well.
    """
    if environ.get("FLEETCAST_RANKS") == "all":
        return True
    known = [environ[name] for name in _RANKS if environ.get(name)]
    if known:
        return known[0] == "0"
    return all((environ.get(name) or "0") == "0" for name in ("NODE_RANK", "LOCAL_RANK"))


def node_of(environ: Mapping[str, str]) -> str:
    """The node that this process runs on."""
    return environ.get("FLEETCAST_NODE_ID") or default_node_id()


def job_name() -> str:
    """What the process is called in `source`: its script's name."""
    script = os.path.basename(sys.argv[0] if sys.argv else "").removesuffix(".py")
    return spelled(script, _IN_SOURCES)[:64].strip("-") or "python"
