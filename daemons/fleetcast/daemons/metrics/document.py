"""The tables of docs/metrics.md, made from the catalogue between its two marks.

`python -m fleetcast.daemons.metrics.document docs/metrics.md` writes them; with `--check` it only says whether they are
right (exit 1: they are not).
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from fleetcast.daemons.metrics.catalogue import (
    EVERY,
    FLEET,
    METRICS,
    NOTICES,
    ON_NODES,
    PERFORMANCE,
    REMEDIES,
    TRAINING,
    Metric,
)

BEGIN: Final = "<!-- made from the catalogue: begin -->"
END: Final = "<!-- made from the catalogue: end -->"
CHAPTERS: Final = (
    ("Every daemon", EVERY),
    ("Distributor: a node", ON_NODES),
    ("Registry: the fleet, decisions, streams", FLEET),
    ("Monitor: models in production", PERFORMANCE),
    ("Remedy: incidents and playbooks", REMEDIES),
    ("Notifier: messages", NOTICES),
    ("Trainer: runs, lanes, GPUs", TRAINING),
)


def tables() -> str:
    """All of it."""
    parts = ["## The eight names of the asking documents", "", *_seeds()]
    for title, metrics in CHAPTERS:
        parts += ["", f"## {title}", "", *_table(metrics)]
    return "\n".join(parts)


def _seeds() -> Iterable[str]:
    yield "| theirs | ours |"
    yield "|---|---|"
    for metric in METRICS:
        if metric.seed:
            labels = '{model="{model_id}", slot="production"}' if "model" in metric.labels else ""
            ours = f"{metric.name}{labels}" if labels else f"sum({metric.name})"
            yield f"| `{metric.seed}` | `{ours}` |"


def _table(metrics: Iterable[Metric]) -> Iterable[str]:
    yield "| metric | kind | labels | meaning |"
    yield "|---|---|---|---|"
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
        yield f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"


def renewed(page: str) -> str:
    """The page with the tables of now.

    Raises:
        ValueError: it has no marks.
    """
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{BEGIN} and {END} are missing")
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or check it."""
    path, check = Path(arguments[0]), "--check" in arguments
    page = path.read_text(encoding="utf-8")
    fresh = renewed(page)
    if check:
        if fresh != page:
            print(f"{path} is not what the catalogue makes", file=sys.stderr)
        return int(fresh != page)
    path.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
