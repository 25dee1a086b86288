"""Commands for monitoring systems."""

from enum import StrEnum
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit

PANEL = "On call"


class Form(StrEnum):
    """Forms of an answer."""

    TEXT = "text"
    NAGIOS = "nagios"
    PROMETHEUS = "prometheus"
    JSON = "json"


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""

    @command(app, "check", panel=PANEL)
    def check(
        call: Call,
        form: Annotated[Form, typer.Option("--format", help="Who reads it.")] = Form.TEXT,
        node: Annotated[str | None, typer.Option(metavar="NODE", help="Only what concerns this node.")] = None,
    ) -> int:
        """Check the fleet for a monitoring system; exit 0 ok, 1 warning, 2 critical, 3 unknown."""
        from fleetcast.cli.check.run import run

        return run(call, form=form.value, node=node)

    @command(app, "metrics", panel=PANEL)
    def metrics(
        call: Call,
        file_sd: Annotated[
            bool, typer.Option("--file-sd", help="As a file that Prometheus reads its targets from.")
        ] = False,
    ) -> Exit:
        """Show where every daemon serves its metrics for Prometheus."""
        from fleetcast.cli.scraping import run

        return run(call, file_sd=file_sd)
