"""The tree of commands."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fleetcast.cli.problems import Exit
from fleetcast.cli.surface import (
    act,
    archive,
    ask,
    backup,
    checkpoints,
    decide,
    gates,
    gateway,
    incidents,
    install,
    keys,
    lanes,
    monitor,
    nodes,
    notify,
    playbooks,
    runs,
    security,
    see,
    start,
    watching,
)

EPILOG = (
    "Exit codes: 0 ok, 1 failed or degraded, 2 usage, 3 not found, 4 gate refused, 5 timeout, 6 no NATS, 130 Ctrl-C. "
    "Data goes to stdout, talk to stderr; --json prints JSON on stdout, also for errors."
)


class Panels(TyperGroup):
    """Lists commands under headings, as plain text: drawing frames with rich costs more than all the rest of `--help`
    (90 ms of processor time without, 180 ms with)."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per panel, in the order of registration."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            found = self.get_command(ctx, name)
            if found is not None and not found.hidden:
                panel = getattr(found, "rich_help_panel", None) or "Commands"
                panels.setdefault(panel, []).append((name, found.get_short_help_str(limit=200)))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)


def build() -> typer.Typer:
    """The command line as typer sees it."""
    app = typer.Typer(
        name="fleetcast",
        cls=Panels,
        help="Keeps a fleet of nodes on the right model, proven byte for byte.",
        epilog=EPILOG,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    start.add_running(app)
    see.add(app)
    act.add(app)
    decide.add(app)
    nodes.add(app)
    archive.add(app)
    ask.add(app)
    gates.add(app)
    monitor.add(app)
    incidents.add(app)
    playbooks.add(app)
    notify.add(app)
    watching.add(app)
    runs.add(app)
    checkpoints.add(app)
    lanes.add(app)
    start.add_setting_up(app)
    gateway.add(app)
    security.add(app)
    keys.add(app)
    install.add(app)
    backup.add(app)
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
