"""Commands of the archive."""

from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.act import DryRun, Reason, Timeout
from fleetcast.cli.surface.decide import PANEL, Named

MaybeNamed = Annotated[
    str | None, typer.Argument(metavar="[MODEL@VERSION]", help="Without one: what the rules of archival propose.")
]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""

    @command(app, "archive", panel=PANEL)
    def archive(
        call: Call,
        wanted: MaybeNamed = None,
        model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help="Rules for this one only.")] = None,
        apply: Annotated[bool, typer.Option("--apply", help="Do what the rules propose.")] = False,
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Send a version to the archive; or list what the rules would send there, and why."""
        from fleetcast.cli.registry.archiving import archive as run

        return run(call, wanted, model=model, apply=apply, reason=reason, dry_run=dry_run)

    @command(app, "restore", panel=PANEL)
    def restore(
        call: Call,
        wanted: Named,
        reason: Reason = None,
        wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when it is back, or was refused.")] = True,
        timeout: Timeout = "10m",
        dry_run: DryRun = False,
    ) -> Exit:
        """Bring a version back from the archive, every byte proven again; it is at development then."""
        from fleetcast.cli.registry.archiving import restore as run

        return run(call, wanted, reason=reason, wait=wait, timeout=timeout, dry_run=dry_run)
