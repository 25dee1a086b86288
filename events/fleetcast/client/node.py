"""What this machine is called in the fleet, when nobody said."""

import os
import re

_NOT_IN_NAMES = re.compile(r"[^a-z0-9_-]+")


def default_node_id() -> str:
    """The host's name, up to the first dot, made a valid name: lower case, other characters as `-`, at most 48."""
    return name_from(os.uname().nodename)


def name_from(host: str) -> str:
    """*host* as the name of a node; `node` when nothing of it can be kept."""
    first = host.split(".", 1)[0].lower()
    return _NOT_IN_NAMES.sub("-", first).lstrip("_-")[:48] or "node"
