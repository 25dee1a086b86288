"""`fleetcast drain` and `undrain`: a node leaves service for a while, and keeps what it holds."""

from datetime import UTC, datetime, timedelta

from fleetcast.cli.call import Call
from fleetcast.cli.problems import Exit, usage
from fleetcast.cli.registry.asking import decide, parsed
from fleetcast.cli.units import parse_duration
from fleetcast.registry.commands import stamp


def drain(
    call: Call,
    node: str,
    *,
    drained: bool,
    keep: str | None = None,
    until: str | None = None,
    force: bool = False,
    reason: str | None,
    dry_run: bool,
) -> Exit:
    """Take a node out of service, or back in."""
    if keep and until:
        raise usage("--for and --until say the same thing twice", next_step="one of them")
    if keep:
        until = stamp(datetime.now(UTC) + timedelta(seconds=parse_duration(keep, option="--for")))
    command = parsed({"do": "drain", "node": node, "drained": drained, "until": until, "force": force})
    return decide(call, command, reason=reason, dry_run=dry_run)
