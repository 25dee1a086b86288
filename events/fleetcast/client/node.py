"""What this machine is called in the fleet, when nobody said."""

import os

_IN_NAMES = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
NAME_CHARACTERS = 48


def default_node_id() -> str:
    """The host's name, up to the first dot, made a valid name: lower case, other characters as `-`, at most 48."""
    return name_from(os.uname().nodename)


def name_from(host: str) -> str:
    """*host* as the name of a node; `node` when nothing of it can be kept."""
    first = host.split(".", 1)[0].lower()
    return spelled(first, _IN_NAMES).lstrip("_-")[:NAME_CHARACTERS] or "node"


def is_name(text: str) -> bool:
    """Whether *text* may name a node, a model, a lane or a run."""
    return 0 < len(text) <= NAME_CHARACTERS and _IN_NAMES.issuperset(text) and text[0] not in "_-"


def spelled(text: str, allowed: frozenset[str]) -> str:
    """*text* with one `-` for what is not *allowed*, however many characters that are. (Expressions would do it in a
    line; loading them takes longer than all the rest of the client.)"""
    kept = "".join(c if c in allowed else "\0" for c in text)
    while "\0\0" in kept:
        kept = kept.replace("\0\0", "\0")
    return kept.replace("\0", "-")
