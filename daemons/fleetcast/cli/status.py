"""`fleetcast status`: the fleet on one screen, and whether anything is wrong with it."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NoReturn

from rich.console import Group, RenderableType
from rich.text import Text

from fleetcast.bus import Bus
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.live import Fleet, watched
from fleetcast.cli.narrate import printable
from fleetcast.cli.pictures import Picture, redraw
from fleetcast.cli.problems import Exit
from fleetcast.cli.remedy.telling import document as incident_document
from fleetcast.cli.remedy.telling import open_line
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.training.nodes import drawn, lines
from fleetcast.cli.transfers import attention, in_one_line
from fleetcast.cli.units import ago
from fleetcast.daemons.remedy.incidents.reading import unresolved
from fleetcast.events.wants import wants
from fleetcast.registry.picture.condition import Beside, Condition, look_beside
from fleetcast.registry.picture.nodes import NodeView, Rollout, node_document, rollout_document
from fleetcast.registry.picture.pace import ENDED, by_artifact, newest, slow_nodes, transfer_document

BESIDE_SECONDS = 5.0
"""Distance of looks at what no heartbeat tells while the picture is watched."""
TRANSFERS_SHOWN = 12
"""Running transfers that have a line; `fleetcast transfers` shows the others."""
MATRIX_NODES = 8
"""Up to so many nodes have a column each in the table of models."""


def run(call: Call, *, watch: bool) -> Exit:
    """Show the fleet once, or redraw it with *watch*."""
    seen = run_async(_look(call, target(call), watch=watch))
    call.out.document(seen.document)
    call.out.show(seen.drawn)
    return Exit.OK if seen.document["ok"] else Exit.FAILED


async def _look(call: Call, aim: Target, *, watch: bool) -> Picture:
    async with connected(aim) as bus, watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet:
        if watch:
            await _watch(call, bus, fleet)
        return picture(fleet, await look_beside(bus, fleet, unresolved))


async def _watch(call: Call, bus: Bus, fleet: Fleet) -> NoReturn:
    seen = Beside()

    async def follow() -> None:
        nonlocal seen
        while True:
            seen = await look_beside(bus, fleet, unresolved)
            fleet.wake()
            await asyncio.sleep(BESIDE_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow(), name="beside the heartbeats")
        await redraw(call.out, fleet, lambda: picture(fleet, seen))
    raise AssertionError("redrawing ends by cancellation only")


def picture(fleet: Fleet, beside: Beside) -> Picture:
    """The fleet now."""
    nodes, rollouts, dead, incidents = fleet.nodes, fleet.rollouts, beside.dead, beside.incidents
    condition = Condition(fleet, beside, rollouts)
    keeping, attendants, training, wrong = (
        condition.keeping,
        condition.attendants,
        condition.training,
        condition.wrong,
    )
    running = [t for t in fleet.transfers if t.state not in ENDED]
    document = {
        "ok": not wrong,
        "degraded": list(wrong),
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "nodes": [node_document(node) for node in nodes],
        "models": [_model_document(each, fleet) for each in rollouts],
        "transfers": [transfer_document(t) for t in running],
        "dead_letters": dead,
        "registry": keeping.document(),
        "daemons": attendants.document(),
        "training": training.document(),
        "truth": beside.truth.document(),
        "incidents": [incident_document(each) for each in incidents],
    }
    out_of_service = [Text(printable(said)) for n in nodes if (said := n.out_of_service)]
    parts: list[RenderableType] = [_node_table(nodes), *out_of_service, Text(""), _model_table(rollouts, nodes)]
    if running:
        parts += [Text(""), *transfer_lines(fleet)]
    if (gpus := drawn(training)) is not None:
        parts += [Text(""), gpus, *lines(training)]
    if not keeping.away:
        parts += [Text(""), Text(printable(keeping.sentence))]
    parts += [Text(printable(each)) for each in attendants.sentences]
    parts.append(Text(printable(beside.truth.sentence(condition.room))))
    if incidents:
        parts += [Text(""), Text(printable(open_line(incidents)), style="yellow")]
    return Picture(document, Group(*parts, Text(""), _verdict(wrong, dead)))


def transfer_lines(fleet: Fleet) -> list[Text]:
    """A line for each running transfer, those first that are slow."""
    known = newest(fleet.transfers)
    slow = {(n, a): why for a, ts in by_artifact(known).items() for n, why in slow_nodes(ts).items()}
    running = attention((t for t in known if t.state not in ENDED), slow)
    lines = [Text(printable(in_one_line(t, slow.get((t.node, t.artifact))))) for t in running[:TRANSFERS_SHOWN]]
    rest = len(running) - TRANSFERS_SHOWN
    return lines + [Text(f"… and {rest} more: fleetcast transfers")] * (rest > 0)


def _node_table(nodes: Sequence[NodeView]) -> RenderableType:
    columns = ("NODE", "STATE", "SEEN", "BITTORRENT", "HTTP", "TRANSPORTS", "VERSION", "DOING")
    return table(columns, [_node_row(node) for node in nodes])


def _node_row(node: NodeView) -> Sequence[object]:
    ends = node.status.endpoints
    # The path of the HTTP address is a capability: who knows it may read the store.
    http = "/".join(ends.http.split("/")[:3]) if ends.http else "-"
    ways = ", ".join(node.status.transports) or "none"
    seen = ago(node.age_seconds)
    return (node.name, node.state, seen, ends.bt or "-", http, ways, node.status.version, node.status.status)


def _model_table(rollouts: Sequence[Rollout], nodes: Sequence[NodeView]) -> RenderableType:
    """Models and nodes as a matrix; where that would be too wide, only the nodes that are behind are named."""
    matrix = len(nodes) <= MATRIX_NODES
    tried = any(each.canary for each in rollouts)
    canary = ["CANARY"] if tried else []
    columns = ("MODEL", "VERSION", "PRODUCTION", *canary, *([n.name for n in nodes] if matrix else ["NOT YET ON"]))
    rows = [
        (
            each.model,
            each.version or "-",
            f"{len(each.ready)} of {each.wanted} at generation {each.generation}",
            *([_canary(each)] if tried else []),
            *([_on(each, node) for node in nodes] if matrix else [", ".join(w.node for w in each.behind) or "-"]),
        )
        for each in rollouts
    ]
    return table(columns, rows)


def _canary(progress: Rollout) -> str:
    """`43: 1 of 1 (33 % of nodes)`."""
    canary = progress.canary
    if canary is None:
        return "-"
    return f"{canary.version}: {len(canary.ready)} of {canary.wanted} ({canary.percent} % of {canary.form.value})"


def _on(progress: Rollout, node: NodeView) -> str:
    """What *node* serves of the model: its version, or `-` where it wants none of it."""
    if not wants(node.status.wants, progress.kind, progress.model):
        return "-"
    held = node.line(progress.kind, progress.model)
    return (held.current if held else None) or "none"


def _verdict(wrong: Sequence[str], dead: int) -> Text:
    if not wrong:
        return Text("all well", style="green")
    lines = [f"degraded: {printable(each)}" for each in wrong]
    if dead:
        lines.append("see: fleetcast dlq ls")
    return Text("\n".join(lines), style="yellow")


def _model_document(progress: Rollout, fleet: Fleet) -> dict[str, object]:
    slot = fleet.slot(progress.model)
    previous = slot.previous.version if slot and slot.previous else None
    return rollout_document(progress) | {"previous": previous}
