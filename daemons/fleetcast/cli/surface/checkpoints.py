"""Commands about checkpoints."""

from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit, usage
from fleetcast.cli.surface.act import DryRun, Reason

PANEL = "Training"


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""

    @command(app, "checkpoints", panel=PANEL)
    def checkpoints(
        call: Call,
        run_id: Annotated[str, typer.Argument(metavar="RUN")],
        pin: Annotated[
            str | None,
            typer.Option("--pin", metavar="CHECKPOINT", help="Keep this one: a path, the end of one, a step, newest."),
        ] = None,
        unpin: Annotated[
            str | None, typer.Option("--unpin", metavar="CHECKPOINT", help="Leave this one to the lane's policy again.")
        ] = None,
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """List what a run can go on from, where it lies and why it is kept; or pin one."""
        from fleetcast.cli.training import checkpoints as run

        if pin and unpin:
            raise usage("--pin and --unpin exclude each other", next_step="one after the other")
        if pin or unpin:
            return run.pin(call, run_id, pin or unpin or "", keep=pin is not None, reason=reason, dry_run=dry_run)
        return run.listed(call, run_id)
