"""Which versions this node keeps because somebody asked for them to be brought here. Pure; owned by the daemon's loop.

An order is a record of the registry, so that a node that was away, or comes later, learns of it as of a slot.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from fleetcast.daemons.distributor.rules import Goal, Urgency
from fleetcast.events.state import DistributionState
from fleetcast.events.wants import addressed
from fleetcast.registry.slots import Line
from fleetcast.transport.store import Line as StoreLine
from fleetcast.transport.store import Pins


class DistributionBook:
    """The orders that concern this node: it is addressed by them, or the origin of what they bring to others."""

    def __init__(self, node: str, labels: Mapping[str, str]) -> None:
        self._node = node
        self._labels = labels
        self._orders: dict[tuple[Line, str], DistributionState] = {}

    def take(self, state: DistributionState) -> None:
        """Take an order; it replaces an earlier one for the same version."""
        key = ((state.kind, state.model), state.version)
        if self._means_me(state) or state.origin == self._node:
            self._orders[key] = state
        else:
            self._orders.pop(key, None)

    @property
    def lines(self) -> frozenset[Line]:
        """The models and lanes that the orders are about."""
        return frozenset(line for line, _version in self._orders)

    def goals(self, now: datetime) -> tuple[tuple[Line, Goal], ...]:
        """What this node shall hold for that; behind everything that is to be served."""
        due = (o for o in self._mine() if is_in_force(o, now))
        return tuple(((o.kind, o.model), Goal(o.version, o.artifact, Urgency.OFFERED)) for o in due)

    def pins(self, now: datetime) -> Pins:
        """What stays here for that: versions on the nodes that are addressed, bytes on the origin as well, which the
        others may still have to fetch. What was kept until now is released."""
        mine, current = self._mine(), [o for o in self._orders.values() if is_in_force(o, now)]
        return Pins(
            versions=frozenset(_name(o) for o in mine if is_in_force(o, now)),
            artifacts=frozenset(o.artifact for o in current if o.origin == self._node),
            released=frozenset(_name(o) for o in mine if not is_in_force(o, now)),
        )

    def reason(self, line: Line, version: str, now: datetime) -> str | None:
        """Why this node keeps a version, in words; None: not because of an order."""
        order = self._orders.get((line, version))
        if order is None or not is_in_force(order, now):
            return None
        until = f"until {order.until}" if order.until else "for good"
        role = "origin of what is " if order.origin == self._node else ""
        return f"{role}distributed to {', '.join(order.to)} {until}"

    def _mine(self) -> Iterable[DistributionState]:
        return [o for o in self._orders.values() if self._means_me(o)]

    def _means_me(self, order: DistributionState) -> bool:
        return addressed(order.to, self._node, self._labels)


def is_in_force(order: DistributionState, now: datetime) -> bool:
    """Whether its time is not over."""
    return order.until is None or now < datetime.fromisoformat(order.until)


def _name(order: DistributionState) -> tuple[StoreLine, str]:
    return StoreLine(order.kind, order.model), order.version
