"""Pictures of the fleet that are drawn once, or again and again."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from fleetcast.cli.live import Fleet
from fleetcast.cli.output import SCHEMA_VERSION, Output

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Picture:
    """What is to be seen at one moment: as a JSON document, and drawn."""

    document: Mapping[str, object]
    drawn: "RenderableType"


async def redraw(out: Output, fleet: Fleet, draw: Callable[[], Picture]) -> NoReturn:
    """Draw on every change until cancelled: in place on a terminal, as JSON lines with --json, else one below the
    other, and only when something is different."""
    if out.live:
        await _in_place(out, fleet, draw)
    last = ""
    while True:
        picture = draw()
        line = json.dumps({"schema_version": SCHEMA_VERSION} | dict(picture.document), default=str)
        if line != last and out.json_mode:
            out.record(line, "")
        elif line != last:
            out.show(picture.drawn)
        last = line
        await fleet.change(within_seconds=5.0)


async def _in_place(out: Output, fleet: Fleet, draw: Callable[[], Picture]) -> NoReturn:
    from rich.live import Live

    with Live(draw().drawn, console=out.console(), auto_refresh=False, screen=False) as live:
        while True:
            await fleet.change()
            live.update(draw().drawn, refresh=True)
