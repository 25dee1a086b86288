"""Commands about incidents, for whoever is on call."""

from typing import Annotated, Literal

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.act import DryRun, Reason

PANEL = "On call"

Grade = Literal["low", "medium", "high", "critical"]
IncidentName = Annotated[str, typer.Argument(metavar="INCIDENT", help="Its id, or the beginning of it.")]
OfModel = Annotated[str | None, typer.Option("--model", metavar="NAME", help="Model, or another resource; * and ?.")]
OfNode = Annotated[str | None, typer.Option("--node", metavar="NODE", help="Node; * and ? as in a shell.")]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    _add_looking(app)
    _add_changing(app)
    _add_silences(app)


def _add_looking(app: typer.Typer) -> None:
    @command(app, "incidents", panel=PANEL)
    def incidents(
        call: Call,
        everything: Annotated[bool, typer.Option("--all/--open", help="Also those that are resolved.")] = False,
        model: OfModel = None,
        node: OfNode = None,
        severity: Annotated[Grade | None, typer.Option(help="Of this severity at least.")] = None,
        since: Annotated[str | None, typer.Option(metavar="DURATION", help="Only what changed within this.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")] = 100,
    ) -> Exit:
        """List open incidents, what matters most first."""
        from fleetcast.cli.remedy.incidents import listed as run

        return run(call, everything=everything, model=model, node=node, severity=severity, since=since, limit=limit)

    @command(app, "incident", panel=PANEL)
    def incident(call: Call, name: IncidentName) -> Exit:
        """Show an incident: numbers, times, what happened and was done, the runbook, and the next command."""
        from fleetcast.cli.remedy.incidents import show as run

        return run(call, name)


def _add_changing(app: typer.Typer) -> None:
    def changing(name: str, text: str) -> None:
        def body(call: Call, incident: IncidentName, reason: Reason = None, dry_run: DryRun = False) -> Exit:
            from fleetcast.cli.remedy.incidents import change as run

            return run(call, name, incident, reason=reason, dry_run=dry_run)

        body.__doc__ = text
        command(app, name, panel=PANEL)(body)

    changing("ack", "Say that you look after an incident.")
    changing("note", "Add a line to an incident: what you found out, or did.")
    changing("resolve", "Say that an incident is over; raised again, it is opened again.")


def _add_silences(app: typer.Typer) -> None:
    @command(app, "silence", panel=PANEL)
    def silence(
        call: Call,
        model: OfModel = None,
        node: OfNode = None,
        trigger: Annotated[str | None, typer.Option(metavar="TRIGGER", help="Such as latency_p95; * and ?.")] = None,
        below: Annotated[Grade | None, typer.Option(help="Only what is milder than this.")] = None,
        keep: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long, such as 2h.")] = "1h",
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Let nobody be told of certain incidents for a while; they are opened and kept all the same."""
        from fleetcast.cli.remedy.incidents import silence as run

        return run(
            call, model=model, node=node, trigger=trigger, below=below, keep=keep, reason=reason, dry_run=dry_run
        )

    @command(app, "silences", panel=PANEL)
    def silences(
        call: Call,
        everything: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    ) -> Exit:
        """List silences and maintenance windows."""
        from fleetcast.cli.remedy.incidents import silences as run

        return run(call, everything=everything)

    @command(app, "unsilence", panel=PANEL)
    def unsilence(call: Call, name: Annotated[str, typer.Argument(metavar="SILENCE")], reason: Reason = None) -> Exit:
        """End a silence before its time."""
        from fleetcast.cli.remedy.incidents import unsilence as run

        return run(call, name, reason=reason)
