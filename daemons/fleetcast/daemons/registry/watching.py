"""Which nodes there are, what they want, hold and serve, as decisions about rollouts and drains ask for it."""

from collections.abc import Iterable

from fleetcast.events.state import CanaryForm, SlotState
from fleetcast.registry.nodes import HEARTBEATS, FleetWatch
from fleetcast.registry.transitions.rollouts import Serving
from fleetcast.registry.transitions.view import NodeFacts, Readiness

__all__ = ["HEARTBEATS", "Nodes"]


class Nodes(FleetWatch):
    """The fleet, with the counts that the registry decides by."""

    def readiness(self, model: str, artifact: str) -> Readiness:
        """How many of the nodes that want a model hold an artifact."""
        view = self.view
        wanting = view.wanting(model)
        holders = view.holders(artifact)
        return Readiness(sum(node in holders for node in wanting), len(wanting), tuple(wanting))

    def serving(self, slot: SlotState | None) -> Serving:
        """How many of the canary's nodes serve it at its generation; a canary of which every node is drained is served
        by nobody, and not by all."""
        count = None if slot is None else self.view.canary_count(slot)
        if count is None or count.form is not CanaryForm.NODES:
            return Serving(0, 0)
        return Serving(len(count.serving), max(1, len(count.assigned)))

    def facts(self, node: str, drained: Iterable[str]) -> NodeFacts:
        """What is known of a node beside others of which these are *drained*."""
        view = self.view_without(drained)
        return NodeFacts(known=node in view.nodes, alone_with=view.alone(node))
