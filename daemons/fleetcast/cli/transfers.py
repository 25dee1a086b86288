"""`fleetcast transfers`: who fetches what, how far it is, from whom, and why it is stuck."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.fleet import DONE, received
from fleetcast.cli.live import Fleet, watched
from fleetcast.cli.pictures import Picture, redraw
from fleetcast.cli.problems import Exit
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.units import duration, percent, rate, size
from fleetcast.events.state import TransferStatus

COLUMNS = ("NODE", "MODEL@VERSION", "STATE", "%", "RATE", "LEFT", "BYTES", "TRANSPORT", "PEERS", "FROM", "REASON")
ENDED = DONE | {"failed"}


def run(call: Call, *, watch: bool, everything: bool) -> Exit:
    """Show transfers; with *everything* also those that have ended."""
    seen = run_async(_look(call, target(call), watch=watch, everything=everything))
    call.out.document(seen.document)
    call.out.show(seen.drawn)
    return Exit.OK


async def _look(call: Call, aim: Target, *, watch: bool, everything: bool) -> Picture:
    async with connected(aim) as bus, watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet:
        if watch:
            await redraw(call.out, fleet, lambda: picture(fleet, everything=everything))
        return picture(fleet, everything=everything)


def picture(fleet: Fleet, *, everything: bool) -> Picture:
    """The transfers of *fleet* now."""
    shown = [t for t in fleet.transfers if everything or t.state not in ENDED]
    return Picture({"transfers": [document(t) for t in shown]}, transfer_table(shown))


def transfer_table(transfers: Iterable[TransferStatus]) -> Table:
    """One row per transfer."""
    return table(COLUMNS, (row(t) for t in transfers), right=(3, 4, 5, 6, 8))


def row(transfer: TransferStatus) -> Sequence[object]:
    """A transfer as cells; rate and time left are shown while it runs, the time taken once it has ended."""
    running = transfer.state not in ENDED
    left = "-" if transfer.eta_seconds is None else duration(transfer.eta_seconds)
    return (
        transfer.node,
        f"{transfer.model}@{transfer.version}",
        transfer.state,
        percent(received(transfer), transfer.bytes_total),
        rate(transfer.rate_bytes_per_second) if running else "-",
        left if running else f"took {duration(transfer.seconds)}",
        f"{size(received(transfer))} / {size(transfer.bytes_total)}",
        transfer.transport,
        transfer.peers,
        ", ".join(sorted(transfer.bytes_by_source)) or "-",
        transfer.reason or "",
    )


def document(transfer: TransferStatus) -> dict[str, object]:
    """A transfer in JSON."""
    shown = transfer.model_dump(mode="json")
    return shown | {"percent": percent(received(transfer), transfer.bytes_total)}
