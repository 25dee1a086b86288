"""Commands that ask the fleet to do something."""

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit

PANEL = "Act"

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept with the event.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when it is done everywhere, or was refused.")]
Timeout = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait, such as 30s or 10m.")]
Node = Annotated[str | None, typer.Option(metavar="NODE", help="Node that has the file (default: this one).")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The file, inside a publish root of its node.")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL")]
VersionName = Annotated[str, typer.Argument(metavar="VERSION")]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    _add_submissions(app)
    _add_emit_and_verify(app)
    _add_dead_letters(app)


def _add_submissions(app: typer.Typer) -> None:
    @command(app, "promote", panel=PANEL)
    def promote(
        call: Call,
        model: ModelName,
        version: VersionName,
        file: File,
        node: Node = None,
        reason: Reason = None,
        wait: Wait = False,
        timeout: Timeout = "10m",
        dry_run: DryRun = False,
    ) -> Exit:
        """Say that FILE is the new production version of MODEL: every node fetches, proves and serves it."""
        from fleetcast.cli.submit import promote as run

        return run(call, model, version, file, node=node, reason=reason, wait=wait, timeout=timeout, dry_run=dry_run)

    @command(app, "register", panel=PANEL)
    def register(
        call: Call,
        model: ModelName,
        version: VersionName,
        file: File,
        node: Node = None,
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Say that FILE is a version of MODEL without asking to serve it: it is distributed, nothing is switched."""
        from fleetcast.cli.submit import register as run

        return run(call, model, version, file, node=node, reason=reason, dry_run=dry_run)


def _add_emit_and_verify(app: typer.Typer) -> None:
    @command(app, "emit", panel=PANEL)
    def emit(
        call: Call,
        kind: Annotated[str, typer.Argument(metavar="TYPE", help="Event type in any spelling: MODEL_PROMOTED, …")],
        fields: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE…", help="Fields; a.b=1 nests.")] = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Publish any event of the catalogue; with NATS down it waits in this node's spool."""
        from fleetcast.cli.emit import run

        return run(call, kind, tuple(fields or ()), dry_run=dry_run)

    @command(app, "verify", panel=PANEL)
    def verify(
        call: Call,
        target: Annotated[str | None, typer.Argument(metavar="MODEL[@VERSION]", help="Default: everything.")] = None,
        everything: Annotated[bool, typer.Option("--all", help="Every model and data set (the default).")] = False,
        node: Annotated[list[str] | None, typer.Option(metavar="NODE", help="Only this node; repeatable.")] = None,
        wait: Annotated[bool, typer.Option("--wait", help="Return when what is damaged has been repaired.")] = False,
        timeout: Timeout = "10m",
    ) -> Exit:
        """Have the nodes read and hash what is installed; exit 1 naming node and file when something differs."""
        from fleetcast.cli.verify import run

        return run(call, target, everything=everything, nodes=tuple(node or ()), wait=wait, timeout=timeout)


def _add_dead_letters(app: typer.Typer) -> None:
    dlq = typer.Typer(help="Look at events that could not be handled, send them again, or drop them.")
    app.add_typer(dlq, name="dlq", rich_help_panel=PANEL)

    @command(dlq, "ls")
    def list_letters(call: Call) -> Exit:
        """List dead letters with their reasons, oldest first."""
        from fleetcast.cli.dead_letters import list_all

        return list_all(call)

    @command(dlq, "show")
    def show_letter(call: Call, number: Annotated[int, typer.Argument(metavar="NUMBER", min=1)]) -> Exit:
        """Show one dead letter with its body."""
        from fleetcast.cli.dead_letters import show

        return show(call, number)

    @command(dlq, "retry")
    def retry_letter(
        call: Call,
        numbers: Annotated[list[int] | None, typer.Argument(metavar="NUMBER…")] = None,
        everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Publish dead letters again under their own ids, and take them off the list."""
        from fleetcast.cli.dead_letters import retry

        return retry(call, tuple(numbers or ()), everything=everything, reason=reason, dry_run=dry_run)

    @command(dlq, "drop")
    def drop_letter(
        call: Call,
        numbers: Annotated[list[int] | None, typer.Argument(metavar="NUMBER…")] = None,
        everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
        reason: Reason = None,
        dry_run: DryRun = False,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    ) -> Exit:
        """Delete dead letters for good."""
        from fleetcast.cli.dead_letters import drop

        return drop(call, tuple(numbers or ()), everything=everything, reason=reason, dry_run=dry_run, yes=yes)
