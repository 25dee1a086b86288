from datetime import timedelta

from tests.unit.registry.transitions.scene import MODEL, Scene, version_state

from fleetcast.events.lifecycle import Phase, RolloutState
from fleetcast.registry.commands import Advance, Promote, Resume
from fleetcast.registry.gates.policy import ModelPolicy
from fleetcast.registry.transitions.rollouts import Serving, next_step

STEPPED = ModelPolicy(
    decides="external", canary_steps=(25, 50), bake_seconds=60, quorum_ratio=0.5, distribute_seconds=100
)


def rollout_of(scene: Scene) -> RolloutState:
    assert scene.rollout is not None
    return scene.rollout


def step(scene: Scene, serving: Serving | None = None, *, frozen: bool = False) -> str | None:
    """What the daemon does next, done; None: it waits."""
    rollout = rollout_of(scene)
    canary = serving or Serving(1, 1)
    found = next_step(rollout, scene.readiness(rollout.artifact), canary, scene.now, frozen=frozen)
    if found is None:
        return None
    scene.ask(found)
    return found.step


def under_way() -> Scene:
    """Version 1 is production, version 2 waits for its quorum."""
    scene = Scene(policy=STEPPED)
    scene.register("1", "2")
    scene.ask(Promote(model=MODEL, version="1"))
    scene.holders[version_state("2").artifact] = 1
    scene.ask(Promote(model=MODEL, version="2"))
    return scene


def test_a_rollout_goes_from_quorum_over_canary_steps_to_production() -> None:
    scene = under_way()
    assert step(scene) is None
    scene.holders.clear()
    seen = [step(scene), step(scene)]
    first = scene.slot.canary.nodes if scene.slot and scene.slot.canary else ()
    seen.append(step(scene))
    assert step(scene) is None
    scene.wait(60)
    seen.append(step(scene))
    second = scene.slot.canary.nodes if scene.slot and scene.slot.canary else ()
    seen.append(step(scene))
    scene.wait(60)
    seen.append(step(scene))

    assert seen == ["verified", "serve", "bake", "next", "bake", "next"]
    assert (len(first), len(second)) == (1, 2)
    assert set(first) < set(second)
    assert (scene.served, rollout_of(scene).phase) == ("2", Phase.PROMOTED)
    assert scene.slot is not None
    assert scene.slot.canary is None


def test_a_quorum_that_does_not_come_halts_and_says_how_far_it_was() -> None:
    scene = under_way()
    scene.wait(101)

    assert step(scene) == "halt"
    assert rollout_of(scene).phase is Phase.HALTED
    assert "1 of 4" in (rollout_of(scene).reason or "")
    assert scene.served == "1"
    assert step(scene) is None


def test_a_halted_rollout_goes_on_when_it_is_resumed_and_ends_when_abandoned() -> None:
    scene = under_way()
    scene.wait(101)
    step(scene)
    assert scene.ask(Resume(model=MODEL)).outcome == "started"
    assert rollout_of(scene).phase is Phase.DISTRIBUTING
    scene.wait(101)
    step(scene)
    assert scene.ask(Resume(model=MODEL, abandon=True)).outcome == "done"
    assert rollout_of(scene).phase is Phase.ROLLED_BACK
    assert scene.served == "1"


def test_canary_nodes_that_do_not_serve_halt_it_and_never_promote_it() -> None:
    scene = under_way()
    scene.holders.clear()
    step(scene)
    step(scene)
    assert step(scene, Serving(0, 1)) is None
    scene.wait(101)
    assert step(scene, Serving(0, 1)) == "halt"
    assert scene.served == "1"


def test_a_freeze_holds_a_rollout_where_it_is() -> None:
    scene = under_way()
    scene.holders.clear()
    assert step(scene) == "verified"
    assert step(scene, frozen=True) is None
    assert step(scene) == "serve"


def test_a_step_that_another_daemon_took_is_a_conflict_and_changes_nothing() -> None:
    scene = under_way()
    scene.holders.clear()
    rollout = rollout_of(scene)
    command = Advance(model=MODEL, rollout=rollout.rollout, step="verified")
    assert scene.ask(command).outcome == "done"
    before = dict(scene.states)

    assert scene.ask(command).outcome == "conflict"
    assert scene.ask(command.model_copy(update={"rollout": "another"})).outcome == "conflict"
    assert scene.states == before


def test_a_canary_asked_for_stays_until_somebody_decides() -> None:
    scene = Scene(policy=STEPPED)
    scene.register("1", "2")
    scene.ask(Promote(model=MODEL, version="1"))
    scene.ask(Promote.model_validate({"model": MODEL, "version": "2", "stage": "canary", "percent": 50}))

    scene.now += timedelta(days=3)

    assert step(scene) is None
    assert rollout_of(scene).phase is Phase.CANARY
