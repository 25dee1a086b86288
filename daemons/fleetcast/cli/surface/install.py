"""Commands that make a machine part of a fleet, by systemd, and undo it."""

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.act import Reason
from fleetcast.cli.surface.start import SET_UP

Role = Annotated[str, typer.Argument(metavar="ROLE", help="node, gpu, control or gateway")]
Root = Annotated[
    Path, typer.Option("--root", metavar="FOLDER", help="Root folder of an image, in place of this machine.")
]
Show = Annotated[bool, typer.Option("--print", "--dry-run", help="Print every file and command, and do nothing.")]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""

    @command(app, "install", panel=SET_UP, connects=False)
    def install(
        call: Call,
        role: Role,
        root: Root = Path("/"),
        use: Annotated[
            str | None,
            typer.Option("--use", metavar="VERSION", help="Folder below /opt/fleetcast to run; else this program's."),
        ] = None,
        start: Annotated[bool, typer.Option("--start/--no-start", help="Start, or start anew, what changed.")] = True,
        show: Show = False,
    ) -> Exit:
        """Make this machine a node, a node that trains (gpu), a control machine or a gateway: user, folders, units.

        Settings that are there are kept, and nothing else is lost: run it again after a change of the settings' folders
        or with another version of fleetcast, which then is the one that runs.
        """
        from fleetcast.cli.install.carry import install as run

        return run(call, role, root=root, use=use, start=start, show=show)

    @command(app, "uninstall", panel=SET_UP, connects=False)
    def uninstall(
        call: Call,
        role: Role,
        root: Root = Path("/"),
        purge: Annotated[
            bool, typer.Option("--purge", help="Delete models, settings, secrets and the user as well; needs --reason.")
        ] = False,
        reason: Reason = None,
        show: Show = False,
    ) -> Exit:
        """Stop and remove the units of a role; models, settings and the user stay."""
        from fleetcast.cli.install.carry import uninstall as run

        return run(call, role, root=root, purge=purge, reason=reason, show=show)
