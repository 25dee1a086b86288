"""Which artifacts a node keeps: one pure rule, used by distributors and by whoever counts N of M."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache

from fleetcast.events.content import Kind
from fleetcast.events.payloads import Wants


def wants(wants: Wants, kind: Kind, name: str) -> bool:
    """Whether a node with these *wants* keeps what is called *name*: a model or bundle by `models`, a data set by
    `lanes`. Patterns are those of the shell (`*`, `?`, `[…]`), over the whole id."""
    return _fits(wants.lanes if kind is Kind.DATASET else wants.models, name)


@lru_cache(maxsize=2**16)
def _fits(patterns: tuple[str, ...], name: str) -> bool:
    # Of fifty nodes with five hundred models most have the same wants, and all are looked at again and again.
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def addressed(to: Iterable[str], node: str, labels: Mapping[str, str]) -> bool:
    """Whether a distribution to *to* means this node: a pattern is over its name, or with a `=` over its labels
    (`gpu=nvidia`, `gpu=*`)."""
    named = [node, *(f"{label}={value}" for label, value in labels.items())]
    return any(fnmatchcase(name, pattern) for pattern in to for name in named if ("=" in pattern) == ("=" in name))
