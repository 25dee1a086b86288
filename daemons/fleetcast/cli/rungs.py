"""The ladder of a transfer in plain words: why it has this order, and what became of every rung. Pure."""

from collections.abc import Callable

from fleetcast.cli.narrate import printable
from fleetcast.cli.units import duration, size
from fleetcast.events.state import RungStatus, TransferStatus


def told(transfer: TransferStatus) -> tuple[str, ...]:
    """The choice, then one sentence for every rung that has something to tell; empty: nothing was chosen yet."""
    if not transfer.choice:
        return ()
    what = f"{transfer.node} fetches {transfer.model}@{transfer.version}"
    rungs = (rung_words(rung) for rung in transfer.rungs)
    return tuple(map(printable, (f"{what}: {transfer.choice}", *(f"  {said}" for said in rungs if said))))


def rung_words(rung: RungStatus) -> str:
    """`aria2 runs, 12.0 MiB in 3 s`; empty for a rung whose turn has not come, or that the choice already explains."""
    words = _WORDS.get(rung.state)
    return "" if words is None else words(rung)


def _brought(rung: RungStatus) -> str:
    return f"{size(rung.received_bytes)} in {duration(rung.seconds)}"


def _because(rung: RungStatus) -> str:
    return f": {rung.reason}" if rung.reason else ""


_WORDS: dict[str, Callable[[RungStatus], str]] = {
    "running": lambda r: f"{r.transport} runs, {_brought(r)}{f' ({r.reason})' if r.reason else ''}",
    "done": lambda r: f"{r.transport} brought {_brought(r)}",
    "failed": lambda r: f"{r.transport} failed after {_brought(r)}{_because(r)}",
    "stalled": lambda r: f"{r.transport} was left after {_brought(r)}{_because(r)}",
}
