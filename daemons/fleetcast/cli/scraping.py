"""`fleetcast metrics`: where Prometheus finds every daemon of the fleet."""

import json

from fleetcast.bus.errors import NotFound
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit, not_found
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.daemons.metrics.listening import targets
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import NodeStatus


def run(call: Call, *, file_sd: bool) -> Exit:
    """Show the addresses; with *file_sd* as Prometheus reads them from a file.

    Raises:
        Problem: no daemon serves any.
    """
    served = [each for each in run_async(_heard(target(call))) if each.metrics is not None]
    if not served:
        raise not_found("no daemon says that it serves metrics", why="metrics.enabled may be false")
    if file_sd:
        call.out.record(*[json.dumps([entry for each in served for entry in _targets(each)], indent=1)] * 2)
        return Exit.OK
    rows = [(each.node, each.daemon, each.metrics) for each in served]
    call.out.document({"metrics": [{"node": n, "daemon": d, "url": url} for n, d, url in rows]})
    call.out.show(table(("NODE", "DAEMON", "URL"), rows))
    return Exit.OK


def _targets(status: NodeStatus) -> list[dict[str, object]]:
    address = (status.metrics or "").removeprefix("http://").removesuffix("/metrics")
    return targets(status.node, status.daemon, address)


async def _heard(aim: Target) -> list[NodeStatus]:
    """Every daemon that was heard from within a day and did not stop in order, by node and name."""
    async with connected(aim) as bus:
        try:
            entries = await bus.kv_entries("fc_nodes")
        except NotFound:
            return []
    heard = []
    for entry in entries:
        try:
            heard.append(NodeStatus.model_validate_json(entry.data))
        except ValueError:
            continue
    running = (each for each in heard if each.state is not DaemonState.STOPPED)
    return sorted(running, key=lambda each: (each.node, each.daemon))
