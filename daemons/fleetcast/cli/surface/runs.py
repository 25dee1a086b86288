"""Commands about training runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fleetcast.cli.call import Call, command, group
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.act import DryRun, Reason
from fleetcast.cli.surface.ask import After, Limit

PANEL = "Training"

State = Literal["queued", "running", "succeeded", "failed", "preempted", "cancelled"]
RunName = Annotated[str, typer.Argument(metavar="RUN")]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    runs = typer.Typer(help="List training runs; show one, or two beside each other; let one go to a node again.")

    @group(app, runs, "runs", panel=PANEL)
    def listed(
        call: Call,
        lane: Annotated[str | None, typer.Option(metavar="LANE", help="Only of this lane.")] = None,
        state: Annotated[State | None, typer.Option(help="Only in this state.")] = None,
        watch: Annotated[bool, typer.Option("--watch", "-w", help="Redraw until Ctrl-C.")] = False,
        after: After = None,
        limit: Limit = 50,
    ) -> Exit:
        """List training runs, the one that began last first."""
        from fleetcast.cli.training.runs import run

        return run(call, lane=lane, state=state, watch=watch, after=after, limit=limit)

    @command(runs, "show")
    def show(
        call: Call,
        run_id: RunName,
        epochs: Annotated[int, typer.Option(min=1, max=500, help="Newest epochs at most.")] = 100,
    ) -> Exit:
        """Show everything that was said about a run: epochs, costs, checkpoints, faults, what it made."""
        from fleetcast.cli.training.runs import show as run

        return run(call, run_id, epochs=epochs)

    @command(runs, "compare")
    def compare(call: Call, a: RunName, b: RunName) -> Exit:
        """Show where two runs differ, and every number of both."""
        from fleetcast.cli.training.runs import compare as run

        return run(call, a, b)

    @command(runs, "allow")
    def allow(
        call: Call,
        run_id: RunName,
        node: Annotated[str, typer.Argument(metavar="NODE", help="Node that was repaired.")],
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Let a run go to a node again that it is kept away from after a fault there.

        `fleetcast why RUN` says from which nodes it is kept away, and until when. A node that is kept from all runs is
        given some again by `fleetcast node release`.
        """
        from fleetcast.cli.training.ordering import order
        from fleetcast.daemons.trainer.claims.commands import AllowNode

        again = f"fleetcast runs allow {run_id} {node}"
        return order(call, AllowNode, run_id, reason=reason, again=again, node=node, dry_run=dry_run)

    _add_acts(app)


def _add_acts(app: typer.Typer) -> None:
    @command(app, "cancel", panel=PANEL)
    def cancel(
        call: Call,
        run_id: RunName,
        reason: Reason = None,
        now: Annotated[
            bool, typer.Option("--now", help="Kill its process at once: no SIGTERM and no grace before.")
        ] = False,
        dry_run: DryRun = False,
    ) -> Exit:
        """End a training run, wherever it is; its checkpoints and logs stay, and what it spent stays spent.

        Its process gets SIGTERM and the lane's grace. From now on nothing that the run says is accepted, not even from
        a node that is away. `fleetcast trigger LANE` begins another run.
        """
        from fleetcast.cli.training.ordering import order
        from fleetcast.daemons.trainer.claims.commands import CancelRun

        again = f"fleetcast cancel {run_id}"
        return order(call, CancelRun, run_id, reason=reason, again=again, now=now, dry_run=dry_run)

    @command(app, "sync", panel=PANEL)
    def sync(
        call: Call,
        spool: Annotated[
            list[Path] | None,
            typer.Option("--spool", metavar="DIR", help="This spool; repeatable. Default: those of this user."),
        ] = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Send what jobs left in spools that no distributor forwards; exit 1 when something of it was lost."""
        from fleetcast.cli.training.sync import run

        return run(call, tuple(spool or ()), dry_run=dry_run)
