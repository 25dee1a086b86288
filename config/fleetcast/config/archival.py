"""Settings of archival: which versions leave the nodes for the archive, and where it is."""

from typing import Literal

from pydantic import Field

from fleetcast.config.group import Group


class ArchivalSettings(Group):
    """Archival. What a slot names, former production versions, rollouts under way and versions in quarantine stay
    whatever these rules say."""

    mode: Literal["off", "dry-run", "on"] = Field(
        default="off",
        description="What the registry daemon does by itself, once per sweep_seconds: off: nothing; dry-run: it logs "
        "what would go; on: it archives. Off, because versions should leave by themselves only where somebody says so.",
    )
    sweep_seconds: float = Field(
        default=86_400.0, gt=0, description="Seconds between the daemon's own looks: a day, ages being days."
    )
    node: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9_-]{0,47})?$",
        examples=["store-1"],
        description="Node that keeps the archive, below its store.data. Empty: each version's origin, which has it.",
    )
    age_days: float = Field(
        default=7.0,
        ge=0,
        description="Days outside staging, canary and production after which a version goes. A week. A version that "
        "was restored is left alone as long, whatever the other rules say.",
    )
    experiment_patterns: tuple[str, ...] = Field(
        default=("*_iter*", "*_epoch*", "*_trial*"),
        description="Checkpoints of experiments: shell patterns of version, model, MODEL_VERSION or experiment id.",
    )
    experiment_days: float = Field(
        default=3.0, ge=0, description="Days after which a version goes whose name is such a pattern."
    )
    low_elo: float = Field(
        default=1400.0, allow_inf_nan=False, description="Elo below which a version goes, even at its upper bound."
    )
    low_elo_games: int = Field(
        default=100, ge=1, description="Games that its rating must rest on; fewer say too little."
    )
    superseded: bool = Field(
        default=True,
        description="Whether a version goes that a newer one of the same model beats, by the lower bound of its lead.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Confidence of those bounds, each one-sided; as of gates."
    )
