"""Which folder a process spools to."""

import os
from collections.abc import Iterator, Mapping

from fleetcast.client.spool.errors import SpoolError

NODE_SPOOL = "/var/lib/fleetcast/spool"
"""The spool of a node whose settings leave `store.data` as it is."""


def spool_folder(environ: Mapping[str, str], *, offline: bool = False) -> str:
    """The first folder that can be written: FLEETCAST_SPOOL, FLEETCAST_STORE_DATA/spool, the node's, the user's.

    *offline*: events stay out of the node's spool until somebody forwards the folder; FLEETCAST_SPOOL, or the user's.

    Raises:
        SpoolError: none can be written; names those that were tried.
    """
    tried = list(_candidates(environ, offline=offline))
    for folder, create in tried:
        if _is_usable(folder, create=create):
            return folder
    raise SpoolError(f"no spool can be written: {', '.join(folder for folder, _ in tried)}; set FLEETCAST_SPOOL")


def _candidates(environ: Mapping[str, str], *, offline: bool) -> Iterator[tuple[str, bool]]:
    """Folders, and whether they may be created: the node's own is made with its rights by whoever sets the node up."""
    if environ.get("FLEETCAST_SPOOL"):
        yield environ["FLEETCAST_SPOOL"], True
    if not offline:
        if environ.get("FLEETCAST_STORE_DATA"):
            yield os.path.join(environ["FLEETCAST_STORE_DATA"], "spool"), True
        yield NODE_SPOOL, False
    folder = user_folder(environ, offline=offline)
    if os.path.isabs(folder):
        yield folder, True


def user_folder(environ: Mapping[str, str], *, offline: bool = False) -> str:
    """The folder of a user whose machine has no spool, or who asked for none to be used."""
    state = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "fleetcast", "offline" if offline else "spool")


def _is_usable(folder: str, *, create: bool) -> bool:
    try:
        if create:
            os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError:
        return False
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)
