"""Which nodes may take a lane's run, as trainers judge it themselves when they race for it."""

from collections.abc import Iterable
from datetime import datetime

from fleetcast.daemons.trainer.claims.eligibility import eligible
from fleetcast.daemons.trainer.claims.watching import NodeWatch
from fleetcast.daemons.trainer.lanes.commands import NodeVerdict
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.training import TrainingRunState


class Judges:
    """Judges all nodes that were heard of, for `fleetcast why LANE`."""

    def __init__(self, nodes: NodeWatch) -> None:
        self._nodes = nodes

    def __call__(self, lane: LaneDefinition, run: TrainingRunState | None, now: datetime) -> Iterable[NodeVerdict]:
        """A verdict for each node, by name."""
        for node in self._nodes.all_facts:
            found = eligible(lane, run, node, now)
            yield NodeVerdict(node=node.node, eligible=found.ok, reason=found.reason, score=found.score)
