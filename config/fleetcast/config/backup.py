"""The settings of [backup]: where backups lie, who can open them, and how many are kept."""

from pathlib import Path

from pydantic import Field

from fleetcast.config.group import Group

_HOUR = 3600.0


class BackupSettings(Group):
    """Backups of the streams: `fleetcast backup`, and the timer that runs it every day."""

    folder: Path = Field(
        default=Path("/var/lib/fleetcast/backups"),
        description="Folder of the files. On another machine's disk a copy of them is worth most.",
    )
    recipients: tuple[str, ...] = Field(
        default=(),
        examples=[["fleetcast-backup-public-…"]],
        description="Public keys that backups are sealed to, as `fleetcast backup keys` prints them; any one of their "
        "private halves opens a file, and none of them belongs on this machine. None: no backup is made.",
    )
    keep_days: int = Field(default=30, ge=1, description="Days after which a backup is removed, a month.")
    keep_least: int = Field(
        default=7, ge=1, description="Backups that stay however old they are: a timer that fails removes nothing."
    )
    recovery_point_seconds: float = Field(
        default=26 * _HOUR,
        gt=0,
        description="Seconds of decisions that may be lost at most: an alert says when the last backup is older. A day "
        "between backups, and two hours to notice.",
    )
