"""Commands about the file with gates."""

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.decide import PANEL


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    gates = typer.Typer(help="Show what the gates ask for and how sharply they tell, or check a gates file.")
    app.add_typer(gates, name="gates", rich_help_panel=PANEL)

    @command(gates, "show")
    def show(
        call: Call,
        model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Default: models without a profile.")] = None,
        file: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: as registry.gates says.")] = None,
        games: Annotated[
            int | None, typer.Option(min=1, max=1_000_000, help="Games that the chances are for (default: the least).")
        ] = None,
    ) -> Exit:
        """Print what each stage asks for, and the chance that a weaker, an equal and a stronger version pass."""
        from fleetcast.cli.gates import show as run

        return run(call, model, file=file, games=games)

    @command(gates, "check")
    def check(
        call: Call,
        file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Default: as registry.gates says.")] = None,
    ) -> Exit:
        """Check a gates file; a mistake is shown with file, line and column."""
        from fleetcast.cli.gates import check as run

        return run(call, file)
