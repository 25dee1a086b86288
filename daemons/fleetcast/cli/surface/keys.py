"""Commands about publishers' keys."""

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.act import DryRun, Reason
from fleetcast.cli.surface.start import SET_UP

Folder = Annotated[Path, typer.Option("--folder", metavar="FOLDER", help="Where the root key lies.")]
Owner = Annotated[str, typer.Argument(metavar="NAME", help="Who publishes with it: a job, a team, a node.")]
Days = Annotated[int, typer.Option(min=1, max=3650, help="Days for which it may sign.")]
HERE = Path("fleet-keys")


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    keys = typer.Typer(help="Sign manifests: make publishers' keys, replace them, revoke them.")
    app.add_typer(keys, name="keys", rich_help_panel=SET_UP)
    _add_ring(keys)
    _add_keys(keys)
    _add_bundles(keys)


def _add_ring(keys: typer.Typer) -> None:
    """The ring as a whole: made, listed, told."""

    @command(keys, "init", connects=False)
    def init(
        call: Call,
        folder: Folder = HERE,
        edition: Annotated[
            int, typer.Option(min=1, help="Number of the first ring: above the last one, where a root key is replaced.")
        ] = 1,
        dry_run: DryRun = False,
    ) -> Exit:
        """Make a root key, and print the setting by which nodes know it."""
        from fleetcast.cli.keys.commands import init as run

        return run(call, folder, edition=edition, dry_run=dry_run)

    @command(keys, "list")
    def show(
        call: Call,
        folder: Annotated[
            Path | None, typer.Option("--folder", metavar="FOLDER", help="Instead of what the fleet was told.")
        ] = None,
    ) -> Exit:
        """List publishers' keys and whether they count."""
        from fleetcast.cli.keys.commands import show as run

        return run(call, folder)

    @command(keys, "publish")
    def publish(
        call: Call,
        folder: Folder = HERE,
        replace: Annotated[
            bool, typer.Option("--replace", help="Although what the fleet was told is of another root key.")
        ] = False,
    ) -> Exit:
        """Tell the fleet the key ring of a folder, where that failed before."""
        from fleetcast.cli.keys.commands import publish as run

        return run(call, folder, replace=replace)


def _add_keys(keys: typer.Typer) -> None:
    """Publishers' keys in it."""

    @command(keys, "add")
    def add_key(
        call: Call,
        name: Owner,
        folder: Folder = HERE,
        models: Annotated[
            list[str] | None, typer.Option("--models", metavar="PATTERN", help="Models and lanes; repeatable.")
        ] = None,
        days: Days = 365,
        dry_run: DryRun = False,
    ) -> Exit:
        """Make a publisher's key and tell the fleet that it counts."""
        from fleetcast.cli.keys.commands import add as run

        return run(call, folder, name, models=tuple(models or ()), days=days, dry_run=dry_run)

    @command(keys, "rotate")
    def rotate(
        call: Call, name: Owner, folder: Folder = HERE, days: Days = 365, reason: Reason = None, dry_run: DryRun = False
    ) -> Exit:
        """Make a publisher's next key: the one before signs nothing new, and what it signed stays good."""
        from fleetcast.cli.keys.commands import rotate as run

        return run(call, folder, name, days=days, reason=reason, dry_run=dry_run)

    @command(keys, "revoke")
    def revoke(
        call: Call,
        which: Annotated[str, typer.Argument(metavar="NAME|KEY", help="A publisher, or one key by its id.")],
        folder: Folder = HERE,
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Let nothing count any more that a key signed: no node installs it, or turns to it."""
        from fleetcast.cli.keys.commands import revoke as run

        return run(call, folder, which, reason=reason, dry_run=dry_run)


def _add_bundles(keys: typer.Typer) -> None:
    """What others verify without fleetcast."""

    @command(keys, "init-oms", connects=False)
    def init_oms(call: Call, folder: Folder = HERE, dry_run: DryRun = False) -> Exit:
        """Make the key (ECDSA P-256) that bundles of OpenSSF Model Signing are signed with."""
        from fleetcast.cli.keys.bundles import init as run

        return run(call, folder, dry_run=dry_run)

    @command(keys, "export-oms")
    def export_oms(
        call: Call,
        wanted: Annotated[str, typer.Argument(metavar="MODEL@VERSION")],
        to: Annotated[Path, typer.Argument(metavar="FILE", help="The bundle, such as hex8-42.sig; a new file.")],
        folder: Folder = HERE,
        dry_run: DryRun = False,
    ) -> Exit:
        """Sign the files of a version for others, who verify them with `model_signing verify key`."""
        from fleetcast.cli.keys.bundles import export as run

        return run(call, folder, wanted, to, dry_run=dry_run)
