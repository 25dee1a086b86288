"""Versions as the seeds' REST interface shows them, and what it is told about them. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from fleetcast.events.ids import NO_ARTIFACT, Name, Version
from fleetcast.events.lifecycle import Words
from fleetcast.registry.api.entries import said_of
from fleetcast.registry.api.values import DeploymentStage, ModelPerformanceSnapshot, ModelRegistryEntry
from fleetcast.registry.commands import Announce


class Registration(ModelRegistryEntry):
    """A new version. With `artifact_path`, the distributor on `node` (default: the gateway's) takes the file or folder
    from one of its publish roots; without, the version is known at `development`, with no bytes, until an origin brings
    them under the same name."""


class Deployment(BaseModel):
    """Where a version is to go; gates decide."""

    model_config = ConfigDict(extra="forbid")

    status: DeploymentStage = Field(description="The stage; `rollback` takes back what is served.")
    canary_percentage: float | None = Field(default=None, description="Of the nodes, for `canary`: 1 to 100.")
    version: Version | None = Field(default=None, description="Of several versions of a model, which.")
    reason: Words | None = Field(default=None, description="For the record.")


class RollbackOrder(BaseModel):
    """Why, and to which version; both may stand in the query instead."""

    model_config = ConfigDict(extra="forbid")

    reason: Words | None = None
    target_version: Version | None = None


class CheckOrder(BaseModel):
    """How to check; all may stand in the query instead."""

    model_config = ConfigDict(extra="forbid")

    window_minutes: Annotated[int, Field(ge=1, le=60)] | None = None
    auto_remediate: bool | None = None
    reason: Words | None = Field(default=None, description="Of whoever has it remedied; kept with the request.")


class PerformanceSnapshot(ModelPerformanceSnapshot):
    """How a version performed over an interval; rates are shares from 0 to 1. The time of arrival stands for a
    timestamp that is left out."""

    model_id: Name = ""
    timestamp: datetime = Field(default_factory=lambda: datetime.now(UTC))


def entry_shown(entry: ModelRegistryEntry) -> dict[str, Any]:
    """A version with everything that is said of it."""
    shown = entry.model_dump(mode="json")
    return shown | {"deploy_status": entry.deploy_status.value, "artifact": entry.artifact or NO_ARTIFACT}


def row_shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A version of a list: the same names as `entry_shown`, and the slots that it is in."""
    quarantined_after_serving = row["stage"] == "quarantined" and bool(row.get("was_served"))
    return {
        "model_id": row["model"],
        "version": row["version"],
        "name": row.get("display_name"),
        "framework": row.get("framework"),
        "model_type": row.get("model_type"),
        "owner": row.get("owner"),
        "team": row.get("team"),
        "license": row.get("license"),
        "tags": row.get("tags") or [],
        "run_id": row.get("run_id"),
        "evaluation_metrics": row.get("metrics") or {},
        "deploy_status": "rollback" if quarantined_after_serving else row["stage"],
        "slots": row.get("slots") or [],
        "since": row.get("since"),
        "artifact": row["artifact"],
        "bytes": row.get("bytes") or 0,
        "format": row.get("format"),
        "node": row.get("origin"),
        "registered_at": row.get("registered_at"),
        "registered_by": row.get("registered_by"),
    }


def announcement(entry: ModelRegistryEntry, *, node: str) -> Announce:
    """The command that makes a version known without bytes.

    Raises:
        DescriptionInvalid: something cannot be said so; names the field.
    """
    given = entry.model_dump(mode="json", exclude_none=True, exclude=set(_NOT_SAID))
    metadata = {
        ("display_name" if key == "name" else key): value for key, value in given.items() if value not in ({}, [])
    }
    flags = {
        name: value
        for name, value in (
            ("constitutional_compliance", entry.constitutional_compliance),
            ("bias_check_passed", entry.bias_check_passed),
            *entry.flags.items(),
        )
        if value is not None
    }
    facts, said, _ = said_of(metadata, flags)
    return Announce(
        model=entry.model_id,
        version=entry.version,
        origin=entry.node or node,
        facts=facts,
        flags=said,
        metadata=dict(entry.metadata),
    )


_NOT_SAID: Final = frozenset(
    {
        "model_id",
        "version",
        "metadata",
        "flags",
        "constitutional_compliance",
        "bias_check_passed",
        "deploy_status",
        "canary_percentage",
        "artifact",
        "bytes",
        "format",
        "node",
        "registered_at",
        "registered_by",
    }
)
"""Fields of an entry that are no facts."""


def split_tags(tags: str | None) -> tuple[str, ...]:
    """`nlp,transformer` as tags; all of them are asked for."""
    return tuple(each for tag in (tags or "").split(",") if (each := tag.strip()))


def stage_filter(stage: DeploymentStage | None) -> dict[str, Any]:
    """What a filter means in the read model: `rollback` is a `quarantined` version that was served before."""
    if stage in {DeploymentStage.ROLLBACK, DeploymentStage.QUARANTINED}:
        return {"stage": DeploymentStage.QUARANTINED.value, "served": stage is DeploymentStage.ROLLBACK}
    return {"stage": stage.value if stage is not None else None}


def is_about(entry: ModelRegistryEntry, model: str | None, text: str | None) -> bool:
    """Whether a version is of the models that a shell pattern means, and has all the words of a text in what is said
    about it: what the read model does with these filters."""
    said = (
        entry.model_id,
        entry.version,
        entry.name,
        entry.owner,
        entry.team,
        entry.framework,
        entry.model_type,
        entry.run_id,
        entry.description,
        *entry.tags,
    )
    words = "\n".join(each for each in said if each).lower()
    named = model is None or fnmatchcase(entry.model_id, model)
    return named and all(word in words for word in (text or "").lower().split())
