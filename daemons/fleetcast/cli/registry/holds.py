"""`fleetcast approve`, `freeze`, `unfreeze`, and the stages that serve nothing: `archive`, `restore`, `reject`,
`quarantine`, `release`."""

from datetime import UTC, datetime, timedelta

from fleetcast.cli.call import Call
from fleetcast.cli.connection import person
from fleetcast.cli.problems import Exit, usage
from fleetcast.cli.registry.asking import decide, parsed
from fleetcast.cli.units import parse_duration
from fleetcast.cli.waiting import split_target
from fleetcast.registry.commands import stamp


def approve(
    call: Call,
    model: str,
    version: str,
    *,
    stage: str | None,
    by: str | None,
    valid: str | None,
    reason: str | None,
    dry_run: bool,
) -> Exit:
    """Record that a person agrees."""
    seconds = parse_duration(valid, option="--for") if valid else None
    name = by or person()
    command = parsed(
        {"do": "approve", "model": model, "version": version, "stage": stage, "by": name, "valid_seconds": seconds}
    )
    return decide(call, command, reason=reason, dry_run=dry_run)


def freeze(
    call: Call,
    model: str | None,
    *,
    everything: bool,
    frozen: bool,
    keep: str | None,
    until: str | None,
    reason: str | None,
    dry_run: bool,
) -> Exit:
    """Freeze a model or all, or lift that."""
    if (model is None) != everything:
        verb = "freeze" if frozen else "unfreeze"
        raise usage("name a model, or --all for every model", next_step=f"fleetcast {verb} --all --reason TEXT")
    if keep and until:
        raise usage("--for and --until say the same thing twice", next_step="one of them")
    if keep:
        until = stamp(datetime.now(UTC) + timedelta(seconds=parse_duration(keep, option="--for")))
    command = parsed({"do": "freeze", "model": model, "frozen": frozen, "until": until})
    return decide(call, command, reason=reason, dry_run=dry_run)


def move(call: Call, wanted: str, stage: str, *, reason: str | None, dry_run: bool) -> Exit:
    """Take a version out of the way, or let it in again."""
    model, version = split_target(wanted)
    if version is None:
        raise usage(f"{wanted!r} names no version", next_step=f"{model}@VERSION; fleetcast models {model} lists them")
    if not reason:
        raise usage(f"why {wanted} becomes {stage} must be said", next_step="--reason TEXT")
    command = parsed({"do": "move", "model": model, "version": version, "stage": stage})
    return decide(call, command, reason=reason, dry_run=dry_run)
