"""Between the registry's records and the entries of the Python API: nothing is lost, and nothing is guessed."""

from datetime import datetime
from typing import Any

import pytest

from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.lifecycle import EntryState, Facts, Flag, StageChange, StageName
from fleetcast.events.payloads import Endpoints, Origin
from fleetcast.events.state import CanaryEntry, Cause, SlotEntry, SlotState, VersionState
from fleetcast.registry.api import entries as rules
from fleetcast.registry.api.values import AmbiguousVersion, DeploymentStage, ModelNotFound, ModelRegistryEntry
from fleetcast.registry.commands import Move, Promote, Rollback
from fleetcast.registry.errors import DescriptionInvalid

CAUSE = Cause(event="e", sequence=1, by="x", correlation="e")
ARTIFACT = "a" * 64


def at(minute: int) -> str:
    return f"2026-11-21T09:{minute:02d}:00Z"


def entry(version: str, stage: StageName = StageName.DEVELOPMENT, minute: int = 0, **changes: Any) -> EntryState:
    return EntryState(
        model="m",
        version=version,
        artifact=ARTIFACT,
        stage=stage,
        since=at(minute),
        origin="gpu-1",
        registered_at=at(minute),
        registered_by="x",
        cause=CAUSE,
        **changes,
    )


def slot(production: str | None = None, canary: str | None = None, previous: str | None = None) -> SlotState:
    def held(version: str | None) -> SlotEntry | None:
        return SlotEntry(version=version, artifact=ARTIFACT) if version else None

    aside = CanaryEntry(version=canary, artifact=ARTIFACT, percent=10) if canary else None
    return SlotState(
        model="m",
        generation=1,
        production=held(production),
        previous=held(previous),
        canary=aside,
        cause=CAUSE,
        at=at(0),
    )


def version_state(version: str, kind: Kind = Kind.MODEL, minute: int = 0, **said: Any) -> VersionState:
    file = ContentFile(path="m", size=7, sha256="0" * 64, pieces_root="0" * 64)
    content = Content(kind=kind, format=Format.OPAQUE, files=(file,))
    return VersionState(
        model="m",
        version=version,
        artifact=content.artifact,
        content=content,
        kind=kind,
        origin=Origin(node="gpu-1", endpoints=Endpoints()),
        cause=CAUSE,
        at=at(minute),
        **said,
    )


def test_what_an_entry_says_is_what_comes_back() -> None:
    said = ModelRegistryEntry(
        model_id="m",
        version="1",
        name="M",
        owner="o",
        tags=("t",),
        training_timestamp=datetime(2026, 11, 21, 9, 30),  # noqa: DTZ001  # as `datetime.now()` gives it
        evaluation_metrics={"accuracy": 0.5},
        calibration_error=0.1,
    )
    flags = {"bias_check_passed": Flag(value=False, by="x", at=at(0)), "parity": Flag(value=True, by="x", at=at(0))}
    shown = rules.entry_of(entry("1", facts=rules.facts_of(said), flags=flags), None)
    assert rules.facts_of(shown) == rules.facts_of(said)
    assert (shown.bias_check_passed, shown.constitutional_compliance, shown.flags) == (False, None, {"parity": True})


def test_an_entry_says_nothing_that_nobody_said() -> None:
    assert rules.facts_of(ModelRegistryEntry(model_id="m", version="1")) == Facts()
    assert rules.flags_of(ModelRegistryEntry(model_id="m", version="1")) == {}


@pytest.mark.parametrize(
    ("stages", "shown"),
    [
        ((StageName.PRODUCTION,), DeploymentStage.ROLLBACK),
        ((StageName.CANARY,), DeploymentStage.ROLLBACK),
        ((StageName.STAGING,), DeploymentStage.QUARANTINED),
        ((), DeploymentStage.QUARANTINED),
    ],
)
def test_only_a_version_that_was_served_was_rolled_back(stages: tuple[StageName, ...], shown: DeploymentStage) -> None:
    changes = tuple(StageChange(stage=stage, at=at(0)) for stage in stages)
    assert rules.deploy_status(entry("1", StageName.QUARANTINED, stages=changes)) is shown


def test_versions_from_before_a_daemon_ran_are_shown_and_data_sets_are_not() -> None:
    known = rules.known_entries(
        [entry("2", minute=2)],
        [
            version_state("1", minute=1, metadata={"owner": "o", "x": 1}, metrics={"accuracy": 0.9}),
            version_state("2", minute=2),
            version_state("d", kind=Kind.DATASET, minute=3),
        ],
        {"m": slot(production="1")},
    )
    assert [(each.version, each.stage) for each in known] == [
        ("1", StageName.PRODUCTION),
        ("2", StageName.DEVELOPMENT),
    ]
    assert (known[0].facts.owner, known[0].metadata, known[0].bytes) == ("o", {"x": 1}, 7)


def test_what_a_producer_said_wrongly_hides_no_version() -> None:
    state = rules.state_of(version_state("1", metadata={"calibration_error": 7}), None)
    assert (state.facts, state.metadata) == (Facts(), {"calibration_error": 7})


def test_reading_means_production_else_the_newest() -> None:
    entries = [entry("1", minute=1), entry("2", minute=2)]
    assert rules.shown(entries, "m", None, slot("1")).version == "1"
    assert rules.shown(entries, "m", None, slot(canary="2")).version == "2"
    assert rules.shown(entries, "m", None, None).version == "2"
    assert rules.shown(entries, "m", "1", None).version == "1"
    with pytest.raises(ModelNotFound, match="m@3"):
        rules.shown(entries, "m", "3", None)
    with pytest.raises(ModelNotFound, match="m is not registered"):
        rules.shown([], "m", None, None)


def test_changing_means_the_only_version_and_asks_where_there_are_several() -> None:
    gone = entry("0", StageName.ARCHIVED)
    assert rules.changed([gone, entry("1")], "m", None, None).version == "1"
    assert rules.changed([gone], "m", None, None).version == "0"
    with pytest.raises(AmbiguousVersion, match=r"1 \(production\), 2 \(development\)"):
        rules.changed([entry("1", StageName.PRODUCTION), entry("2")], "m", None, slot("1"))
    assert rules.changed([entry("1", StageName.PRODUCTION), entry("2")], "m", "2", slot("1")).version == "2"


@pytest.mark.parametrize(
    ("stage", "held", "command"),
    [
        (DeploymentStage.PRODUCTION, None, Promote(model="m", version="2", stage=StageName.PRODUCTION)),
        (DeploymentStage.ROLLBACK, slot("2"), Rollback(model="m")),
        (DeploymentStage.ROLLBACK, slot("1", canary="2"), Rollback(model="m")),
        (DeploymentStage.ROLLBACK, slot("2", canary="3", previous="1"), Rollback(model="m", to="1")),
        (DeploymentStage.ROLLBACK, slot("1"), Move(model="m", version="2", stage=StageName.QUARANTINED)),
        (DeploymentStage.ARCHIVED, None, Move(model="m", version="2", stage=StageName.ARCHIVED)),
        (DeploymentStage.DEVELOPMENT, None, Move(model="m", version="2", stage=StageName.DEVELOPMENT)),
    ],
)
def test_a_status_becomes_the_command_that_means_it(
    stage: DeploymentStage, held: SlotState | None, command: object
) -> None:
    assert rules.command_for("m", "2", stage, None, held) == command


def test_metadata_is_told_apart_into_facts_flags_and_the_rest() -> None:
    facts, flags, rest = rules.said_of({"owner": "o", "name": "M", "parity": True, "x": 1}, {"reviewed": False})
    assert facts == Facts(owner="o", display_name="M")
    assert {name: flag.value for name, flag in flags.items()} == {"parity": True, "reviewed": False}
    assert rest == {"x": 1}
    with pytest.raises(DescriptionInvalid, match="parity is true or false, not 1"):
        rules.said_of({"parity": 1}, {})


def test_a_reference_names_one_version() -> None:
    assert rules.split("m@1.0", None) == ("m", "1.0")
    assert rules.split("m", "1.0") == ("m", "1.0")
    assert rules.split("m@1", "1") == ("m", "1")
    with pytest.raises(ValueError, match="another one"):
        rules.split("m@1", "2")
