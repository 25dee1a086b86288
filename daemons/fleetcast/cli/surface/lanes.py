"""Commands about lanes: what starts training."""

from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.act import DryRun, Reason

PANEL = "Training"

LaneName = Annotated[str, typer.Argument(metavar="LANE")]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    _add_looking(app)
    _add_changing(app)


def _add_looking(app: typer.Typer) -> None:
    @command(app, "lanes", panel=PANEL)
    def lanes(call: Call) -> Exit:
        """List lanes: samples, what training needs, ready or scaling, and what the next run waits for."""
        from fleetcast.cli.training.lanes import listed as run

        return run(call)

    lane = typer.Typer(help="Show a lane.")
    app.add_typer(lane, name="lane", rich_help_panel=PANEL)

    @command(lane, "show")
    def show(call: Call, name: LaneName) -> Exit:
        """Show a lane's definition and its ledger; `fleetcast why LANE` tells what it waits for, and which nodes."""
        from fleetcast.cli.training.lanes import show as run

        return run(call, name)


def _add_changing(app: typer.Typer) -> None:
    @command(app, "trigger", panel=PANEL)
    def trigger(call: Call, name: LaneName, reason: Reason = None, dry_run: DryRun = False) -> Exit:
        """Start a run of a lane now, whatever its bucket holds; it spends what it is short of as debt."""
        from fleetcast.cli.training.lanes import change as run

        return run(call, "trigger", name, reason=reason, dry_run=dry_run)

    @command(app, "pause", panel=PANEL)
    def pause(call: Call, name: LaneName, reason: Reason = None, dry_run: DryRun = False) -> Exit:
        """Have a lane start no run any more; it goes on counting. `fleetcast resume LANE` ends it."""
        from fleetcast.cli.training.lanes import change as run

        return run(call, "pause", name, reason=reason, dry_run=dry_run)

    @command(app, "withdraw", panel=PANEL)
    def withdraw(
        call: Call,
        name: LaneName,
        version: Annotated[str, typer.Argument(metavar="VERSION", help="The data set; `lane show` lists them.")],
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Have nothing trained on a data set any more; a run that reads it is cancelled."""
        from fleetcast.cli.training.lanes import change as run

        return run(call, "withdraw", name, reason=reason, dry_run=dry_run, version=version)
