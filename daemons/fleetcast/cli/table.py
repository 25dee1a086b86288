"""Tables for people: aligned columns, no frames, no markup read from data."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from fleetcast.cli.narrate import printable

_STYLES = {
    "ready": "green",
    "ok": "green",
    "installed": "green",
    "starting": "yellow",
    "draining": "yellow",
    "degraded": "yellow",
    "warn": "yellow",
    "fetching": "cyan",
    "verifying": "cyan",
    "stopped": "dim",
    "lost": "bold red",
    "failed": "bold red",
    "fail": "bold red",
    "DAMAGED": "bold red",
}
"""Colours of words that stand alone in a cell."""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> Table:
    """A table of *rows* under *columns*; the columns numbered in *right* are aligned to the right."""
    numbers = set(right)
    drawn = Table(box=None, pad_edge=False, header_style="bold", show_header=True)
    for index, column in enumerate(columns):
        drawn.add_column(column, justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row))
    return drawn


def _cell(value: object) -> Text:
    text = printable(str(value))
    return Text(text, style=_STYLES.get(text, ""))
