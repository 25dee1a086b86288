"""The remedy daemon's settings."""

from pathlib import Path

from pydantic import Field

from fleetcast.config.group import Group

DAY_SECONDS = 24 * 3600.0


class RemedySettings(Group):
    """The remedy daemon: playbooks, and the breaker that stops automatic ones."""

    playbooks: Path | None = Field(
        default=None,
        examples=["/etc/fleetcast/playbooks"],
        description="Folder with playbooks of your own (docs/playbooks.md); one of the name of a shipped one replaces "
        "it. None: the shipped ones.",
    )
    rollbacks_per_model: int = Field(
        default=1,
        ge=0,
        description="Rollbacks of one model that events may start within rollback_model_seconds; then it pages. One: a "
        "second on the same day means that rolling back is no cure.",
    )
    rollback_model_seconds: float = Field(
        default=DAY_SECONDS, gt=0, description="Seconds over which the rollbacks of one model are counted: a day."
    )
    rollbacks_per_fleet: int = Field(
        default=3,
        ge=0,
        description="Rollbacks of all models together that events may start within rollback_fleet_seconds; then it "
        "pages. Three: more at once are a broken monitor or a broken network, not so many bad models.",
    )
    rollback_fleet_seconds: float = Field(
        default=3600.0, gt=0, description="Seconds over which the rollbacks of the fleet are counted: an hour."
    )
    request_age_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="Age in seconds at which a request that nobody took is refused: after an hour whoever asked has "
        "done something else. Such an outage is told.",
    )
    look_seconds: float = Field(
        default=1.0,
        gt=0,
        description="Seconds between looks at runs whose daemon may be gone and at deadlines, besides those that news "
        "cause.",
    )
