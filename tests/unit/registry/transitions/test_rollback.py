from tests.unit.registry.transitions.scene import MODEL, Scene, version_state

from fleetcast.events.lifecycle import Phase, StageName
from fleetcast.registry.commands import Advance, Freeze, Move, Promote, Rollback
from fleetcast.registry.gates.policy import ModelPolicy


def served(*versions: str, policy: ModelPolicy | None = None) -> Scene:
    """A scene in which *versions* were production one after the other."""
    scene = Scene(policy=policy) if policy else Scene()
    scene.register(*versions)
    for version in versions:
        scene.ask(Promote(model=MODEL, version=version))
    return scene


def test_the_last_good_version_is_served_again_and_the_bad_one_quarantined() -> None:
    scene = served("1", "2", "3")

    answer = scene.ask(Rollback(model=MODEL), reason="errors")

    assert (answer.outcome, answer.version, answer.generation) == ("done", "2", 4)
    assert (scene.served, scene.stage("2"), scene.stage("3")) == ("2", StageName.PRODUCTION, StageName.QUARANTINED)
    assert scene.entry("3").quarantine is not None
    assert scene.slot is not None
    assert scene.slot.previous is not None
    assert scene.slot.previous.version == "1"
    assert "3" not in {f.version for f in scene.slot.former}


def test_rolling_back_again_goes_further_back_and_never_to_a_quarantined_version() -> None:
    scene = served("1", "2", "3")
    scene.ask(Rollback(model=MODEL))
    scene.ask(Rollback(model=MODEL))

    last = scene.ask(Rollback(model=MODEL))

    assert scene.served == "1"
    assert (last.outcome, last.code) == ("refused", "none-good")
    assert scene.rollout is not None
    assert scene.rollout.phase is Phase.FROZEN


def test_a_frozen_model_comes_free_by_a_good_version() -> None:
    scene = served("1")
    scene.ask(Rollback(model=MODEL))
    scene.register("2")

    assert scene.ask(Promote(model=MODEL, version="2")).outcome == "done"
    assert scene.rollout is not None
    assert scene.rollout.phase is Phase.PROMOTED


def test_a_named_version_must_have_been_production_and_good() -> None:
    scene = served("1", "2", "3")
    scene.register("4")
    scene.ask(Move(model=MODEL, version="2", stage=StageName.QUARANTINED))

    assert scene.ask(Rollback(model=MODEL, to="4")).code == "stage"
    assert scene.ask(Rollback(model=MODEL, to="2")).code == "quarantined"
    assert scene.ask(Rollback(model=MODEL, to="3")).code == "nothing"
    assert scene.ask(Rollback(model=MODEL, to="9")).code == "unknown"
    assert scene.ask(Rollback(model=MODEL, to="1")).outcome == "done"


def test_a_canary_is_ended_and_production_stays() -> None:
    scene = served("1")
    scene.register("2")
    scene.ask(Promote(model=MODEL, version="2", stage=StageName.CANARY, percent=50))

    answer = scene.ask(Rollback(model=MODEL))

    assert answer.outcome == "done"
    assert scene.slot is not None
    assert (scene.served, scene.slot.canary, scene.stage("2")) == ("1", None, StageName.QUARANTINED)


def test_kept_versions_go_to_staging_and_may_return() -> None:
    scene = served("1", "2")
    scene.ask(Rollback(model=MODEL, keep=True))
    assert scene.stage("2") is StageName.STAGING
    assert scene.ask(Promote(model=MODEL, version="2")).outcome == "done"


def test_a_rollback_waits_for_nodes_that_hold_the_target_unless_told_not_to() -> None:
    scene = served("1", "2")
    scene.holders[version_state("1").artifact] = 0

    waiting = scene.ask(Rollback(model=MODEL))
    assert (waiting.outcome, scene.served) == ("started", "2")
    assert scene.rollout is not None
    assert scene.rollout.phase is Phase.ROLLING_BACK
    at_once = scene.ask(Rollback(model=MODEL, now=True))

    assert (at_once.outcome, scene.served, scene.stage("2")) == ("done", "1", StageName.QUARANTINED)


def test_a_rollback_that_waited_is_finished_by_the_daemon() -> None:
    scene = served("1", "2")
    scene.holders[version_state("1").artifact] = 0
    scene.ask(Rollback(model=MODEL))
    assert scene.rollout is not None
    scene.holders.clear()

    answer = scene.ask(Advance(model=MODEL, rollout=scene.rollout.rollout, step="serve"))

    assert (answer.outcome, scene.served, scene.stage("2")) == ("done", "1", StageName.QUARANTINED)
    assert scene.rollout.phase is Phase.ROLLED_BACK


def test_a_freeze_does_not_hold_a_rollback() -> None:
    scene = served("1", "2")
    scene.ask(Freeze(model=MODEL))
    assert scene.ask(Rollback(model=MODEL)).outcome == "done"


def test_a_rollback_of_nothing_is_not_found() -> None:
    assert Scene().ask(Rollback(model=MODEL)).code == "unknown"


def test_a_stale_generation_is_a_conflict() -> None:
    scene = served("1", "2")
    assert scene.ask(Rollback(model=MODEL, expected_generation=1)).outcome == "conflict"
    assert scene.served == "2"
