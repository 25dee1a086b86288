"""Commands that read what the registry knows."""

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.act import ModelName, VersionName
from fleetcast.cli.surface.decide import MinSeq

PANEL = "Registry"

Limit = Annotated[int, typer.Option(min=1, max=500, help="Rows at most.")]
After = Annotated[
    str | None, typer.Option(metavar="PLACE", help="Go on behind this place, which the page before names.")
]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    _add_lists(app)
    _add_versions(app)
    _add_past(app)
    _add_papers(app)


def _add_lists(app: typer.Typer) -> None:
    @command(app, "models", panel=PANEL)
    def models(
        call: Call,
        model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Its versions; may be a pattern.")] = None,
        stage: Annotated[str | None, typer.Option(metavar="STAGE", help="Versions at this stage.")] = None,
        tag: Annotated[
            list[str] | None, typer.Option(metavar="TAG", help="Versions with this tag; repeatable.")
        ] = None,
        framework: Annotated[str | None, typer.Option(help="Versions made with it.")] = None,
        owner: Annotated[str | None, typer.Option(help="Versions of this owner.")] = None,
        team: Annotated[str | None, typer.Option(help="Versions of this team.")] = None,
        text: Annotated[str | None, typer.Option(help="Words that stand in what is said about a version.")] = None,
        order: Annotated[str | None, typer.Option(help="model, registered, since, elo, bytes; -elo: falling.")] = None,
        after: After = None,
        limit: Limit = 50,
        min_seq: MinSeq = None,
    ) -> Exit:
        """List models with what they serve; with MODEL or a filter, versions."""
        from fleetcast.cli.registry.lists import models as run

        return run(
            call,
            model,
            stage=stage,
            tags=tuple(tag or ()),
            framework=framework,
            owner=owner,
            team=team,
            text=text,
            order=order,
            after=after,
            limit=limit,
            min_seq=min_seq,
        )


def _add_versions(app: typer.Typer) -> None:
    @command(app, "info", panel=PANEL)
    def info(
        call: Call,
        version: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]")],
        min_seq: MinSeq = None,
    ) -> Exit:
        """Show everything that is known about a version, or how far a model can be trusted."""
        from fleetcast.cli.registry.lists import info as run

        return run(call, version, min_seq=min_seq)

    @command(app, "compare", panel=PANEL)
    def compare(
        call: Call,
        a: Annotated[str, typer.Argument(metavar="MODEL@VERSION")],
        b: Annotated[str, typer.Argument(metavar="MODEL@VERSION")],
    ) -> Exit:
        """Show where two versions differ, and every number of both."""
        from fleetcast.cli.registry.lists import compare as run

        return run(call, a, b)


def _add_past(app: typer.Typer) -> None:
    @command(app, "history", panel=PANEL)
    def history(
        call: Call,
        model: ModelName,
        consumption: Annotated[bool, typer.Option("--consumption", help="What nodes did with its versions.")] = False,
        version: Annotated[str | None, typer.Option(metavar="VERSION", help="Only about this version.")] = None,
        before: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only records before this one.")] = None,
        limit: Limit = 50,
        min_seq: MinSeq = None,
    ) -> Exit:
        """Show who decided what about a model, when and why, newest first."""
        from fleetcast.cli.registry.past import history as run

        return run(call, model, consumption=consumption, version=version, before=before, limit=limit, min_seq=min_seq)

    @command(app, "explain", panel=PANEL)
    def explain(
        call: Call, model: ModelName, number: Annotated[int, typer.Argument(metavar="DECISION", min=1)]
    ) -> Exit:
        """Show a decision with the numbers that decided it, and judge it again from the record."""
        from fleetcast.cli.registry.past import explain as run

        return run(call, model, number)

    registry = typer.Typer(help="What was served of every model at a time.")
    app.add_typer(registry, name="registry", rich_help_panel=PANEL)

    @command(registry, "at")
    def at(
        call: Call,
        moment: Annotated[str, typer.Argument(metavar="TIME", help="Such as 2026-11-21T09:00:00Z.")],
        model: Annotated[str | None, typer.Option(metavar="MODEL", help="Only this one.")] = None,
        after: After = None,
        limit: Limit = 500,
    ) -> Exit:
        """Show what was production and canary of every model at a time, everywhere."""
        from fleetcast.cli.registry.past import registry_at as run

        return run(call, moment, model=model, after=after, limit=limit)


def _add_papers(app: typer.Typer) -> None:
    @command(app, "card", panel=PANEL)
    def card(
        call: Call,
        model: ModelName,
        version: VersionName,
        file: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.")] = None,
    ) -> Exit:
        """Print the model card of a version, as Hugging Face shows it."""
        from fleetcast.cli.registry.papers import card as run

        return run(call, model, version, file=file)

    audit = typer.Typer(help="Check the record of decisions, and write it to a file.")
    app.add_typer(audit, name="audit", rich_help_panel=PANEL)

    @command(audit, "verify")
    def verify(call: Call, model: Annotated[str | None, typer.Argument(metavar="MODEL")] = None) -> Exit:
        """Name every forged, missing or reordered record; exit 1 when there is one."""
        from fleetcast.cli.registry.audit import verify as run

        return run(call, model)

    @command(audit, "export")
    def export(
        call: Call,
        file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Default: stdout.")] = None,
        model: Annotated[str | None, typer.Option(metavar="MODEL", help="Only this one.")] = None,
    ) -> Exit:
        """Write every record with its digest, one JSON object per line."""
        from fleetcast.cli.registry.audit import export as run

        return run(call, file, model)
