"""When this node starts to fetch what it wants: connects the rule of precedence to what the node has heard."""

import time
from collections.abc import Callable

import structlog

from fleetcast.daemons.distributor.hardware import is_gpu_node
from fleetcast.daemons.distributor.neighbours import Neighbours
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.precedence import Turn, gpu_nodes, turn
from fleetcast.events.content import Kind

log = structlog.get_logger("fleetcast.distributor.turns")

HEARD_KEPT = 1024
"""Artifacts whose first mention is remembered; older ones have had their head start."""


class Turns:
    """Remembers when this node first heard of each artifact. Owned by the reconciler's task."""

    def __init__(self, parts: Parts, neighbours: Neighbours, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._neighbours = neighbours
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._waiting: frozenset[str] = frozenset()

    @property
    def somebody_waits(self) -> bool:
        """Whether an artifact was held back since `begin`."""
        return bool(self._waiting)

    def begin(self) -> None:
        """A comparison begins."""
        self._waiting = frozenset()

    def may_start(self, kind: Kind, name: str, artifact: str) -> bool:
        """Whether this node fetches the artifact now; says why not, once."""
        first_time = artifact not in self._heard
        found = self._turn(kind, name, artifact)
        if not found.now:
            self._waiting |= {artifact}
            if first_time:
                log.info(
                    "transfer.waiting",
                    model=name,
                    artifact=artifact,
                    reason=f"GPU nodes first: {', '.join(found.waits_for)}",
                    seconds_at_most=round(found.waits_seconds, 1),
                )
        return found.now

    def _turn(self, kind: Kind, name: str, artifact: str) -> Turn:
        now = self._clock()
        if len(self._heard) > HEARD_KEPT:
            self._heard.pop(next(iter(self._heard)))
        return turn(
            kind,
            has_gpu=is_gpu_node(self._parts.settings.node.labels),
            first=gpu_nodes(self._neighbours.statuses, kind, name) - {self._parts.node},
            holders=self._parts.swarm.holders(artifact),
            known_seconds=now - self._heard.setdefault(artifact, now),
            head_start_seconds=self._parts.settings.distributor.gpu_head_start_seconds,
        )
