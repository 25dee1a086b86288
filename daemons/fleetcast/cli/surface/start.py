"""Commands that start something on this machine, and those that set it up."""

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit

RUN = "Run"
SET_UP = "Set up"

_Publish = Annotated[
    list[Path] | None, typer.Option(metavar="FOLDER", help="Further folder to publish from; repeatable.")
]
_Gates = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Gates that judge promotions, such as config/gates.toml; else you do."),
]
_Policy = Annotated[
    Path | None, typer.Option(metavar="FILE", help="What performance is judged by, such as config/monitor.toml.")
]
_Lanes = Annotated[Path | None, typer.Option(metavar="FILE", help="What starts training, such as config/lanes.toml.")]
_GatewayPort = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port of the gateway on loopback, 8000 if it is free; 0: a free one."),
]


def add_running(app: typer.Typer) -> None:
    """Register the commands that start something."""
    _add_demo(app)
    _add_up(app)
    _add_parts(app)


def _add_demo(app: typer.Typer) -> None:
    @command(app, "demo", panel=RUN, connects=False)
    def demo(
        call: Call,
        keep: Annotated[bool, typer.Option("--keep", help="Keep the folder, to look around in it.")] = False,
        full: Annotated[
            bool,
            typer.Option("--full", help="Then train: new data, one run, its node dies, it goes on; two minutes more."),
        ] = False,
    ) -> Exit:
        """Show the whole story in a minute on this machine, on real parts, and leave nothing behind."""
        from fleetcast.cli.demo.story import run

        return run(call, keep=keep, full=full)


def _add_up(app: typer.Typer) -> None:
    @command(app, "up", panel=RUN, connects=False)
    def up(
        call: Call,
        nodes: Annotated[int, typer.Option(min=1, max=50, help="How many nodes.")] = 3,
        folder: Annotated[Path, typer.Option(help="Where everything of it is kept.")] = Path(".fleetcast-up"),
        publish: _Publish = None,
        port: Annotated[int, typer.Option(min=0, max=65535, help="Port of NATS; 0: a free one.")] = 0,
        slow: Annotated[
            float, typer.Option(min=0, metavar="MB/S", help="What each node receives at most, to watch it; 0: no cap.")
        ] = 0,
        gates: _Gates = None,
        policy: _Policy = None,
        trainers: Annotated[
            int, typer.Option(min=0, max=50, help="How many of the nodes train, each with a simulated GPU.")
        ] = 0,
        lanes: _Lanes = None,
        gateway_port: _GatewayPort = None,
        gateway: Annotated[bool, typer.Option("--gateway/--no-gateway", help="Answer programs over HTTP.")] = True,
    ) -> Exit:
        """Run NATS, several nodes and the daemons that serve them all on this machine until Ctrl-C.

        While it runs, other commands of the same user find it by themselves when nothing else says which fleet is
        meant: no settings file (--config, FLEETCAST_CONFIG, fleetcast.toml here or in /etc/fleetcast), and no other
        server (--server, --context, NATS_URL, a selected context of the NATS CLI). They then speak for node-1.
        """
        from fleetcast.cli.local.up import run

        return run(
            call,
            nodes=nodes,
            folder=folder,
            publish=tuple(publish or ()),
            port=port,
            slow=slow,
            gates=gates,
            policy=policy,
            trainers=trainers,
            lanes=lanes,
            gateway_port=gateway_port,
            gateway=gateway,
        )


def _add_parts(app: typer.Typer) -> None:
    """One daemon alone, and what is measured in a checkout."""

    @command(app, "run", panel=RUN)
    def run_daemon(
        call: Call,
        daemon: Annotated[
            str,
            typer.Argument(metavar="DAEMON", help="distributor, registry, monitor, remedy, notifier, …"),
        ],
    ) -> int:
        """Run one daemon in the foreground, as the systemd units do."""
        from fleetcast.cli.daemon import run

        return run(call, daemon)

    @command(app, "bench", panel=RUN, connects=False, passes_options=True)
    def bench(
        call: Call,
        name: Annotated[str | None, typer.Argument(metavar="NAME", help="Without: list them.")] = None,
        options: Annotated[list[str] | None, typer.Argument(metavar="OPTION…", help="Passed on to it.")] = None,
    ) -> Exit:
        """Measure on this machine; only in a checkout."""
        from fleetcast.cli.bench import run

        return run(call, name, tuple(options or ()))


def add_setting_up(app: typer.Typer) -> None:
    """Register the commands that set this machine up."""
    _add_configuration(app)

    @command(app, "doctor", panel=SET_UP)
    def doctor(call: Call) -> Exit:
        """Check everything that fleetcast needs here, and say how to get what is missing."""
        from fleetcast.cli.doctor import run

        return run(call)

    @command(app, "init", panel=SET_UP, connects=False)
    def init(
        call: Call,
        file: Annotated[Path, typer.Argument(metavar="FILE")] = Path("fleetcast.toml"),
        force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
        dry_run: Annotated[bool, typer.Option("--print", "--dry-run", help="Print it instead of writing it.")] = False,
    ) -> Exit:
        """Write a commented fleetcast.toml with every setting and its default."""
        from fleetcast.cli.configuration import init as run

        return run(call, file, force=force, dry_run=dry_run)

    @command(app, "fmt", panel=SET_UP, connects=False)
    def fmt(call: Call) -> Exit:
        """Read an event on stdin, print one line: nats sub 'fc.ev.>' --translate 'fleetcast fmt'."""
        from fleetcast.cli.fmt import run

        return run(call)


def _add_configuration(app: typer.Typer) -> None:
    config = typer.Typer(help="Show the settings and where each comes from, or check a file.")
    app.add_typer(config, name="config", rich_help_panel=SET_UP)

    @command(config, "show")
    def show_config(
        call: Call,
        origin: Annotated[bool, typer.Option("--origin", help="Also say where each value comes from.")] = False,
    ) -> Exit:
        """Print every setting that is in force."""
        from fleetcast.cli.configuration import show

        return show(call, origin=origin)

    @command(config, "check")
    def check_config(
        call: Call,
        file: Annotated[
            Path | None, typer.Argument(metavar="FILE", help="Default: the file that would be used.")
        ] = None,
    ) -> Exit:
        """Check a settings file; a mistake is shown with file, line and column."""
        from fleetcast.cli.configuration import check

        return check(call, file)
