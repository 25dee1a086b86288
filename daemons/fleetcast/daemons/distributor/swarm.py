"""Who is in which swarm: members learned from notices, heartbeats and offers. Pure; owned by the daemon's loop."""

from fleetcast.daemons.distributor.rules import dials
from fleetcast.events.payloads import Endpoints
from fleetcast.events.state import NodeStatus, PeerNotice
from fleetcast.transport.protocol import Source

RELIEVED_BY = 2
"""Other complete members that serve a late joiner instead of the origin: one may fail, and one is still there."""


class SwarmBook:
    """Members of every swarm, as far as this node has heard."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._members: dict[str, dict[str, Endpoints]] = {}
        self._complete: dict[str, set[str]] = {}
        self._by_heartbeat: dict[str, frozenset[str]] = {}
        self._origins: dict[str, str] = {}

    def note(self, artifact: str, node: str, endpoints: Endpoints, *, complete: bool) -> bool:
        """Remember a member; True when it is new, moved, or holds all of it now."""
        if node == self._node:
            return False
        members = self._members.setdefault(artifact, {})
        changed = members.get(node) != endpoints
        members[node] = endpoints
        holders = self._complete.setdefault(artifact, set())
        changed = changed or (complete and node not in holders)
        if complete:
            holders.add(node)
        return changed

    def set_origin(self, artifact: str, node: str) -> None:
        """Remember where an artifact started."""
        self._origins[artifact] = node

    def spares(self, artifact: str, node: str) -> bool:
        """Whether a member is the origin and left alone, because enough others hold all of it."""
        others = self._complete.get(artifact, set()) - {node}
        return self._origins.get(artifact) == node and len(others) >= RELIEVED_BY

    def take_notice(self, notice: PeerNotice) -> bool:
        """Apply what a member said; True when this node should hand the member to its transport."""
        if notice.left:
            self.forget(notice.artifact, notice.node)
            return False
        return self.note(notice.artifact, notice.node, notice.endpoints, complete=notice.complete)

    def take_heartbeat(self, status: NodeStatus) -> frozenset[str]:
        """Repair the book from what a node reports; returns the artifacts in which it is newly a member."""
        holds = frozenset(v.artifact for m in status.models for v in m.installed)
        fetches = frozenset(t.artifact for t in status.transfers if t.state == "fetching")
        for gone in self._by_heartbeat.get(status.node, frozenset()) - holds - fetches:
            self.forget(gone, status.node)
        self._by_heartbeat[status.node] = holds | fetches
        return frozenset(a for a in holds | fetches if self.note(a, status.node, status.endpoints, complete=a in holds))

    def forget(self, artifact: str, node: str) -> None:
        self._members.get(artifact, {}).pop(node, None)
        self._complete.get(artifact, set()).discard(node)

    def forget_node(self, node: str) -> None:
        """A node is gone: it is a member of nothing."""
        self._by_heartbeat.pop(node, None)
        for artifact in list(self._members):
            self.forget(artifact, node)

    def members(self, artifact: str) -> int:
        """How many others are known in the swarm."""
        return len(self._members.get(artifact, {}))

    def holders(self, artifact: str) -> frozenset[str]:
        """Others that hold all of it."""
        return frozenset(self._complete.get(artifact, ()))

    def sources(self, artifact: str) -> tuple[Source, ...]:
        """Members that this node dials, as a transport takes them: complete ones first, without an origin to spare."""
        complete = self._complete.get(artifact, set())
        members = sorted(self._members.get(artifact, {}).items(), key=lambda m: (m[0] not in complete, m[0]))
        return tuple(
            source(node, endpoints, complete=node in complete)
            for node, endpoints in members
            if dials(self._node, node, other_complete=node in complete) and not self.spares(artifact, node)
        )


def source(node: str, endpoints: Endpoints, *, complete: bool) -> Source:
    return Source(node=node, bt=endpoints.bt, http=endpoints.http, rsync=endpoints.rsync, complete=complete)
