"""Commands that look and change nothing."""

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit, usage

PANEL = "See"

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Keep going: show new ones as they come.")]
Timeout = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait, such as 30s or 10m.")]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    _add_pictures(app)
    _add_transfers(app)
    _add_history(app)
    _add_logs(app)


def _add_pictures(app: typer.Typer) -> None:
    @command(app, "status", panel=PANEL)
    def status(
        call: Call,
        watch: Annotated[bool, typer.Option("--watch", "-w", help="Redraw on every heartbeat until Ctrl-C.")] = False,
    ) -> Exit:
        """Show nodes, models, transfers and dead letters; exit 1 and say why when something is degraded."""
        from fleetcast.cli.status import run

        return run(call, watch=watch)

    @command(app, "top", panel=PANEL)
    def top(call: Call) -> Exit:
        """Show what status shows, redrawn on every heartbeat until Ctrl-C; with --json a document per change."""
        from fleetcast.cli.status import run

        return run(call, watch=True)


def _add_transfers(app: typer.Typer) -> None:
    @command(app, "transfers", panel=PANEL)
    def transfers(
        call: Call,
        what: Annotated[
            str | None,
            typer.Argument(metavar="ID|MODEL[@VERSION]", help="Explain this one: who feeds whom, and who is slow."),
        ] = None,
        watch: Annotated[bool, typer.Option("--watch", "-w", help="Redraw on every report until Ctrl-C.")] = False,
        everything: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
        since: Annotated[
            str, typer.Option(metavar="DURATION", help="How far back ended transfers are looked for, with ID or MODEL.")
        ] = "6h",
        limit: Annotated[int, typer.Option(min=0, help="Rows at most, failed and slow ones first; 0: all.")] = 40,
    ) -> Exit:
        """Show who fetches what: percent, rate, time left, rung, sources, and who is slow and why."""
        if what is not None:
            from fleetcast.cli.explaining import run as explain

            return explain(call, what, watch=watch, since=since, limit=limit)
        from fleetcast.cli.transfers import run

        return run(call, watch=watch, everything=everything, limit=limit)

    @command(app, "wait", panel=PANEL)
    def wait(
        call: Call,
        target: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]", help="Without version: what is ordered now.")],
        timeout: Timeout = "10m",
    ) -> Exit:
        """Wait until every node that wants the model serves it at the ordered generation; exit 5 when time is up."""
        from fleetcast.cli.waiting import run

        return run(call, target, timeout=timeout)


def _add_history(app: typer.Typer) -> None:
    @command(app, "events", panel=PANEL)
    def events(
        call: Call,
        follow: Follow = False,
        since: Annotated[str, typer.Option(metavar="DURATION", help="How far back, such as 10m, 1h or 7d.")] = "1h",
        kind: Annotated[
            list[str] | None,
            typer.Option("--type", metavar="TYPE", help="Only this type, in any spelling; repeatable."),
        ] = None,
        model: Annotated[str | None, typer.Option(help="Only events about this model or lane.")] = None,
    ) -> Exit:
        """Show the event log, one line per event; with --json CloudEvents, one JSON object per line."""
        from fleetcast.cli.events import run

        return run(call, follow=follow, since=since, kinds=tuple(kind or ()), model=model)

    @command(app, "why", panel=PANEL)
    def why(
        call: Call,
        what: Annotated[str, typer.Argument(metavar="MODEL|NODE|LANE|RUN|INCIDENT|EVENT", help="A name, or an id.")],
    ) -> Exit:
        """Explain from the log what happened, who did it, when, and which numbers decided it."""
        from fleetcast.cli.why import run

        return run(call, what)


def _add_logs(app: typer.Typer) -> None:
    @command(app, "logs", panel=PANEL)
    def logs(
        call: Call,
        training_run: Annotated[
            str | None,
            typer.Argument(metavar="RUN", help="What this run prints, on the node that has it; none: the whole `up`."),
        ] = None,
        follow: Follow = False,
        daemon: Annotated[str | None, typer.Option(help="Only this daemon, such as distributor or nats.")] = None,
        node: Annotated[str | None, typer.Option(help="Only this node.")] = None,
        cid: Annotated[str | None, typer.Option(metavar="ID", help="Only lines with this correlation id.")] = None,
        lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the newest lines.")] = 200,
        folder: Annotated[Path | None, typer.Option(help="Folder of an `up` (default: the one that runs).")] = None,
        all_nodes: Annotated[
            bool, typer.Option("--all-nodes", "-a", help="Of every daemon of the fleet, over NATS: their newest lines.")
        ] = False,
    ) -> Exit:
        """Show the logs of a run, of all nodes, or of `fleetcast up`; all of one machine's: journalctl."""
        if all_nodes:
            if training_run is not None or folder:
                raise usage("--all-nodes is about daemons, not about a run or a folder")
            from fleetcast.cli.logs_of_all import run as of_all

            return of_all(call, follow=follow, daemon=daemon, node=node, cid=cid, lines=lines)
        if training_run is not None:
            if daemon or cid or folder:
                raise usage("--daemon, --cid and --folder are for the logs of `fleetcast up`, not of a run")
            from fleetcast.cli.training.logs import run as show

            return show(call, training_run, follow=follow, node=node, lines=lines)
        from fleetcast.cli.logs import run

        return run(call, follow=follow, daemon=daemon, node=node, cid=cid, lines=lines, folder=folder)
