"""Commands that ask the registry to decide something."""

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit
from fleetcast.cli.surface.act import DryRun, ModelName, Reason, Timeout, VersionName, Wait

PANEL = "Decide"

Stage = Annotated[str | None, typer.Option(metavar="STAGE", help="sandbox, staging, canary or production.")]
Named = Annotated[str, typer.Argument(metavar="MODEL@VERSION")]
Generation = Annotated[
    int | None, typer.Option("--generation", min=0, help="Only if the slot is at this generation (0: never ordered).")
]

MinSeq = Annotated[
    int | None,
    typer.Option("--min-seq", metavar="N", help="Answer only once sequence N is known (`sequence` of --json)."),
]


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    _add_serving(app)
    _add_evidence(app)
    _add_holds(app)
    _add_stages(app)


def _add_serving(app: typer.Typer) -> None:
    @command(app, "rollback", panel=PANEL)
    def rollback(
        call: Call,
        model: ModelName,
        to: Annotated[str | None, typer.Option(metavar="VERSION", help="Default: the last good version.")] = None,
        now: Annotated[bool, typer.Option("--now", help="Do not wait for a quorum of nodes that hold it.")] = False,
        keep: Annotated[bool, typer.Option("--keep", help="Do not quarantine the version that is left.")] = False,
        generation: Generation = None,
        reason: Reason = None,
        wait: Wait = False,
        timeout: Timeout = "10m",
        dry_run: DryRun = False,
    ) -> Exit:
        """Serve the last good version again; a canary that is under way is ended instead, and production stays."""
        from fleetcast.cli.registry.promoting import Manner
        from fleetcast.cli.registry.promoting import rollback as run

        manner = Manner(reason=reason, wait=wait, timeout=timeout, dry_run=dry_run)
        return run(call, model, manner, to=to, now=now, keep=keep, generation=generation)

    @command(app, "resume", panel=PANEL)
    def resume(
        call: Call,
        name: Annotated[str, typer.Argument(metavar="MODEL|LANE")],
        abandon: Annotated[bool, typer.Option("--abandon", help="End it instead; production stays.")] = False,
        lane: Annotated[bool, typer.Option("--lane", help="The lane is meant, not the model.")] = False,
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Let a rollout that halted go on, with a new deadline; or a paused lane start runs again."""
        from fleetcast.cli.training.resuming import run

        return run(call, name, abandon=abandon, lane=lane, reason=reason, dry_run=dry_run)


def _add_evidence(app: typer.Typer) -> None:
    evidence = typer.Typer(help="Say what is known about a version: facts, flags, games, ratings; gates read it.")
    app.add_typer(evidence, name="evidence", rich_help_panel=PANEL)
    _add_statements(evidence)
    _add_results(evidence)


def _add_statements(evidence: typer.Typer) -> None:
    @command(evidence, "set")
    def record(
        call: Call,
        model: ModelName,
        version: VersionName,
        pairs: Annotated[list[str], typer.Argument(metavar="NAME=VALUE…", help="Facts, or flags: NAME=true.")],
        report: Annotated[Path | None, typer.Option(metavar="FILE", help="What the flags rest on; it is kept.")] = None,
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Record facts and flags; a later one replaces an earlier one, and all of them are on record."""
        from fleetcast.cli.registry.evidence import record as run

        return run(call, model, version, tuple(pairs), report=report, reason=reason, dry_run=dry_run)

    @command(evidence, "show")
    def show(call: Call, model: ModelName, version: VersionName, min_seq: MinSeq = None) -> Exit:
        """Show all that was said about a version: facts, flags, games, rating, approvals."""
        from fleetcast.cli.registry.lists import evidence as run

        return run(call, model, version, min_seq=min_seq)


def _add_results(evidence: typer.Typer) -> None:
    @command(evidence, "games")
    def games(
        call: Call,
        model: ModelName,
        version: VersionName,
        results: Annotated[list[str], typer.Argument(metavar="OPPONENT=WINS/LOSSES[/DRAWS]…")],
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Record the games of an evaluation, as counts per opponent."""
        from fleetcast.cli.registry.evidence import games as run

        return run(call, model, version, tuple(results), reason=reason, dry_run=dry_run)

    @command(evidence, "rating")
    def rating(
        call: Call,
        model: ModelName,
        version: VersionName,
        elo: Annotated[float, typer.Argument(metavar="ELO")],
        played: Annotated[int, typer.Option("--games", min=0, help="Games that it rests on.")],
        error: Annotated[float | None, typer.Option(help="Half width of its 95 % interval.")] = None,
        delta: Annotated[float | None, typer.Option(help="Difference to the production version.")] = None,
        delta_error: Annotated[float | None, typer.Option(help="Half width of the difference's interval.")] = None,
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Record a rating in Elo points."""
        from fleetcast.cli.registry.evidence import rating as run

        return run(
            call,
            model,
            version,
            elo,
            played=played,
            error=error,
            delta=delta,
            delta_error=delta_error,
            reason=reason,
            dry_run=dry_run,
        )


def _add_holds(app: typer.Typer) -> None:
    @command(app, "approve", panel=PANEL)
    def approve(
        call: Call,
        model: ModelName,
        version: VersionName,
        stage: Stage = None,
        by: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who agrees (default: you).")] = None,
        valid: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="How long it holds.")] = None,
        reason: Reason = None,
        dry_run: DryRun = False,
    ) -> Exit:
        """Agree that a version goes to a stage, by default to production."""
        from fleetcast.cli.registry.holds import approve as run

        return run(call, model, version, stage=stage, by=by, valid=valid, reason=reason, dry_run=dry_run)

    def freezing(name: str, text: str, *, frozen: bool) -> None:
        def body(
            call: Call,
            model: Annotated[str | None, typer.Argument(metavar="MODEL")] = None,
            everything: Annotated[bool, typer.Option("--all", help="Every model.")] = False,
            keep: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Such as 2h or 3d.")] = None,
            until: Annotated[str | None, typer.Option(metavar="TIME", help="Such as 2026-12-24T18:00:00Z.")] = None,
            reason: Reason = None,
            dry_run: DryRun = False,
        ) -> Exit:
            from fleetcast.cli.registry.holds import freeze as run

            return run(
                call,
                model,
                everything=everything,
                frozen=frozen,
                keep=keep,
                until=until,
                reason=reason,
                dry_run=dry_run,
            )

        body.__doc__ = text
        command(app, name, panel=PANEL)(body)

    freezing("freeze", "Let no version move up for a while; rollbacks work all the same.", frozen=True)
    freezing("unfreeze", "Let versions move up again.", frozen=False)


def _add_stages(app: typer.Typer) -> None:
    def moving(name: str, stage: str, text: str) -> None:
        def body(call: Call, wanted: Named, reason: Reason = None, dry_run: DryRun = False) -> Exit:
            from fleetcast.cli.registry.holds import move as run

            return run(call, wanted, stage, reason=reason, dry_run=dry_run)

        body.__doc__ = text
        command(app, name, panel=PANEL)(body)

    moving("reject", "rejected", "Take a version out of the pipeline because it is too weak.")
    moving("quarantine", "quarantined", "Bar a version: it is never served again unless it is released.")
    moving("release", "development", "Let a rejected or quarantined version in again, at development.")
