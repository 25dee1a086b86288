"""Commands about nodes."""

from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.act import DryRun, Reason

PANEL = "Decide"

NodeName = Annotated[str, typer.Argument(metavar="NODE")]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""

    @command(app, "drain", panel=PANEL)
    def drain(
        call: Call,
        node: NodeName,
        keep: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Such as 2h or 3d.")] = None,
        until: Annotated[str | None, typer.Option(metavar="TIME", help="Such as 2026-12-24T18:00:00Z.")] = None,
        force: Annotated[bool, typer.Option("--force", help="Although nobody else serves one of its models.")] = False,
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Take a node out of service: it counts for nothing, and still holds and follows what is ordered."""
        from fleetcast.cli.registry.draining import drain as run

        return run(call, node, drained=True, keep=keep, until=until, force=force, reason=reason, dry_run=dry_run)

    node = typer.Typer(help="Keep training runs away from a node, or give it some again.")
    app.add_typer(node, name="node", rich_help_panel=PANEL)
    _add_quarantine(node)

    @command(app, "undrain", panel=PANEL)
    def undrain(call: Call, node: NodeName, reason: Reason = None, dry_run: DryRun = False) -> Exit:
        """Take a node back into service."""
        from fleetcast.cli.registry.draining import drain as run

        return run(call, node, drained=False, reason=reason, dry_run=dry_run)


def _add_quarantine(node: typer.Typer) -> None:
    @command(node, "quarantine")
    def quarantine(
        call: Call,
        name: NodeName,
        keep: Annotated[str, typer.Option("--for", metavar="DURATION", help="Such as 30m, 2h or 3d.")] = "2h",
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Keep training runs away from a node for a while; those that it has go on."""
        from fleetcast.cli.training.quarantine import change

        return change(call, name, quarantined=True, keep=keep, reason=reason, dry_run=dry_run)

    @command(node, "release")
    def release(call: Call, name: NodeName, reason: Reason = None, dry_run: DryRun = False) -> Exit:
        """Give a node training runs again, before its quarantine ends by itself."""
        from fleetcast.cli.training.quarantine import change

        return change(call, name, quarantined=False, reason=reason, dry_run=dry_run)
