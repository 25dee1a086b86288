"""The commands that ask the same as a request: shown with every problem and every change. Pure."""

import shlex
from collections.abc import Mapping

from fleetcast.registry.api.values import DeploymentStage


def command(*words: str | None, **options: object) -> str:
    """`fleetcast rollback hex8 --reason 'too slow'`; options without a value are left out."""
    said = ["fleetcast", *(shlex.quote(word) for word in words if word)]
    for name, value in options.items():
        if value is not None and value is not False:
            flag = f"--{name.replace('_', '-')}"
            said += [flag] if value is True else [flag, shlex.quote(str(value))]
    return " ".join(said)


def versions(filters: Mapping[str, object]) -> str:
    """Lists of versions."""
    tags = filters.get("tags")
    tagged = [word for tag in (tags if isinstance(tags, tuple) else ()) for word in ("--tag", str(tag))]
    options = {name: filters.get(name) for name in ("stage", "framework", "owner", "team", "text")}
    return command("models", *tagged, **options)


def deployment(
    model: str, version: str | None, stage: DeploymentStage, percent: float | None, reason: str | None
) -> str:
    """What brings a version to a stage."""
    named = version or "VERSION"
    said = reason or "TEXT"
    match stage:
        case DeploymentStage.ROLLBACK:
            return command("rollback", model, reason=said)
        case DeploymentStage.ARCHIVED:
            return command("archive", f"{model}@{named}", reason=said)
        case DeploymentStage.REJECTED:
            return command("reject", f"{model}@{named}", reason=said)
        case DeploymentStage.QUARANTINED:
            return command("quarantine", f"{model}@{named}", reason=said)
        case DeploymentStage.DEVELOPMENT:
            return command("release", f"{model}@{named}", reason=said)
    return command(
        "promote", model, named, stage=stage.value, percent=None if percent is None else f"{percent:g}", reason=reason
    )
