"""The monitor's settings."""

from pathlib import Path

from pydantic import Field

from fleetcast.config.group import Group


class MonitorSettings(Group):
    """The monitor daemon: what models are judged by, and how much of the past it looks at when it begins."""

    policy: Path | None = Field(
        default=None,
        examples=["/etc/fleetcast/monitor.toml"],
        description="File with limits, budgets and modes by model (config/monitor.toml is one, with comments). None: "
        "the limits of docs/monitoring.md, and nothing but observing.",
    )
    replay_minutes: int = Field(
        default=20,
        ge=1,
        le=360,
        description="Minutes of snapshots that a monitor judges again when it begins, or takes over models from "
        "another one: twice the longest usual window. FC_PERF keeps six hours.",
    )
