"""Commands about the keys of a fleet."""

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.act import DryRun, Reason

PANEL = "Set up"

Dir = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The folder that `fleet init` made.")]
UsedBy = Annotated[str, typer.Option("--used-by", metavar="TEXT", help="Who or what has the key, for the list.")]
KeyName = Annotated[str, typer.Argument(metavar="NAME")]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    fleet = typer.Typer(help="Keys, certificates and roles of a fleet, and the NATS servers that know them.")
    app.add_typer(fleet, name="fleet", rich_help_panel=PANEL)
    _add_making(fleet)
    _add_keys(fleet)
    _add_changing(fleet)

    @command(fleet, "credentials", connects=False)
    def credentials(call: Call, folder: Dir = Path()) -> Exit:
        """List every secret with owner, role, age, due date and users; exit 1 when one is overdue or damaged."""
        from fleetcast.cli.security.listing import credentials as run

        return run(call, folder)


def _add_making(fleet: typer.Typer) -> None:
    @command(fleet, "init", connects=False)
    def init(
        call: Call,
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, for the operator alone.")],
        servers: Annotated[int | None, typer.Option(min=1, max=3, help="NATS servers: 1 or 3.")] = None,
        host: Annotated[
            list[str] | None,
            typer.Option(metavar="HOST[:PORT]", help="Where a server is reached; once per server. Default: loopback."),
        ] = None,
        place: Annotated[
            str, typer.Option(metavar="DIR", help="Where a server has its files, such as /etc/nats; else below DIR.")
        ] = "",
        store: Annotated[
            str,
            typer.Option(metavar="DIR", help="Where a server keeps streams, such as /var/lib/nats; else below DIR."),
        ] = "",
        tls: Annotated[
            str,
            typer.Option(
                metavar="FILE",
                help="Where a server reads its tls.pem when it is not beside the rest, such as "
                "/run/credentials/nats-server.service/nats_tls.pem.",
            ),
        ] = "",
        name: Annotated[str, typer.Option(metavar="NAME", help="Of the fleet, in its certificates.")] = "fleetcast",
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Make a certificate authority, keys for every role, and the configuration of one or three NATS servers."""
        from fleetcast.cli.security.folders import init as run

        return run(
            call,
            folder,
            name=name,
            servers=servers,
            hosts=tuple(host or ()),
            place=place,
            store=store,
            tls=tls,
            reason=reason,
            dry_run=dry_run,
        )

    @command(fleet, "setup")
    def setup(call: Call, reason: Reason = None, dry_run: DryRun = False) -> Exit:
        """Declare the streams; only the deploy role may."""
        from fleetcast.cli.security.folders import setup as run

        return run(call, reason=reason, dry_run=dry_run)


def _add_keys(fleet: typer.Typer) -> None:
    @command(fleet, "add-node", connects=False)
    def add_node(
        call: Call,
        node: KeyName,
        trainer: Annotated[bool, typer.Option("--trainer", help="It trains as well.")] = False,
        signs_as: Annotated[
            str | None,
            typer.Option(
                "--signs-as", metavar="PUBLISHER", help="Give it this publisher's key: what it publishes is signed so."
            ),
        ] = None,
        used_by: UsedBy = "",
        folder: Dir = Path(),
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Make the key of a node."""
        from fleetcast.cli.security.folders import add as run

        role = "trainer" if trainer else "node"
        used = used_by or f"node {node}"
        return run(call, folder, node, role, used_by=used, reason=reason, dry_run=dry_run, publisher=signs_as)

    @command(fleet, "add", connects=False)
    def add_key(
        call: Call,
        name: KeyName,
        role: Annotated[str, typer.Option("--role", metavar="ROLE", help="Such as operator, on-call or publisher.")],
        used_by: UsedBy = "",
        folder: Dir = Path(),
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Make a key of a role, for a person or a program."""
        from fleetcast.cli.security.folders import add as run

        return run(call, folder, name, role, used_by=used_by, reason=reason, dry_run=dry_run)


def _add_changing(fleet: typer.Typer) -> None:
    @command(fleet, "rotate", connects=False)
    def rotate(
        call: Call,
        what: Annotated[str, typer.Argument(metavar="NAME|ROLE|SERVER")],
        keep_old: Annotated[
            bool, typer.Option("--keep-old", help="Let the old key in too, until `fleet revoke NAME --old`.")
        ] = False,
        folder: Dir = Path(),
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Make new keys and certificates, try them, and only then let the old ones in no more."""
        from fleetcast.cli.security.folders import rotate as run

        return run(call, folder, what, keep_old=keep_old, reason=reason, dry_run=dry_run)

    @command(fleet, "revoke", connects=False)
    def revoke(
        call: Call,
        name: KeyName,
        old: Annotated[bool, typer.Option("--old", help="Only the key before the last rotation.")] = False,
        folder: Dir = Path(),
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Let a key in no more; whoever is connected with it is cut off."""
        from fleetcast.cli.security.folders import revoke as run

        return run(call, folder, name, old=old, reason=reason, dry_run=dry_run)
