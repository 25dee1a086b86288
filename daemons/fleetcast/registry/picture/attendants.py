"""The daemons that serve the whole fleet beside the registry: which are there, what each does, and who is missed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fleetcast.events.payloads import DaemonState
from fleetcast.registry.picture.amounts import ago
from fleetcast.registry.picture.nodes import NodeView

MISSED: Final[Mapping[str, str]] = {
    "monitor": "nobody judges how models perform",
    "remedy": "no incident is opened and no playbook goes on",
    "notifier": "nobody is told of anything",
    "gateway": "programs get no answer over HTTP",
}
"""What is not done while none of a kind is there."""


@dataclass(frozen=True)
class Attendants:
    """Those that were heard from within a day, by kind; a fleet may do without any of them."""

    daemons: Mapping[str, tuple[NodeView, ...]]

    @property
    def sentences(self) -> tuple[str, ...]:
        """A line for each kind that there is or was."""
        return tuple(
            f"{kind}: {'; '.join(_one(each) for each in known)}" for kind, known in self.daemons.items() if known
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """What is degraded; empty: all is well. One that was stopped in order is not missed."""
        found = [
            f"{kind} on {each.name} is degraded: {each.status.status}"
            for kind, known in self.daemons.items()
            for each in known
            if each.alive and each.status.state is DaemonState.DEGRADED
        ]
        for kind, known in self.daemons.items():
            lost = [each for each in known if not each.alive and each.status.state is not DaemonState.STOPPED]
            if lost and not any(each.alive for each in known):
                last = "; ".join(_one(each) for each in lost)
                found.append(f"the {kind} daemon is away ({last}): {MISSED[kind]}")
        return tuple(found)

    def document(self) -> list[dict[str, object]]:
        """The same in JSON."""
        return [
            {
                "daemon": kind,
                "node": each.name,
                "state": each.state,
                "age_seconds": round(each.age_seconds, 3),
                "status": each.status.status,
            }
            for kind, known in self.daemons.items()
            for each in known
        ]


def _one(daemon: NodeView) -> str:
    if daemon.alive:
        return f"{daemon.name} ({daemon.status.status})"
    return f"{daemon.name} is {daemon.state}, last heard {ago(daemon.age_seconds)}"
