"""`fleetcast transfers`: who fetches what, how far it is, by which rung and from whom, and who is slow and why."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.live import Fleet, watched
from fleetcast.cli.pictures import Picture, redraw
from fleetcast.cli.problems import Exit
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.units import duration, percent, rate, size
from fleetcast.events.state import TransferStatus
from fleetcast.registry.picture.nodes import received
from fleetcast.registry.picture.pace import ENDED, Summary, summaries, transfers_document

COLUMNS = ("NODE", "MODEL@VERSION", "STATE", "%", "RATE", "LEFT", "RUNG", "SLOW", "BYTES", "FROM", "SENT", "PEERS")
RIGHT = frozenset({"%", "RATE", "LEFT", "BYTES", "SENT", "PEERS"})
MEDIUM = 140
"""A terminal narrower than this leaves out what is nice to know, and below NARROW all but who, how far and why."""
NARROW = 100
NEEDED = frozenset({"NODE", "MODEL@VERSION", "%", "LEFT", "SLOW"})
NICE = frozenset({"BYTES", "SENT", "PEERS"})
SOURCES_SHOWN = 3


def run(call: Call, *, watch: bool, everything: bool, limit: int) -> Exit:
    """Show transfers; with *everything* also those that have ended; at most *limit* rows (0: all)."""
    seen = run_async(_look(call, target(call), watch=watch, everything=everything, limit=limit))
    call.out.document(seen.document)
    call.out.show(seen.drawn)
    return Exit.OK


async def _look(call: Call, aim: Target, *, watch: bool, everything: bool, limit: int) -> Picture:
    width = call.out.console().width
    async with connected(aim) as bus, watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet:
        if watch:
            await redraw(call.out, fleet, lambda: picture(fleet, everything=everything, limit=limit, width=width))
        return picture(fleet, everything=everything, limit=limit, width=width)


def picture(fleet: Fleet, *, everything: bool, limit: int, width: int) -> Picture:
    """The transfers of *fleet* now."""
    known = fleet.transfers
    shown = [t for t in known if everything or t.state not in ENDED]
    document = transfers_document(known, everything=everything)
    return Picture(document, drawn(shown, summaries(known, shown), limit=limit, width=width))


def drawn(
    transfers: Sequence[TransferStatus], summaries: Sequence[Summary], *, limit: int, width: int
) -> RenderableType:
    """A row for each transfer; where there are more than *limit*, a line per artifact and the rows that need a look."""
    if not transfers:
        return Text("nothing is being transferred")
    slow = {(node, s.artifact): why for s in summaries for node, why in s.slow.items()}
    rows = attention(transfers, slow)[: limit or None]
    if len(rows) == len(transfers):
        return transfer_table(transfers, slow, width=width)
    told = [Text(sentence(each)) for each in summaries]
    rest = f"{len(rows)} of {len(transfers)} transfers, failed and slow ones first; --limit 0 shows all"
    return Group(*told, Text(""), Text(rest), transfer_table(rows, slow, width=width))


def attention(transfers: Iterable[TransferStatus], slow: Mapping[tuple[str, str], str]) -> list[TransferStatus]:
    """*transfers*, those first that somebody should look at: failed ones, slow ones, those that are least far."""

    def rank(transfer: TransferStatus) -> tuple[bool, bool, int, str]:
        done = percent(received(transfer), transfer.bytes_total)
        return transfer.state != "failed", (transfer.node, transfer.artifact) not in slow, done, transfer.node

    return sorted(transfers, key=rank)


def sentence(whole: Summary) -> str:
    """`hex8@43, 64.0 MiB: 298 fetching, 2 installed; 41 % (median), 1.2 GiB/s together, 40 s left; 3 are slow`."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(whole.states.items(), key=lambda s: -s[1]))
    said = f"{whole.model}@{whole.version}, {size(whole.bytes_total)}: {states}"
    if whole.percent < 100:
        left = f", {duration(whole.left_seconds)} left" if whole.left_seconds is not None else ""
        said += f"; {whole.percent} % (median), {rate(whole.rate)} together{left}"
    count = len(whole.slow)
    return said + (f"; {count} {'is' if count == 1 else 'are'} slow" if count else "")


def transfer_table(
    transfers: Iterable[TransferStatus], slow: Mapping[tuple[str, str], str], *, width: int = 500
) -> Table:
    """One row per transfer, with as many columns as fit."""
    kept = [c for c in COLUMNS if width >= NARROW or c in NEEDED]
    kept = [c for c in kept if width >= MEDIUM or c not in NICE]
    rows = (cells(t, slow.get((t.node, t.artifact))) for t in transfers)
    right = [index for index, column in enumerate(kept) if column in RIGHT]
    return table(kept, ([row[column] for column in kept] for row in rows), right=right)


def cells(transfer: TransferStatus, slow: str | None) -> dict[str, object]:
    """A transfer by column; rate and time left are shown while it runs, the time taken once it has ended."""
    running = transfer.state not in ENDED
    left = "-" if transfer.eta_seconds is None else duration(transfer.eta_seconds)
    return {
        "NODE": transfer.node,
        "MODEL@VERSION": f"{transfer.model}@{transfer.version}",
        "STATE": transfer.state,
        "%": percent(received(transfer), transfer.bytes_total),
        "RATE": rate(transfer.rate_bytes_per_second) if running else "-",
        "LEFT": left if running else f"took {duration(transfer.seconds)}",
        "RUNG": rung(transfer),
        "SLOW": transfer.reason or slow or transfer.slow or "",
        "BYTES": f"{size(received(transfer))} / {size(transfer.bytes_total)}",
        "FROM": feeders(transfer.bytes_by_source),
        "SENT": size(transfer.bytes_uploaded) if transfer.bytes_uploaded else "-",
        "PEERS": transfer.peers,
    }


def rung(transfer: TransferStatus) -> str:
    """The transport that runs, and those that were left for it: `aria2 (after bittorrent)`."""
    if transfer.transport == "none":
        return "-"
    left = [
        r.transport for r in transfer.rungs if r.state in {"failed", "stalled"} and r.transport != transfer.transport
    ]
    return f"{transfer.transport} (after {', '.join(left)})" if left else transfer.transport


def feeders(bytes_by_source: Mapping[str, int], shown: int = SOURCES_SHOWN) -> str:
    """`node-1 41.0 MiB, node-2 23.0 MiB, 4 more 1.0 MiB`, largest first."""
    ordered = sorted(bytes_by_source.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{node} {size(count)}" for node, count in ordered[:shown]]
    rest = ordered[shown:]
    return ", ".join([*said, *([f"{len(rest)} more {size(sum(c for _, c in rest))}"] if rest else [])]) or "-"


def in_one_line(transfer: TransferStatus, slow: str | None) -> str:
    """`node-2 fetches hex8@43: 62 %, 31.9 MiB/s, 12 s left, by bittorrent; its disk: …`."""
    done = f"{percent(received(transfer), transfer.bytes_total)} %"
    left = f", {duration(transfer.eta_seconds)} left" if transfer.eta_seconds is not None else ""
    way = "" if transfer.transport == "none" else f", by {rung(transfer)}"
    why = f"; {slow or transfer.slow}" if slow or transfer.slow else ""
    what = f"{transfer.node} {transfer.state} {transfer.model}@{transfer.version}"
    return f"{what}: {done}, {rate(transfer.rate_bytes_per_second)}{left}{way}{why}"
