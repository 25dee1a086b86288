"""Who fetches a data set first: GPU nodes, because training starts there. Pure.

Nobody waits for ever: the head start is bounded, and ends as soon as the GPU nodes that are here have the data set. A
node that waits decides again every half second, from what it has heard; no message is needed for it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from fleetcast.daemons.distributor.hardware import is_gpu_node
from fleetcast.events.content import Kind
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import NodeStatus
from fleetcast.events.wants import wants

LOOK_SECONDS = 0.5
"""Distance of decisions while something waits."""
_HERE = frozenset({DaemonState.STARTING, DaemonState.READY})


@dataclass(frozen=True, slots=True)
class Turn:
    """Whether a node may start now.

    Attributes:
        waits_seconds: how long it waits at most; 0: it starts.
        waits_for: the nodes that it waits for.
    """

    waits_seconds: float = 0.0
    waits_for: tuple[str, ...] = ()

    @property
    def now(self) -> bool:
        return self.waits_seconds <= 0


def gpu_nodes(statuses: Iterable[NodeStatus], kind: Kind, name: str) -> frozenset[str]:
    """GPU nodes that are here and want a data set; who drains or has lost its bus gets no head start."""
    return frozenset(
        s.node for s in statuses if s.state in _HERE and is_gpu_node(s.labels) and wants(s.wants, kind, name)
    )


def turn(
    kind: Kind,
    *,
    has_gpu: bool,
    first: Collection[str],
    holders: Collection[str],
    known_seconds: float,
    head_start_seconds: float,
) -> Turn:
    """Whether a node starts to fetch now.

    Args:
        has_gpu: whether it is a GPU node itself.
        first: the GPU nodes that want it too.
        holders: nodes that have it all.
        known_seconds: since this node heard of it.
    """
    missing = sorted(set(first) - set(holders))
    left = head_start_seconds - known_seconds
    if kind is not Kind.DATASET or has_gpu or not missing or left <= 0:
        return Turn()
    return Turn(left, tuple(missing))
