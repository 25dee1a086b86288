"""A version that is known before its bytes are."""

import pytest
from tests.unit.registry.transitions.scene import MODEL, Scene, version_state

from fleetcast.events.decisions import EvidenceRecorded
from fleetcast.events.ids import NO_ARTIFACT
from fleetcast.events.lifecycle import Facts, StageName
from fleetcast.registry.commands import Announce, Answer, Describe, FlagSet, Move, Promote, Reserve

SAID = Facts(owner="ada", framework="sklearn", evaluation_metrics={"accuracy": 0.9})


def announce(scene: Scene, version: str = "1") -> Answer:
    flags = {"parity": FlagSet(value=True)}
    command = Announce(model=MODEL, version=version, origin="gw", facts=SAID, flags=flags, metadata={"ticket": "T-1"})
    return scene.ask(command)


def test_it_is_at_development_with_no_artifact_and_all_that_was_said() -> None:
    scene = Scene()
    answer = announce(scene)
    entry = scene.entry("1")
    assert (answer.outcome, entry.stage, entry.artifact, entry.bytes) == ("done", "development", NO_ARTIFACT, 0)
    assert (entry.facts.owner, entry.flags["parity"].value, entry.metadata) == ("ada", True, {"ticket": "T-1"})
    assert isinstance(scene.told[-1], EvidenceRecorded)
    assert "fleetcast register m 1 FILE" in answer.next_step


def test_a_version_that_is_known_is_not_announced_again() -> None:
    scene = Scene()
    announce(scene)
    again = announce(scene)
    assert (again.outcome, again.code) == ("conflict", "taken")
    scene.register("2")
    assert announce(scene, "2").code == "taken"
    assert scene.entry("2").artifact != NO_ARTIFACT


@pytest.mark.parametrize("stage", [StageName.CANARY, StageName.PRODUCTION])
def test_nothing_without_bytes_is_ever_served(stage: StageName) -> None:
    scene = Scene()
    scene.register("0")
    scene.ask(Promote(model=MODEL, version="0"))
    announce(scene)
    refused = scene.ask(Promote(model=MODEL, version="1", stage=stage))
    assert (refused.outcome, refused.code) == ("refused", "bytes")
    assert (scene.served, scene.stage("1")) == ("0", StageName.DEVELOPMENT)


def test_it_may_be_described_moved_up_where_nothing_is_served_and_taken_away() -> None:
    scene = Scene()
    announce(scene)
    assert scene.ask(Describe(model=MODEL, version="1", facts=Facts(team="fraud"))).accepted
    assert scene.ask(Promote(model=MODEL, version="1", stage=StageName.SANDBOX)).accepted
    assert scene.ask(Move(model=MODEL, version="1", stage=StageName.ARCHIVED)).accepted
    entry = scene.entry("1")
    # There are no bytes that anybody could keep.
    assert (entry.stage, entry.archive, entry.archived_to) == (StageName.ARCHIVED, None, None)


def test_bytes_that_come_later_keep_what_was_said_and_win_where_they_say_something_else() -> None:
    scene = Scene()
    announce(scene)
    scene.ask(Promote(model=MODEL, version="1", stage=StageName.SANDBOX))
    state = version_state("1", metrics={"accuracy": 0.95})
    assert scene.ask(Reserve(state=state)).outcome == "done"
    entry = scene.entry("1")
    assert (entry.artifact, entry.bytes > 0, entry.origin) == (state.artifact, True, "n1")
    assert (entry.stage, entry.facts.owner, entry.flags["parity"].value) == (StageName.SANDBOX, "ada", True)
    assert entry.facts.evaluation_metrics == {"accuracy": 0.95}
    assert entry.metadata["ticket"] == "T-1"
    assert scene.ask(Promote(model=MODEL, version="1")).accepted
    assert scene.served == "1"


def test_bytes_of_a_version_that_was_never_announced_take_over_nothing() -> None:
    scene = Scene()
    scene.register("1")
    scene.ask(Describe(model=MODEL, version="1", facts=Facts(owner="bob")))
    again = scene.ask(Reserve(state=version_state("1")))
    assert again.repeated
    assert scene.entry("1").facts.owner == "bob"
