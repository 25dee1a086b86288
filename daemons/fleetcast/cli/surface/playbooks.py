"""Commands about playbooks: what remedies, and what it does now."""

from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.act import DryRun, ModelName, Reason, Timeout
from fleetcast.cli.surface.incidents import PANEL

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Its id, or the beginning of it.")]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    _add_looking(app)
    playbook = typer.Typer(help="Run a playbook; show, approve or cancel a run.")
    app.add_typer(playbook, name="playbook", rich_help_panel=PANEL)
    _add_running(playbook)
    _add_deciding(playbook)
    drill = typer.Typer(help="Try how quickly a remedy would act.")
    app.add_typer(drill, name="drill", rich_help_panel=PANEL)
    _add_drill(drill)


def _add_looking(app: typer.Typer) -> None:
    @command(app, "playbooks", panel=PANEL)
    def playbooks(
        call: Call,
        everything: Annotated[bool, typer.Option("--all/--open", help="Also runs that have ended.")] = False,
        actions: Annotated[bool, typer.Option("--actions", help="List what steps may do instead.")] = False,
        limit: Annotated[int, typer.Option(min=1, max=200, help="Runs at most.")] = 20,
    ) -> Exit:
        """List playbooks, and the runs that are under way."""
        from fleetcast.cli.remedy.playbooks import listed as run

        return run(call, everything=everything, actions=actions, limit=limit)


def _add_running(app: typer.Typer) -> None:
    @command(app, "run")
    def run_playbook(
        call: Call,
        name: Annotated[str, typer.Argument(metavar="PLAYBOOK")],
        resource: Annotated[str, typer.Argument(metavar="RESOURCE", help="The model or node that it is to remedy.")],
        version: Annotated[str | None, typer.Option(metavar="VERSION", help="The bad one; default: served.")] = None,
        to: Annotated[str | None, typer.Option(metavar="VERSION", help="Default: the last good version.")] = None,
        param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="For steps; repeatable.")] = None,
        incident: Annotated[str | None, typer.Option(metavar="INCIDENT", help="That it is to remedy.")] = None,
        reason: Reason = None,
        wait: Annotated[bool, typer.Option("--wait", help="Return when it has ended; exit 1 when it failed.")] = False,
        timeout: Timeout = "10m",
        dry_run: DryRun = False,
    ) -> Exit:
        """Run a playbook; the breaker does not stop what a person runs."""
        from fleetcast.cli.remedy.playbooks import Order
        from fleetcast.cli.remedy.playbooks import start as run

        order = Order(name, resource, version=version, to=to, params=tuple(param or ()), incident=incident)
        return run(call, order, reason=reason, wait=wait, timeout=timeout, dry_run=dry_run)

    @command(app, "show")
    def show(call: Call, name: RunName) -> Exit:
        """Show a run: its steps, how long they took, and what came of them."""
        from fleetcast.cli.remedy.playbooks import show as run

        return run(call, name)


def _add_deciding(app: typer.Typer) -> None:
    @command(app, "approve")
    def approve(call: Call, name: RunName, reason: Reason = None) -> Exit:
        """Agree that a run goes on."""
        from fleetcast.cli.remedy.playbooks import decide as run

        return run(call, "approve", name, reason=reason)

    @command(app, "cancel")
    def cancel(call: Call, name: RunName, reason: Reason = None) -> Exit:
        """End a run before its next step."""
        from fleetcast.cli.remedy.playbooks import decide as run

        return run(call, "cancel", name, reason=reason)


def _add_drill(app: typer.Typer) -> None:
    @command(app, "rollback")
    def rollback(
        call: Call,
        model: ModelName,
        errors: Annotated[float, typer.Option(min=0, max=1, help="Error rate of the synthetic bad version.")] = 0.2,
        requests: Annotated[int, typer.Option(min=1, max=1_000_000, help="Its requests per minute.")] = 200,
        timeout: Timeout = "2m",
    ) -> Exit:
        """Judge synthetic snapshots of MODEL and run model_rollback without moving a slot; print the time of each step.

        Snapshots travel on a subject that no monitor reads; the registry is asked what it would do; nodes say whether
        they hold the version. Nobody is told but FC_EVENTS, that there was a drill.
        """
        from fleetcast.cli.remedy.drill import rollback as run

        return run(call, model, errors=errors, requests=requests, timeout=timeout)

    @command(app, "reclaim")
    def reclaim(
        call: Call,
        node: Annotated[str, typer.Argument(metavar="NODE", help="One that runs a trainer.")],
        within: Annotated[str, typer.Option("--in", metavar="DURATION", help="Notice that it gets.")] = "2m",
        reason: Reason = None,
        timeout: Timeout = "5m",
        dry_run: DryRun = False,
    ) -> Exit:
        """Tell NODE that its machine is taken away, and print how long its runs take to go on elsewhere.

        Runs are saved, stopped and moved, as in earnest; NODE takes no run until a minute after the deadline.
        """
        from fleetcast.cli.training.reclaiming import reclaim as run

        return run(call, node, within=within, reason=reason, timeout=timeout, dry_run=dry_run)
