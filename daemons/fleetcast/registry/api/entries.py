"""Between what the registry keeps of a version and the entries of the Python API. Pure."""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from fleetcast.events.content import Kind
from fleetcast.events.ids import is_name
from fleetcast.events.lifecycle import EntryState, Facts, StageName
from fleetcast.events.state import AuditRecord, SlotState, VersionState
from fleetcast.registry.api.values import AmbiguousVersion, DeploymentStage, ModelNotFound, ModelRegistryEntry
from fleetcast.registry.commands import FlagSet, Move, Promote, Rollback
from fleetcast.registry.description import described
from fleetcast.registry.errors import DescriptionInvalid, VersionsDiffer

EVIDENCE: Final = frozenset({"constitutional_compliance", "bias_check_passed", "training_succeeded", "parity", "e2e"})
"""Names that `update_model` takes for flags; others are given in `flags`."""
_SAME: Final = (
    "description",
    "artifact_path",
    "framework",
    "model_type",
    "owner",
    "team",
    "license",
    "run_id",
    "experiment_id",
    "git_commit",
    "environment",
    "reproducibility_hash",
    "training_data_hash",
    "training_dataset_size",
    "rating",
    "expected_latency_p50_ms",
    "expected_latency_p95_ms",
    "expected_latency_p99_ms",
    "calibration_error",
)
"""Fields that are called alike in facts and entries."""
_SERVED: Final = frozenset({StageName.CANARY, StageName.PRODUCTION})
_GONE: Final = frozenset({StageName.ARCHIVED, StageName.REJECTED, StageName.QUARANTINED})


def split(model_id: str, version: str | None) -> tuple[str, str | None]:
    """Model and version of `MODEL@VERSION`, or of a model and a version that is given besides.

    Raises:
        VersionsDiffer: two versions are given.
    """
    model, at, named = model_id.partition("@")
    if at and version not in {None, named}:
        raise VersionsDiffer(f"{model_id[:100]!r} names a version, and version={version!r} another one")
    return model, named if at else version


def checked_name(model: str) -> str:
    """*model*, which is a name.

    Raises:
        ModelNotFound: nothing can be called so.
    """
    if not is_name(model):
        raise ModelNotFound(f"{model[:80]!r} is no model: 1 to 48 of a-z 0-9 _ -, starting with a letter or digit")
    return model


# -- out


def entry_of(state: EntryState, slot: SlotState | None) -> ModelRegistryEntry:
    """A version as the API shows it."""
    facts = state.facts
    trained = facts.training_timestamp
    flags = {name: flag.value for name, flag in state.flags.items()}
    canary = slot.canary if slot and slot.canary and slot.canary.version == state.version else None
    return ModelRegistryEntry(
        model_id=state.model,
        version=state.version,
        name=facts.display_name,
        tags=facts.tags or (),
        training_timestamp=datetime.fromisoformat(trained) if trained else None,
        evaluation_metrics=facts.evaluation_metrics or {},
        evaluations=facts.evaluations or {},
        constitutional_compliance=flags.pop("constitutional_compliance", None),
        bias_check_passed=flags.pop("bias_check_passed", None),
        flags=flags,
        deploy_status=deploy_status(state),
        canary_percentage=float(canary.percent) if canary else None,
        metadata=state.metadata,
        artifact=state.artifact,
        bytes=state.bytes,
        format=state.format,
        node=state.origin,
        registered_at=datetime.fromisoformat(state.registered_at),
        registered_by=state.registered_by,
        **{name: getattr(facts, name) for name in _SAME},
    )


def deploy_status(state: EntryState) -> DeploymentStage:
    """A quarantined version that was served before is one that was rolled back."""
    if state.stage is StageName.QUARANTINED and any(change.stage in _SERVED for change in state.stages):
        return DeploymentStage.ROLLBACK
    return DeploymentStage(state.stage.value)


def state_of(version: VersionState, slot: SlotState | None) -> EntryState:
    """The entry of a version that no registry daemon has made one for."""
    try:
        facts, rest = described(version.metrics, version.metadata, run_id=version.run_id)
    except DescriptionInvalid:
        facts, rest = Facts(), dict(version.metadata or {})
    served = slot is not None and slot.production is not None and slot.production.version == version.version
    content, ref = version.content, version.content_ref
    return EntryState(
        model=version.model,
        version=version.version,
        artifact=version.artifact,
        stage=StageName.PRODUCTION if served else StageName.DEVELOPMENT,
        since=version.at,
        facts=facts,
        metadata=rest,
        bytes=content.size if content else ref.bytes if ref else 0,
        format=content.format.value if content else "mixed",
        origin=version.origin.node,
        registered_at=version.at,
        registered_by=version.cause.by,
        cause=version.cause,
    )


def known_entries(
    entries: Iterable[EntryState], versions: Iterable[VersionState], slots: Mapping[str, SlotState]
) -> list[EntryState]:
    """All versions of models, each once, in the order of their registration."""
    known = {(entry.model, entry.version): entry for entry in entries}
    for version in versions:
        key = (version.model, version.version)
        if version.kind is not Kind.DATASET and key not in known:
            known[key] = state_of(version, slots.get(version.model))
    return sorted(known.values(), key=lambda entry: datetime.fromisoformat(entry.registered_at))


def shown(entries: list[EntryState], model: str, version: str | None, slot: SlotState | None) -> EntryState:
    """The version that is meant where one is read: the named one, else production, else the newest.

    Raises:
        ModelNotFound: there is none.
    """
    production = slot.production.version if slot and slot.production else None
    wanted = version or production
    found = [entry for entry in entries if wanted in {None, entry.version}]
    if not found:
        what = f"{model}@{wanted}" if wanted else model
        raise ModelNotFound(f"{what} is not registered; next: fleetcast models {model}")
    return found[-1]


def changed(entries: list[EntryState], model: str, version: str | None, slot: SlotState | None) -> EntryState:
    """The version that is meant where something is changed: the named one, else the only one that is not archived,
    rejected or quarantined.

    Raises:
        ModelNotFound: there is none.
        AmbiguousVersion: there are several.
    """
    if version is not None:
        return shown(entries, model, version, slot)
    alive = [entry for entry in entries if entry.stage not in _GONE] or entries
    if len(alive) > 1:
        named = ", ".join(f"{entry.version} ({entry.stage})" for entry in alive[-5:])
        raise AmbiguousVersion(
            f"{model} has several versions: {named}; name the one that is meant: {model}@{alive[-1].version}"
        )
    return shown(alive, model, None, None)


def matches(entry: ModelRegistryEntry, wanted: Mapping[str, Any], tags: Iterable[str]) -> bool:
    """Whether an entry has all the values that are *wanted* (None: any), and all *tags*."""
    alike = all(value is None or getattr(entry, name) == value for name, value in wanted.items())
    return alike and set(tags) <= set(entry.tags)


# -- in


def facts_of(entry: ModelRegistryEntry) -> Facts:
    """What an entry says; only what it says."""
    said: dict[str, Any] = {name: getattr(entry, name) for name in _SAME}
    trained = entry.training_timestamp
    said |= {
        "display_name": entry.name,
        "tags": entry.tags or None,
        "training_timestamp": trained.isoformat() if trained else None,
        "evaluation_metrics": entry.evaluation_metrics or None,
        "evaluations": entry.evaluations or None,
    }
    return Facts(**{name: value for name, value in said.items() if value is not None})


def flags_of(entry: ModelRegistryEntry) -> dict[str, FlagSet]:
    """The flags that an entry sets."""
    said = {
        "constitutional_compliance": entry.constitutional_compliance,
        "bias_check_passed": entry.bias_check_passed,
        **entry.flags,
    }
    return {name: FlagSet(value=value) for name, value in said.items() if value is not None}


def said_of(metadata: Mapping[str, Any], flags: Mapping[str, bool]) -> tuple[Facts, dict[str, FlagSet], dict[str, Any]]:
    """Facts, flags and the rest of what `update_model` was given.

    Raises:
        DescriptionInvalid: a fact cannot be, or a flag is neither true nor false; names the field.
    """
    facts, rest = described(None, metadata)
    given = {name: rest.pop(name) for name in list(rest) if name in EVIDENCE} | dict(flags)
    for name, value in given.items():
        if not isinstance(value, bool):
            raise DescriptionInvalid(f"{name} is true or false, not {value!r}", field=name)
    return facts, {name: FlagSet(value=value) for name, value in given.items()}, rest


def news(said: Facts, known: Facts) -> Facts:
    """What *said* says that is not known."""
    differing = {name: getattr(said, name) for name in said.model_fields_set}
    return Facts(**{name: value for name, value in differing.items() if value != getattr(known, name)})


def percent_of(percentage: float | None) -> int | None:
    """A canary's share of the nodes, in percent.

    Raises:
        ValueError: it is not a whole number from 1 to 100.
    """
    if percentage is None:
        return None
    if not (math.isfinite(percentage) and percentage == int(percentage) and 1 <= percentage <= 100):
        raise ValueError(f"canary_percentage is {percentage}; a share of nodes is a whole number from 1 to 100")
    return int(percentage)


def command_for(
    model: str, version: str, stage: DeploymentStage, percent: int | None, slot: SlotState | None
) -> Promote | Rollback | Move:
    """The command that brings a version to a stage."""
    if stage is DeploymentStage.ROLLBACK:
        return _taken_back(model, version, slot)
    target = StageName(stage.value)
    if target in _GONE or target is StageName.DEVELOPMENT:
        return Move.model_validate({"model": model, "version": version, "stage": target})
    return Promote(model=model, version=version, stage=target, percent=percent)


def _taken_back(model: str, version: str, slot: SlotState | None) -> Rollback | Move:
    production = slot.production.version if slot and slot.production else None
    canary = slot.canary.version if slot and slot.canary else None
    if version not in {production, canary}:
        return Move(model=model, version=version, stage=StageName.QUARANTINED)
    # Where a canary stands, a rollback without a target takes back the canary.
    beside = slot is not None and canary is not None and version == production
    return Rollback(model=model, to=slot.previous.version if beside and slot and slot.previous else None)


# -- reports


def record_shown(record: AuditRecord) -> dict[str, Any]:
    """An audit record in short."""
    after = record.after or {}
    production = after.get("production")
    named = after.get("version") or (production.get("version") if isinstance(production, dict) else None)
    return {
        "n": record.n,
        "at": record.at,
        "action": record.action,
        "version": named,
        "stage": after.get("stage"),
        "generation": after.get("generation"),
        "actor": record.actor,
        "reason": record.reason,
    }


def difference(a: ModelRegistryEntry, b: ModelRegistryEntry) -> dict[str, Any]:
    """Two versions side by side: the fields that differ, and every metric with `b - a`."""
    fields = {
        name: {"a": getattr(a, name), "b": getattr(b, name)}
        for name in ModelRegistryEntry.model_fields
        if name != "evaluation_metrics" and getattr(a, name) != getattr(b, name)
    }
    names = sorted({*a.evaluation_metrics, *b.evaluation_metrics})
    return {"a": a.reference, "b": b.reference, "metrics": {n: _metric(a, b, n) for n in names}, "fields": fields}


def _metric(a: ModelRegistryEntry, b: ModelRegistryEntry, name: str) -> dict[str, float | None]:
    one, other = a.evaluation_metrics.get(name), b.evaluation_metrics.get(name)
    return {"a": one, "b": other, "difference": None if one is None or other is None else other - one}


def counts(entries: Iterable[ModelRegistryEntry]) -> dict[str, Any]:
    """How many models and versions there are, and of what kind."""
    listed = list(entries)
    stages = [entry.deploy_status.value for entry in listed]
    frameworks = [entry.framework or "not stated" for entry in listed]
    return {
        "total_models": len({entry.model_id for entry in listed}),
        "total_versions": len(listed),
        "by_stage": {stage.value: stages.count(stage.value) for stage in DeploymentStage},
        "by_framework": {name: frameworks.count(name) for name in sorted(set(frameworks))},
    }
