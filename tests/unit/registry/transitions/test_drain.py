"""Taking nodes out of service and back in."""

import dataclasses

import pytest
from tests.unit.registry.transitions.scene import Scene

from fleetcast.events.decisions import DrainChanged
from fleetcast.events.lifecycle import DrainState, drain_subject
from fleetcast.registry.commands import COMMAND, Answer, Drain, Transition
from fleetcast.registry.transitions import holds
from fleetcast.registry.transitions.view import Decision, NodeFacts, Refusal

LATER = "2099-01-01T00:00:00Z"
KNOWN = NodeFacts(known=True)


def decided(
    command: Drain, *drains: DrainState, facts: NodeFacts = KNOWN, reason: str | None = "fan is loud"
) -> Decision:
    view = dataclasses.replace(
        Scene().view(), drains={each.node: each for each in drains}, node_facts=lambda _node, _drained: facts
    )
    return holds.drain(view, Transition(request="r", actor="/fleet/n1/ann", reason=reason, command=command), command)


def refused(command: Drain, *drains: DrainState, facts: NodeFacts = KNOWN, reason: str | None = "why not") -> Answer:
    with pytest.raises(Refusal) as refusal:
        decided(command, *drains, facts=facts, reason=reason)
    return refusal.value.answer


def state(node: str, *, drained: bool = True, until: str | None = None) -> DrainState:
    return DrainState(node=node, drained=drained, until=until, reason="x", by="/t", at=LATER, n=3)


def test_drained_node_is_recorded_with_who_why_and_until_when() -> None:
    decision = decided(Drain(node="gpu-2", until=LATER))
    written = decision.writes[drain_subject("gpu-2")]
    assert isinstance(written, DrainState)
    assert (written.drained, written.until, written.by, written.reason) == (True, LATER, "/fleet/n1/ann", "fan is loud")
    (fact,) = decision.facts(written.n)
    assert isinstance(fact, DrainChanged)
    assert (fact.node, fact.drained, fact.until, fact.n) == ("gpu-2", True, LATER, written.n)


def test_node_comes_back_and_its_until_is_forgotten() -> None:
    decision = decided(Drain(node="gpu-2", drained=False), state("gpu-2", until=LATER))
    written = decision.writes[drain_subject("gpu-2")]
    assert isinstance(written, DrainState)
    assert (written.drained, written.until) == (False, None)
    assert decision.before is not None


def test_nobody_drains_without_a_reason() -> None:
    assert refused(Drain(node="gpu-2"), reason=None).code == "reason"


def test_time_that_is_past_is_refused() -> None:
    assert refused(Drain(node="gpu-2", until="2020-01-01T00:00:00Z")).code == "until"


def test_node_that_nobody_knows_is_refused_and_may_come_back_all_the_same() -> None:
    unknown = NodeFacts(known=False)
    assert refused(Drain(node="gpu-9"), facts=unknown).code == "unknown"
    assert decided(Drain(node="gpu-9", drained=False), state("gpu-9"), facts=unknown).answer.accepted


def test_last_node_that_serves_a_model_leaves_by_force_only() -> None:
    alone = NodeFacts(known=True, alone_with=("hex8", "fraud"))
    answer = refused(Drain(node="gpu-2"), facts=alone)
    assert (answer.code, answer.message) == ("last", "nobody but gpu-2 serves hex8, fraud")
    assert decided(Drain(node="gpu-2", force=True), facts=alone).answer.accepted


def test_guard_is_asked_beside_the_nodes_that_are_drained_already() -> None:
    asked: list[tuple[str, list[str]]] = []

    def facts(node: str, drained: object) -> NodeFacts:
        asked.append((node, list(drained)))  # type: ignore[call-overload]
        return NodeFacts(known=True)

    drains = {d.node: d for d in (state("gpu-1"), state("gpu-3", drained=False))}
    view = dataclasses.replace(Scene().view(), drains=drains, node_facts=facts)
    command = Drain(node="gpu-2")
    holds.drain(view, Transition(request="r", actor="/t", reason="x", command=command), command)
    assert asked == [("gpu-2", ["gpu-1"])]


def test_what_is_so_already_is_said_and_not_written_again() -> None:
    assert refused(Drain(node="gpu-2"), state("gpu-2")).code == "nothing"
    assert refused(Drain(node="gpu-2", drained=False)).code == "nothing"
    assert decided(Drain(node="gpu-2", until=LATER), state("gpu-2")).answer.accepted


def test_command_is_known_by_its_word() -> None:
    assert COMMAND.validate_python({"do": "drain", "node": "gpu-2"}) == Drain(node="gpu-2")
