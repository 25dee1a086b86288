import pytest
from tests.unit.registry.transitions.scene import MODEL, NODES, Scene, cause, version_state

from fleetcast.events.decisions import PromotionRefused, RolloutChanged, StageChanged
from fleetcast.events.lifecycle import Phase, Rating, StageName
from fleetcast.events.payloads import SlotOrdered
from fleetcast.registry.commands import Approve, Evaluate, Freeze, Move, Promote
from fleetcast.registry.gates.policy import Gates, ModelPolicy, StageGates
from fleetcast.registry.transitions.promote import ORDER, steps_between

STRICT = ModelPolicy(gates=Gates(production=StageGates(min_elo=1650, flags=("bias_check_passed",))), quorum_ratio=0.5)


def promote(version: str, **more: object) -> Promote:
    return Promote.model_validate({"model": MODEL, "version": version, **more})


def test_a_promotion_moves_slot_stage_and_rollout_in_one_decision() -> None:
    scene = Scene()
    scene.register("1", "2")
    first = scene.ask(promote("1"))
    second = scene.ask(promote("2"))

    assert (first.outcome, second.outcome, second.generation) == ("done", "done", 2)
    assert scene.slot is not None
    assert scene.slot.previous is not None
    assert (scene.served, scene.slot.previous.version) == ("2", "1")
    assert (scene.stage("2"), scene.stage("1")) == (StageName.PRODUCTION, StageName.STAGING)
    assert scene.rollout is not None
    assert scene.rollout.phase is Phase.PROMOTED
    told = scene.told[-4:]
    assert [type(t) for t in told] == [SlotOrdered, StageChanged, StageChanged, RolloutChanged]


def test_the_slot_waits_until_a_quorum_of_nodes_holds_the_version() -> None:
    scene = Scene()
    scene.register("1")
    scene.holders[version_state("1").artifact] = 1

    answer = scene.ask(promote("1"))

    assert answer.outcome == "started"
    assert "1 of 4" in answer.message
    assert scene.slot is None
    assert scene.rollout is not None
    assert scene.rollout.phase is Phase.DISTRIBUTING


def test_gates_refuse_with_required_and_actual_and_the_next_command() -> None:
    scene = Scene(policy=STRICT)
    scene.register("1")
    scene.ask(Evaluate(model=MODEL, version="1", rating=Rating(elo=1500, error=30, games=400)))

    answer = scene.ask(promote("1"))

    assert (answer.outcome, answer.code, scene.slot) == ("refused", "gates", None)
    by_name = {g.gate.rpartition("/")[2]: g for g in answer.gates}
    assert by_name["elo"].verdict == "fail"
    assert "1650" in by_name["elo"].required
    assert "1500" in by_name["elo"].actual
    assert by_name["flag.bias_check_passed"].verdict == "insufficient"
    assert "fleetcast evidence show m 1" in answer.next_step
    assert isinstance(scene.told[-1], PromotionRefused)
    assert scene.told[-1].gates == answer.gates


def test_a_stage_that_serves_nothing_is_reached_without_a_rollout() -> None:
    scene = Scene()
    scene.register("1")

    answer = scene.ask(promote("1", stage="staging"))

    assert (answer.outcome, scene.stage("1"), scene.rollout) == ("done", StageName.STAGING, None)


def test_a_canary_is_served_by_a_share_of_the_nodes_beside_production() -> None:
    scene = Scene()
    scene.register("1", "2")
    scene.ask(promote("1"))

    answer = scene.ask(promote("2", stage="canary", percent=50))

    assert answer.outcome == "done"
    assert scene.slot is not None
    assert scene.slot.canary is not None
    assert (scene.served, scene.slot.canary.version, scene.slot.canary.percent) == ("1", "2", 50)
    assert len(scene.slot.canary.nodes) == 2
    assert set(scene.slot.canary.nodes) < set(NODES)
    assert (scene.stage("1"), scene.stage("2")) == (StageName.PRODUCTION, StageName.CANARY)


def test_a_canary_that_is_promoted_ends_as_canary() -> None:
    scene = Scene()
    scene.register("1", "2")
    scene.ask(promote("1"))
    scene.ask(promote("2", stage="canary", percent=25))

    scene.ask(promote("2"))

    assert scene.slot is not None
    assert (scene.served, scene.slot.canary, scene.generation) == ("2", None, 3)


def test_a_canary_needs_a_production_version_beside_it() -> None:
    scene = Scene()
    scene.register("1")
    assert scene.ask(promote("1", stage="canary")).code == "stage"


@pytest.mark.parametrize("stage", ["archived", "rejected", "quarantined"])
def test_what_is_barred_is_not_promoted(stage: str) -> None:
    scene = Scene()
    scene.register("1")
    scene.ask(Move(model=MODEL, version="1", stage=StageName(stage)))

    answer = scene.ask(promote("1"))

    assert answer.outcome == "refused"
    assert stage in answer.message
    assert scene.slot is None
    assert isinstance(scene.told[-1], PromotionRefused)


def test_an_unknown_version_is_not_found_and_leaves_no_record() -> None:
    scene = Scene()
    assert scene.ask(promote("9")).code == "unknown"
    assert scene.actions == []


def test_a_stale_generation_is_a_conflict_that_names_the_winner() -> None:
    scene = Scene()
    scene.register("1", "2")
    scene.ask(promote("1", expected_generation=0))

    answer = scene.ask(promote("2", expected_generation=0))

    assert (answer.outcome, answer.code) == ("conflict", "generation")
    assert "m@1, generation 1" in answer.winner
    assert scene.served == "1"


def test_a_person_does_not_replace_a_rollout_under_way_unless_asked_to() -> None:
    scene = Scene()
    scene.register("1", "2")
    scene.holders[version_state("1").artifact] = 0
    scene.ask(promote("1"))

    refused = scene.ask(promote("2"))
    replaced = scene.ask(promote("2", replace=True))

    assert (refused.outcome, refused.code) == ("conflict", "rollout")
    assert "m@1" in refused.winner
    assert replaced.outcome == "done"
    assert scene.served == "2"


def test_a_later_event_replaces_a_rollout_and_an_earlier_one_does_not() -> None:
    scene = Scene()
    scene.register("1", "2", "3")
    scene.holders[version_state("1").artifact] = 0
    scene.ask(promote("1", cause=cause(20)))

    late = scene.ask(promote("2", cause=cause(10)))
    newer = scene.ask(promote("3", cause=cause(30)))

    assert late.outcome == "superseded"
    assert "event 20" in late.message
    assert newer.outcome == "done"
    assert scene.served == "3"
    assert scene.actions.count("slot.superseded") == 1


def test_an_event_from_before_a_rollback_does_not_undo_it() -> None:
    scene = Scene(head=50)
    scene.register("1", "2", "3")
    scene.ask(promote("1", cause=cause(10)))
    scene.ask(promote("2"))

    assert scene.ask(promote("3", cause=cause(49))).outcome == "superseded"
    assert scene.ask(promote("3", cause=cause(51))).outcome == "done"


def test_a_freeze_holds_promotions_and_says_by_whom_and_until_when() -> None:
    scene = Scene()
    scene.register("1")
    scene.ask(Freeze(model=None, until="2026-11-20T11:00:00Z"), reason="holidays", actor="/fleet/n1/ann")

    answer = scene.ask(promote("1"))
    scene.wait(3601)
    later = scene.ask(promote("1"))

    assert answer.code == "frozen"
    assert "holidays" in answer.message
    assert "ann" in answer.message
    assert later.outcome == "done"


def test_production_again_is_no_new_order() -> None:
    scene = Scene()
    scene.register("1")
    scene.ask(promote("1"))
    assert scene.ask(promote("1")).code == "nothing"
    assert scene.generation == 1


def test_a_replaced_rollout_takes_its_canary_with_it() -> None:
    steps = ModelPolicy(decides="external", canary_steps=(25,), bake_seconds=60)
    scene = Scene(policy=steps)
    scene.register("1", "2", "3")
    scene.ask(promote("1"))
    scene.ask(promote("2"))
    assert scene.slot is not None
    assert scene.slot.canary is not None
    scene.holders[version_state("3").artifact] = 0

    before = scene.generation
    answer = scene.ask(promote("3", replace=True))
    orders = [t for t in scene.told if isinstance(t, SlotOrdered)]
    assert answer.generation == scene.generation == orders[-1].generation == before + 1, (
        "a slot order that nobody is told"
    )

    assert scene.slot.canary is None
    assert scene.served == "1"


def test_an_approval_counts_until_it_expires() -> None:
    gates = Gates(production=StageGates.model_validate({"approvals": {"count": 1}}))
    scene = Scene(policy=ModelPolicy(gates=gates))
    scene.register("1")
    assert scene.ask(promote("1")).code == "gates"
    scene.ask(Approve(model=MODEL, version="1", by="bob", valid_seconds=60))
    scene.wait(61)
    assert scene.ask(promote("1")).code == "gates"
    scene.ask(Approve(model=MODEL, version="1", by="bob", valid_seconds=60))
    assert scene.ask(promote("1")).outcome == "done"


def test_every_step_on_the_way_is_judged_and_the_canary_is_none_of_them() -> None:
    assert steps_between(ORDER[0], StageName.PRODUCTION, ORDER) == (
        StageName.SANDBOX,
        StageName.STAGING,
        StageName.PRODUCTION,
    )
    assert steps_between(StageName.PRODUCTION, StageName.STAGING, ORDER) == ()
    assert steps_between(StageName.STAGING, StageName.CANARY, (StageName.STAGING, StageName.PRODUCTION)) == ()


def test_a_canary_of_many_nodes_is_not_taken_back_to_few_on_its_way_to_production() -> None:
    scene = Scene(policy=ModelPolicy(decides="external", canary_steps=(10, 75), bake_seconds=60))
    scene.register("1", "2")
    scene.ask(promote("1"))
    scene.ask(promote("2", stage="canary", percent=50))

    scene.ask(promote("2"))

    assert scene.slot is not None
    assert scene.slot.canary is not None
    assert (scene.slot.canary.percent, scene.served) == (75, "1")


def test_an_order_is_newer_than_all_that_nodes_obey_also_those_that_a_restore_made_forgotten() -> None:
    scene = Scene()
    scene.register("1", "2")
    scene.ask(promote("1"))
    scene.obeyed = 41

    scene.ask(promote("2"))
    scene.ask(promote("1"))

    assert scene.generation == 43


def test_a_node_that_says_it_obeys_an_impossible_order_moves_nothing() -> None:
    scene = Scene()
    scene.register("1", "2")
    scene.ask(promote("1"))
    scene.obeyed = 2**60

    scene.ask(promote("2"))

    assert scene.generation == 2
