"""The tree of commands."""

import sys
from typing import Annotated

import typer

from fleetcast.cli.problems import Exit
from fleetcast.cli.surface import act, see, start

EPILOG = (
    "Exit codes: 0 ok, 1 failed or degraded, 2 usage, 3 not found, 4 gate refused, 5 timeout, 6 no NATS, 130 Ctrl-C. "
    "Data goes to stdout, talk to stderr; --json prints JSON on stdout, also for errors."
)


def build() -> typer.Typer:
    """The command line as typer sees it. Panels are drawn for people only: off a terminal help is plain text."""
    app = typer.Typer(
        name="fleetcast",
        help="Keeps a fleet of nodes on the right model, proven byte for byte.",
        epilog=EPILOG,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for module in (start, act, see):
        module.add(app)
    return app


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed_version

        typer.echo(f"fleetcast {installed_version('fleetcast')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(Exit.USAGE)
