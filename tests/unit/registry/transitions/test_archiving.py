"""Into the archive by one decision, out of it by two."""

import pytest
from tests.unit.registry.transitions.scene import MODEL, Scene

from fleetcast.events.decisions import ArchiveChanged, StageChanged
from fleetcast.events.lifecycle import ArchiveOrder, ArchiveRule, StageName
from fleetcast.registry.commands import Answer, ArchiveKept, Move, Promote, Returned


def archive(scene: Scene, version: str, rule: ArchiveRule = ArchiveRule.MANUAL) -> Answer:
    return scene.ask(Move(model=MODEL, version=version, stage=StageName.ARCHIVED, rule=rule))


def restore(scene: Scene, version: str) -> Answer:
    return scene.ask(Move(model=MODEL, version=version, stage=StageName.DEVELOPMENT))


def kept(scene: Scene, version: str, node: str = "n1") -> Answer:
    return scene.ask(ArchiveKept(model=MODEL, version=version, node=node))


def returned(scene: Scene, version: str, fault: str | None = None, node: str = "n1") -> Answer:
    return scene.ask(Returned(model=MODEL, version=version, node=node, fault=fault))


def order(scene: Scene, version: str) -> ArchiveOrder:
    found = scene.entry(version).archive
    assert found is not None
    return found


def served(scene: Scene, *versions: str) -> None:
    """Each of them was in production, in this order."""
    scene.register(*versions)
    for version in versions:
        scene.ask(Promote(model=MODEL, version=version, skip_rollout=True))


def test_an_archived_version_has_one_node_that_keeps_it_in_the_folder_of_its_month_and_reason() -> None:
    scene = Scene()
    scene.register("1")
    assert archive(scene, "1", ArchiveRule.LOW_ELO).outcome == "done"
    kept_by = order(scene, "1")
    assert (kept_by.node, kept_by.folder) == ("n1", "202611/low_elo/m/1")
    assert (kept_by.stage, kept_by.reason, kept_by.kept_at) == (StageName.DEVELOPMENT, "because", None)
    assert scene.entry("1").archived_to == "n1:202611/low_elo/m/1"
    stage, told = scene.told[-2:]
    assert isinstance(stage, StageChanged)
    assert isinstance(told, ArchiveChanged)
    assert (told.phase, told.n) == ("ordered", kept_by.n)


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_the_last_three_former_production_versions_are_not_archived_even_by_hand(version: str) -> None:
    scene = Scene()
    served(scene, "0", "1", "2", "3", "4")
    assert archive(scene, version).code == "slot"
    assert archive(scene, "0").outcome == "done"
    assert archive(scene, "4").code == "slot"


def test_a_rejected_former_version_does_not_count_among_the_three_that_stay() -> None:
    scene = Scene()
    served(scene, "0", "1", "2", "3", "4")
    scene.ask(Move(model=MODEL, version="3", stage=StageName.REJECTED))
    assert archive(scene, "0").code == "slot"
    assert archive(scene, "3").outcome == "done"


@pytest.mark.parametrize("stage", [StageName.STAGING, StageName.SANDBOX, StageName.QUARANTINED])
def test_a_rule_does_not_take_what_came_to_a_pinned_stage_since_it_was_proposed(stage: StageName) -> None:
    scene = Scene()
    scene.register("1")
    command = (
        Move(model=MODEL, version="1", stage=stage)
        if stage is StageName.QUARANTINED
        else Promote(model=MODEL, version="1", stage=stage)
    )
    scene.ask(command)
    assert scene.stage("1") is stage
    by_rule = archive(scene, "1", ArchiveRule.AGE)
    assert by_rule.outcome == ("done" if stage is StageName.SANDBOX else "refused")
    assert stage is StageName.SANDBOX or archive(scene, "1").outcome == "done"


def test_only_the_node_that_keeps_it_says_so_and_once() -> None:
    scene = Scene()
    scene.register("1")
    archive(scene, "1")
    assert kept(scene, "1", node="n2").code == "stage"
    assert kept(scene, "1").outcome == "done"
    assert order(scene, "1").kept_at is not None
    assert kept(scene, "1").code == "nothing"


def test_a_restore_is_at_development_only_when_every_byte_was_proven() -> None:
    scene = Scene()
    scene.register("1")
    archive(scene, "1")
    kept(scene, "1")
    assert returned(scene, "1").code == "nothing", "nobody asked"

    assert restore(scene, "1").outcome == "started"
    assert scene.stage("1") is StageName.ARCHIVED
    assert restore(scene, "1").code == "nothing"
    assert scene.ask(Promote(model=MODEL, version="1")).outcome == "refused"

    assert returned(scene, "1").stage is StageName.DEVELOPMENT
    entry = scene.entry("1")
    assert (entry.stage, entry.archive, entry.archived_to) == (StageName.DEVELOPMENT, None, None)
    stage, told = scene.told[-2:]
    assert isinstance(stage, StageChanged)
    assert (stage.to_stage, stage.by, stage.reason) == (StageName.DEVELOPMENT, "/fleet/n1/cli", "because")
    assert isinstance(told, ArchiveChanged)
    assert told.phase == "restored"


def test_a_restore_of_damaged_bytes_leaves_the_version_archived_and_may_be_asked_again() -> None:
    scene = Scene()
    scene.register("1")
    archive(scene, "1")
    restore(scene, "1")
    returned(scene, "1", fault="m.pt is damaged")
    assert scene.stage("1") is StageName.ARCHIVED
    assert (order(scene, "1").restore, order(scene, "1").fault) == (None, "m.pt is damaged")

    assert restore(scene, "1").outcome == "started"
    assert order(scene, "1").fault is None
    assert returned(scene, "1").stage is StageName.DEVELOPMENT


def test_a_quarantined_version_in_the_archive_comes_back_by_its_bytes_too() -> None:
    scene = Scene()
    scene.register("1")
    archive(scene, "1")
    scene.ask(Move(model=MODEL, version="1", stage=StageName.QUARANTINED))
    assert order(scene, "1").folder == "202611/manual/m/1"
    assert restore(scene, "1").outcome == "started"
    assert returned(scene, "1").stage is StageName.DEVELOPMENT
    assert scene.entry("1").quarantine is None
