"""Commands that ask the fleet to do something."""

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit

PANEL = "Act"

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept with the event.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when it is done everywhere, or was refused.")]
Timeout = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait, such as 30s or 10m.")]
Node = Annotated[str | None, typer.Option(metavar="NODE", help="Node that has the file (default: this one).")]
File = Annotated[
    Path, typer.Argument(metavar="FILE", help="The file, or the folder of a bundle, inside a publish root of its node.")
]
MaybeFile = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", help="The file, or the folder of a bundle; without it a registered version."),
]
ModelName = Annotated[str, typer.Argument(metavar="MODEL")]
VersionName = Annotated[str, typer.Argument(metavar="VERSION")]
_PromotedTo = Annotated[
    str | None, typer.Option(metavar="STAGE", help="sandbox, staging, canary or production (default).")
]
_Percent = Annotated[int | None, typer.Option(min=1, max=100, help="Of the nodes, for --stage canary; without FILE.")]
_Generation = Annotated[int | None, typer.Option(min=0, help="Only if the slot is at this generation; without FILE.")]
_Replace = Annotated[
    bool, typer.Option("--replace", help="Take the place of a rollout that is under way; without FILE.")
]
_Now = Annotated[
    bool, typer.Option("--now", help="No quorum and no canary steps; gates hold all the same; without FILE.")
]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    _add_promote(app)
    _add_register(app)
    _add_distribution(app)
    _add_removal(app)
    _add_emit_and_verify(app)
    _add_dead_letters(app)


def _add_promote(app: typer.Typer) -> None:
    @command(app, "promote", panel=PANEL)
    def promote(
        call: Call,
        model: ModelName,
        version: VersionName,
        file: MaybeFile = None,
        stage: _PromotedTo = None,
        percent: _Percent = None,
        generation: _Generation = None,
        replace: _Replace = False,
        now: _Now = False,
        node: Node = None,
        reason: Reason = None,
        wait: Wait = False,
        timeout: Timeout = "10m",
        dry_run: DryRun = False,
    ) -> Exit:
        """Say that FILE is the new production version of MODEL: every node fetches, proves and serves it.

        Without FILE: a registered version comes to a stage; gates decide, where there are any. --dry-run prints them.
        """
        if file is None:
            from fleetcast.cli.registry.promoting import Manner
            from fleetcast.cli.registry.promoting import promote as ask

            manner = Manner(reason=reason, wait=wait, timeout=timeout, dry_run=dry_run)
            return ask(
                call,
                model,
                version,
                manner,
                stage=stage,
                percent=percent,
                generation=generation,
                replace=replace,
                now=now,
            )
        from fleetcast.cli.submit import promote as run

        return run(
            call,
            model,
            version,
            file,
            stage=stage,
            node=node,
            reason=reason,
            wait=wait,
            timeout=timeout,
            dry_run=dry_run,
        )


def _add_register(app: typer.Typer) -> None:
    @command(app, "register", panel=PANEL)
    def register(
        call: Call,
        model: Annotated[str, typer.Argument(metavar="MODEL", help="Or `export`, or `import`.")],
        version: Annotated[
            str | None, typer.Argument(metavar="VERSION", help="Or the FILE to export or import.")
        ] = None,
        file: MaybeFile = None,
        node: Node = None,
        reason: Reason = None,
        wait: Annotated[bool, typer.Option("--wait", help="Return when it is registered, or was refused.")] = False,
        timeout: Timeout = "10m",
        dry_run: DryRun = False,
    ) -> Exit:
        """Say that FILE is a version of MODEL without asking to serve it: it is distributed, nothing is switched.

        `register export [FILE]` writes what is known of all versions as YAML or JSON, `register import FILE` reads it.
        """
        from fleetcast.cli.registry.registering import run

        return run(call, model, version, file, node=node, reason=reason, wait=wait, timeout=timeout, dry_run=dry_run)


def _add_distribution(app: typer.Typer) -> None:
    @command(app, "distribute", panel=PANEL)
    def distribute(
        call: Call,
        file: File,
        to: Annotated[
            list[str],
            typer.Option("--to", metavar="PATTERN", help="Nodes: 'gpu-*', or labels: 'gpu=nvidia'; repeatable."),
        ],
        named: Annotated[
            tuple[str, str] | None,
            typer.Option("--as", metavar="MODEL VERSION", help="What it is (default: the file's name, its artifact)."),
        ] = None,
        lane: Annotated[str | None, typer.Option(metavar="LANE", help="It is a data set of this lane.")] = None,
        keep: Annotated[
            str, typer.Option("--for", metavar="DURATION", help="How long the nodes keep it; `ever` is for good.")
        ] = "30d",
        node: Node = None,
        reason: Reason = None,
        wait: Wait = False,
        timeout: Timeout = "10m",
        dry_run: DryRun = False,
    ) -> Exit:
        """Bring FILE to the nodes that match, without serving it there; no other node fetches it.

        Nodes that match get it whatever models they want, also when they come later, and keep it as long as --for says;
        the same command again with another --to or --for changes that. A promotion of the same file under the same
        name then needs no transfer on them.
        """
        from fleetcast.cli.distribute import run

        return run(
            call,
            file,
            to=tuple(to),
            named=named,
            lane=lane,
            keep=keep,
            node=node,
            reason=reason,
            wait=wait,
            timeout=timeout,
            dry_run=dry_run,
        )


def _add_removal(app: typer.Typer) -> None:
    @command(app, "gc", panel=PANEL)
    def collect(
        call: Call,
        node: Annotated[list[str] | None, typer.Option(metavar="NODE", help="Only this node; repeatable.")] = None,
        reason: Reason = None,
        timeout: Timeout = "2m",
        dry_run: DryRun = False,
    ) -> Exit:
        """Remove from the nodes what nothing pins, and say why the rest stays.

        Slots, the last production versions (store.keep_versions), the newest that were never served, transfers under
        way, runs that read them and distributions pin versions. Nodes do the same by themselves when their disk is
        full. Folders of runs that ended go after their time (trainer.keep_runs_seconds, keep_runs_bytes).
        """
        from fleetcast.cli.removal import run

        return run(call, nodes=tuple(node or ()), reason=reason, dry_run=dry_run, timeout=timeout)


def _add_emit_and_verify(app: typer.Typer) -> None:
    @command(app, "emit", panel=PANEL)
    def emit(
        call: Call,
        kind: Annotated[str, typer.Argument(metavar="TYPE", help="Event type in any spelling: MODEL_PROMOTED, …")],
        fields: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE…", help="Fields; a.b=1 nests.")] = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Publish any event of the catalogue; with NATS down it waits in this node's spool."""
        from fleetcast.cli.emit import run

        return run(call, kind, tuple(fields or ()), dry_run=dry_run)

    @command(app, "verify", panel=PANEL)
    def verify(
        call: Call,
        target: Annotated[str | None, typer.Argument(metavar="MODEL[@VERSION]", help="Default: everything.")] = None,
        everything: Annotated[bool, typer.Option("--all", help="Everything, summed up per node.")] = False,
        node: Annotated[list[str] | None, typer.Option(metavar="NODE", help="Only this node; repeatable.")] = None,
        wait: Annotated[bool, typer.Option("--wait", help="Return when what is damaged has been repaired.")] = False,
        timeout: Timeout = "10m",
    ) -> Exit:
        """Have the nodes read and hash what is installed; exit 1 naming node and file when something differs.

        With --all one line per node, otherwise one per file.
        """
        from fleetcast.cli.verify import run

        return run(call, target, everything=everything, nodes=tuple(node or ()), wait=wait, timeout=timeout)


def _add_dead_letters(app: typer.Typer) -> None:
    dlq = typer.Typer(help="Look at events that could not be handled, send them again, or drop them.")
    app.add_typer(dlq, name="dlq", rich_help_panel=PANEL)

    @command(dlq, "ls")
    def list_letters(call: Call) -> Exit:
        """List dead letters with their reasons, oldest first."""
        from fleetcast.cli.dead_letters import list_all

        return list_all(call)

    @command(dlq, "show")
    def show_letter(call: Call, number: Annotated[int, typer.Argument(metavar="NUMBER", min=1)]) -> Exit:
        """Show one dead letter with its body."""
        from fleetcast.cli.dead_letters import show

        return show(call, number)

    @command(dlq, "retry")
    def retry_letter(
        call: Call,
        numbers: Annotated[list[int] | None, typer.Argument(metavar="NUMBER…")] = None,
        everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Publish dead letters again under their own ids, and take them off the list."""
        from fleetcast.cli.dead_letters import retry

        return retry(call, tuple(numbers or ()), everything=everything, reason=reason, dry_run=dry_run)

    @command(dlq, "drop")
    def drop_letter(
        call: Call,
        numbers: Annotated[list[int] | None, typer.Argument(metavar="NUMBER…")] = None,
        everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
        reason: Reason = None,
        dry_run: DryRun = False,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    ) -> Exit:
        """Delete dead letters for good."""
        from fleetcast.cli.dead_letters import drop

        return drop(call, tuple(numbers or ()), everything=everything, reason=reason, dry_run=dry_run, yes=yes)
