"""Commands about backups of the streams."""

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.act import DryRun, Reason
from fleetcast.cli.surface.start import SET_UP

Folder = Annotated[
    Path | None, typer.Option("--folder", metavar="FOLDER", help="Where backups lie (default: backup.folder).")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")]
Identity = Annotated[
    Path, typer.Option("--identity", metavar="FILE", help="Private key that opens it, from where it is kept.")
]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    backup = typer.Typer(help="Back up the streams, sealed to a public key; restore them; rehearse that.")
    app.add_typer(backup, name="backup", rich_help_panel=SET_UP)
    _add_making(backup)
    _add_restoring(backup)
    _add_drills(backup)


def _add_making(backup: typer.Typer) -> None:
    @command(backup, "keys", connects=False)
    def keys(
        call: Call,
        file: Annotated[Path, typer.Argument(metavar="FILE", help="For the private key; made, never replaced.")],
    ) -> Exit:
        """Make a pair of keys: backups are sealed to the public one, and only the private one opens them."""
        from fleetcast.cli.backup.commands import keys as run

        return run(call, file)

    @command(backup, "create")
    def create(
        call: Call,
        folder: Folder = None,
        to: Annotated[
            list[str] | None,
            typer.Option("--to", metavar="KEY", help="Public key (default: backup.recipients); repeatable."),
        ] = None,
    ) -> Exit:
        """Write all streams to a new file, while the fleet goes on; then remove the files that are too old."""
        from fleetcast.cli.backup.commands import create as run

        return run(call, folder=folder, to=tuple(to or ()))

    @command(backup, "list")
    def show(call: Call, folder: Folder = None) -> Exit:
        """List backups with what is in them, the newest first; no key is needed."""
        from fleetcast.cli.backup.commands import show as run

        return run(call, folder=folder)

    @command(backup, "verify", connects=False)
    def verify(
        call: Call,
        file: File,
        identity: Annotated[
            Path | None, typer.Option("--identity", metavar="FILE", help="Private key: opens and compares everything.")
        ] = None,
    ) -> Exit:
        """Say whether a backup is whole, by its digest; with its private key, by everything in it."""
        from fleetcast.cli.backup.commands import verify as run

        return run(call, file, identity=identity)


def _add_restoring(backup: typer.Typer) -> None:
    @command(backup, "restore")
    def restore(
        call: Call,
        file: File,
        identity: Identity,
        reason: Reason = None,
        replicas: Annotated[
            int | None, typer.Option(min=1, max=5, help="Copies of each stream (default: bus.replicas).")
        ] = None,
        resume: Annotated[
            bool, typer.Option("--resume", help="Go on with a restore of this backup that was interrupted.")
        ] = False,
        dry_run: DryRun = False,
    ) -> Exit:
        """Bring a backup into a NATS without streams: checked before, verified after; nothing is ever overwritten."""
        from fleetcast.cli.backup.commands import restore as run

        return run(call, file, identity=identity, reason=reason, replicas=replicas, resume=resume, dry_run=dry_run)


def _add_drills(backup: typer.Typer) -> None:
    @command(backup, "drill")
    def drill(
        call: Call,
        identity: Identity,
        file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A backup (default: the newest).")] = None,
        servers: Annotated[int, typer.Option(help="NATS servers to start for it: 1 or 3.")] = 1,
        reports: Annotated[
            Path | None, typer.Option("--reports", metavar="FOLDER", help="For the report (default: beside backups).")
        ] = None,
        folder: Annotated[
            Path | None, typer.Option("--place", metavar="FOLDER", help="With room for the restored streams.")
        ] = None,
        notes: Annotated[
            str | None, typer.Option(metavar="TEXT", help="Goes into the report; needed beyond 30 minutes.")
        ] = None,
    ) -> Exit:
        """Rehearse a restore in servers started for it, beside the fleet; time it and write a report."""
        from fleetcast.cli.backup.commands import drill as run

        return run(call, file, identity=identity, servers=servers, reports=reports, folder=folder, notes=notes)

    @command(backup, "notes", connects=False)
    def notes(
        call: Call,
        file: Annotated[Path, typer.Argument(metavar="REPORT", help="JSON file of a drill's report.")],
        text: Annotated[str, typer.Argument(metavar="TEXT", help="Why it took so long, and what is done about it.")],
    ) -> Exit:
        """Complete the report of a drill that took more than 30 minutes."""
        from fleetcast.cli.backup.commands import add_notes as run

        return run(call, file, text)
