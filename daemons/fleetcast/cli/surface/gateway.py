"""Commands about the gateway: who may ask it."""

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit

PANEL = "Set up"

TokenName = Annotated[str, typer.Argument(metavar="NAME", help="Whom it is for: a person, a program.")]
TokenFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Default: gateway.tokens of the settings.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept with the token.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    gateway = typer.Typer(help="Say who may ask the gateway.")
    app.add_typer(gateway, name="gateway", rich_help_panel=PANEL)
    token = typer.Typer(help="Make, list and revoke tokens of the gateway.")
    gateway.add_typer(token, name="token")

    @command(token, "add")
    def token_add(
        call: Call,
        name: TokenName,
        role: Annotated[
            str, typer.Option(metavar="ROLE", help="viewer reads, operator also remedies, promoter also promotes.")
        ] = "viewer",
        file: TokenFile = None,
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Make a token and print it, this once: only its hash is kept."""
        from fleetcast.cli.gateway import add as run

        return run(call, name, role=role, file=file, reason=reason, dry_run=dry_run)

    @command(token, "list")
    def token_list(call: Call, file: TokenFile = None) -> Exit:
        """List tokens: whose they are, what they may do, since when."""
        from fleetcast.cli.gateway import listed as run

        return run(call, file=file)

    @command(token, "revoke")
    def token_revoke(
        call: Call, name: TokenName, file: TokenFile = None, reason: Reason = None, dry_run: DryRun = False
    ) -> Exit:
        """Take a token back; a gateway that runs refuses it a second later."""
        from fleetcast.cli.gateway import revoke as run

        return run(call, name, file=file, reason=reason, dry_run=dry_run)
