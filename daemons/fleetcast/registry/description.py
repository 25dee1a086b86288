"""What a producer says about a version in `metrics` and `metadata`, as facts: seed names and their aliases."""

import math
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from fleetcast.events.lifecycle import Facts, StageName
from fleetcast.registry.errors import DescriptionInvalid

ALIASES: Final = {
    "name": "display_name",
    "git_sha": "git_commit",
    "commit": "git_commit",
    "environment_digest": "environment",
    "dataset_size": "training_dataset_size",
    "trained_at": "training_timestamp",
}
"""Other spellings of facts, as training jobs write them."""

ASKED_STAGES: Final = (StageName.SANDBOX, StageName.STAGING, StageName.CANARY, StageName.PRODUCTION)

RATIOS: Final = ("win_rate", "accuracy", "calibration_error")
"""Names (or ends of names) of metrics that cannot leave 0 to 1."""


def described(
    metrics: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None, *, run_id: str | None = None
) -> tuple[Facts, dict[str, Any]]:
    """Facts, and what of *metadata* is none.

    Raises:
        DescriptionInvalid: a number is out of range, or a fact has another type; names the field.
    """
    _check_stage((metadata or {}).get("stage"))
    said: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in (metadata or {}).items():
        name = ALIASES.get(key, key)
        if name in Facts.model_fields and value is not None:
            said[name] = tuple(value) if isinstance(value, list) else value
        else:
            rest[key] = value
    numbers = {k: v for k, v in (metrics or {}).items() if isinstance(v, int | float) and not isinstance(v, bool)}
    others = {k: v for k, v in (metrics or {}).items() if k not in numbers}
    if others:
        rest["metrics"] = others
    for name, number in numbers.items():
        _check(name, float(number))
    if numbers:
        said["evaluation_metrics"] = {**said.get("evaluation_metrics", {}), **numbers}
    if run_id is not None:
        said.setdefault("run_id", run_id)
    try:
        return Facts.model_validate(said), rest
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DescriptionInvalid(f"metadata.{field}: {first['msg']}", field=f"metadata.{field}") from e


def _check_stage(stage: object) -> None:
    """A producer may ask for a stage that a version moves up to."""
    if stage is not None and stage not in ASKED_STAGES:
        allowed = ", ".join(ASKED_STAGES)
        raise DescriptionInvalid(f"metadata.stage: {stage!r} cannot be asked for; {allowed}", field="metadata.stage")


def _check(name: str, number: float) -> None:
    if not math.isfinite(number):
        raise DescriptionInvalid(f"metrics.{name} is {number}, which is no measurement", field=f"metrics.{name}")
    if name.startswith(RATIOS) and not 0 <= number <= 1:
        raise DescriptionInvalid(f"metrics.{name} is {number}; a ratio lies between 0 and 1", field=f"metrics.{name}")
