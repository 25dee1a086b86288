"""Commands about how versions perform."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fleetcast.cli.call import Call, command
from fleetcast.cli.problems import Exit

PANEL = "Watch"
_FLEET = "fleet"

Window = Annotated[
    int | None, typer.Option("--window", metavar="MINUTES", min=1, max=60, help="That the numbers are told over.")
]


class FleetFirst(TyperGroup):
    """A group that shows the fleet where no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; without a command, or with options only, those are the fleet's."""
        asks_for_help = bool(args) and args[0] in {"-h", "--help"}
        if not asks_for_help and (not args or args[0].startswith("-")):
            args = [_FLEET, *args]
        return super().parse_args(ctx, args)


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    _add_snapshot(app)
    _add_monitor(app)
    _add_replay(app)


def _add_snapshot(app: typer.Typer) -> None:
    @command(app, "snapshot", panel=PANEL)
    def snapshot(
        call: Call,
        wanted: Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="What performed so.")],
        requests: Annotated[int | None, typer.Option("--requests", "-n", min=0, help="In the interval.")] = None,
        errors: Annotated[int | None, typer.Option(min=0, help="Requests that failed.")] = None,
        ood: Annotated[int | None, typer.Option(min=0, help="Requests out of distribution.")] = None,
        error_rate: Annotated[
            float | None, typer.Option("--error-rate", help="Share that failed, 0 to 1, where no count is known.")
        ] = None,
        ood_rate: Annotated[float | None, typer.Option("--ood-rate", help="Share out of distribution, 0 to 1.")] = None,
        p50: Annotated[float | None, typer.Option(help="Median latency, milliseconds.")] = None,
        p95: Annotated[float | None, typer.Option(help="95th percentile of latency, milliseconds.")] = None,
        p99: Annotated[float | None, typer.Option(help="99th percentile of latency, milliseconds.")] = None,
        latencies: Annotated[
            Path | None,
            typer.Option(
                "--latencies",
                metavar="FILE",
                help="Milliseconds of single requests, one a line (-: stdin): counted into a histogram.",
            ),
        ] = None,
        rps: Annotated[
            float | None, typer.Option("--rps", help="Requests per second, where no count is known.")
        ] = None,
        interval: Annotated[
            str | None, typer.Option("--interval", metavar="DURATION", help="How long the interval was.")
        ] = None,
        drift: Annotated[float | None, typer.Option("--drift", help="Drift score of the inputs (KL).")] = None,
        accuracy: Annotated[float | None, typer.Option(help="Share of right answers, 0 to 1.")] = None,
        gpu_memory: Annotated[float | None, typer.Option("--gpu-memory", metavar="MB", help="In use, MB.")] = None,
        device: Annotated[str | None, typer.Option(help="That it ran on, such as cuda:0.")] = None,
        node: Annotated[str | None, typer.Option(metavar="NODE", help="Where it performed so (default: here).")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be published.")] = False,
    ) -> Exit:
        """Report how a version performed on a node over an interval; counts tell more than rates."""
        from fleetcast.cli.monitor.reporting import run

        said: dict[str, Any] = {
            "num_requests": requests,
            "errors": errors,
            "ood": ood,
            "error_rate": error_rate,
            "ood_rate": ood_rate,
            "latency_p50_ms": p50,
            "latency_p95_ms": p95,
            "latency_p99_ms": p99,
            "requests_per_second": rps,
            "input_drift_score": drift,
            "accuracy": accuracy,
            "gpu_memory_mb": gpu_memory,
            "device": device,
            "node": node,
        }
        return run(call, wanted, said, latencies=latencies, interval=interval, dry_run=dry_run)


def _add_monitor(app: typer.Typer) -> None:
    monitor = typer.Typer(
        cls=FleetFirst, help="Show how models perform: all of them, or one with what it is judged by."
    )
    app.add_typer(monitor, name="monitor", rich_help_panel=PANEL)

    @command(monitor, _FLEET)
    def fleet(call: Call, window: Window = None) -> Exit:
        """Show how all models perform (the same without a command); exit 1 when one is failing."""
        from fleetcast.cli.monitor.showing import fleet as run

        return run(call, window=window)

    @command(monitor, "show")
    def show(
        call: Call, model: Annotated[str, typer.Argument(metavar="MODEL", help="Which.")], window: Window = None
    ) -> Exit:
        """Show one model: what it is judged by and where each value comes from, numbers, triggers and verdicts."""
        from fleetcast.cli.monitor.showing import show as run

        return run(call, model, window=window)


def _add_replay(app: typer.Typer) -> None:
    @command(app, "replay-rules", panel=PANEL)
    def replay_rules(
        call: Call,
        since: Annotated[str, typer.Option(metavar="DURATION", help="How far back, at most 90d.")] = "7d",
        policy: Annotated[
            Path | None, typer.Option("--policy", metavar="FILE", help="Rules to try (default: those in force).")
        ] = None,
        model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help="Only this one.")] = None,
    ) -> Exit:
        """Show what changed limits would have done to the past days, beside what those in force would have."""
        from fleetcast.cli.monitor.replaying import run

        return run(call, since=since, policy=policy, model=model)
