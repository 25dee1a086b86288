"""Settings of the exports that nobody announces."""

from pathlib import Path

from pydantic import Field, field_validator

from fleetcast.config.group import Group


class ExportFolder(Group):
    """One folder that a lane's exports appear in."""

    lane: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$", examples=["hex8_2p"], description="Lane that the files belong to."
    )
    folder: Path = Field(
        examples=["/data/training"], description="Folder on this node, absolute, inside a publish root."
    )
    pattern: str = Field(
        default="*.npz",
        min_length=1,
        description="Shell pattern of their names. All NPZ files; several lanes in one folder need one each.",
    )

    @field_validator("folder")
    @classmethod
    def _is_absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError(f"{value} is not absolute: write the whole path, starting with /")
        return value


class ExportSettings(Group):
    """Exports that nobody announces: folders that are looked at, so that data of older scripts is distributed too."""

    folders: tuple[ExportFolder, ...] = Field(
        default=(),
        description="Folders to look at, each as { lane, folder, pattern }. None: producers say EXPORT_COMPLETED.",
    )
    poll_seconds: float = Field(
        default=15.0,
        gt=0,
        description="Seconds between two looks. A file counts when it is the same in two of them, so that this is also "
        "the longest pause that a writer may make: 15, above the pauses of buffered writers.",
    )
