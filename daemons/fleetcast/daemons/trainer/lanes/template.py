"""`{name}` in a lane's command: one pass over plain text; no shell reads it, and what is put in is never read again."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

_NAME: Final = re.compile(r"\{\{|\}\}|\{([a-z_][a-z0-9_]*)\}")

RUN_NAMES: Final[Mapping[str, str]] = {
    "run": "id of the run",
    "claim": "number of the claim under which it runs",
    "lane": "the lane",
    "model": "the model that it makes",
    "version": "of the data set",
    "data": "folder of the data set on the node",
    "checkpoint": "what it resumes from; empty: from scratch",
    "checkpoint_dir": "folder that it writes checkpoints to",
    "device": "what it computes on: cuda:0, rocm:0, cpu",
    "node": "the node",
    "cadence_seconds": "seconds between checkpoints that are advised",
}
"""Names that a lane's command may use, each with its meaning."""
EXPORT_NAMES: Final[Mapping[str, str]] = {
    "lane": "the lane",
    "model": "the model that it makes",
    "path": "where the data set is to be written: an absolute path that ends in .npz",
    "node": "the node",
}
"""Names that a lane's export command may use."""


def filled(words: Sequence[str], values: Mapping[str, object]) -> tuple[str, ...]:
    """*words* with every {name} replaced; `{{` and `}}` stand for braces; a name without a value is empty."""
    return tuple(
        _NAME.sub(lambda found: str(values.get(found[1], "")) if found[1] else found[0][0], word) for word in words
    )


def names_in(words: Sequence[str]) -> Iterable[str]:
    """Every name that *words* ask for."""
    return (found[1] for word in words for found in _NAME.finditer(word) if found[1])
