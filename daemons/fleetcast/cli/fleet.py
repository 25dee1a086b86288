"""What heartbeats and slots say about a fleet, as pure functions: who counts, who is ready, what is wrong."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleetcast.cli.units import ago, moment, percent
from fleetcast.events.content import Kind
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import ModelStatus, NodeStatus, SlotState, TransferStatus
from fleetcast.events.wants import wants

LOST_AFTER_HEARTBEATS = 3
"""A node whose newest heartbeat is older than so many heartbeat distances is lost (DESIGN section 4)."""


DONE = frozenset({"installed", "superseded"})
"""States of a transfer that need nobody's attention any more."""


@dataclass(frozen=True)
class NodeView:
    """A node as the fleet sees it.

    Attributes:
        status: its newest heartbeat.
        age_seconds: how old that is.
        lost: it should have been heard from again by now.
    """

    status: NodeStatus
    age_seconds: float
    lost: bool

    @property
    def name(self) -> str:
        return self.status.node

    @property
    def state(self) -> str:
        """Its own word, or `lost`."""
        return "lost" if self.lost else self.status.state.value

    @property
    def alive(self) -> bool:
        """Whether it can be expected to act now."""
        return not self.lost and self.status.state is not DaemonState.STOPPED

    def line(self, kind: Kind, name: str) -> ModelStatus | None:
        """What it says about the model or lane *name*."""
        return next((m for m in self.status.models if m.model == name and m.kind == kind.value), None)


def views(
    statuses: Iterable[NodeStatus], *, now: datetime, heartbeat_seconds: float, daemon: str = "distributor"
) -> tuple[NodeView, ...]:
    """Views of all nodes that *daemon* speaks for, by name."""
    limit = heartbeat_seconds * LOST_AFTER_HEARTBEATS
    seen = []
    for status in statuses:
        if status.daemon != daemon:
            continue
        age = max(0.0, (now - moment(status.at)).total_seconds())
        silent = age > limit and status.state is not DaemonState.STOPPED
        seen.append(NodeView(status, age, silent))
    return tuple(sorted(seen, key=lambda view: view.name))


@dataclass(frozen=True)
class Waiting:
    """A node that does not serve what is ordered yet, and why."""

    node: str
    reason: str


@dataclass(frozen=True)
class Rollout:
    """How far a slot order has come.

    Attributes:
        kind, model, version, generation: what is ordered.
        ready: nodes that serve it at that generation, the N of N of M.
        waiting: the other nodes that want it.
    """

    kind: Kind
    model: str
    version: str
    generation: int
    ready: tuple[str, ...]
    waiting: tuple[Waiting, ...]

    @property
    def wanted(self) -> int:
        """M: how many nodes want the model."""
        return len(self.ready) + len(self.waiting)

    @property
    def complete(self) -> bool:
        """Every wanting node serves it; nobody wanting it is not completion."""
        return bool(self.ready) and not self.waiting


def received(transfer: TransferStatus) -> int:
    """Bytes that a transfer has: pieces are proven as they arrive, and a transport's own count may lag behind."""
    return max(transfer.bytes_done, transfer.bytes_verified)


def rollout(slot: SlotState, nodes: Sequence[NodeView]) -> Rollout:
    """How far *slot*'s production order has come on *nodes*."""
    version = slot.production.version if slot.production else ""
    ready, waiting = [], []
    for node in nodes:
        if not wants(node.status.wants, slot.kind, slot.model):
            continue
        reason = _reason_to_wait(node, slot, version)
        if reason is None:
            ready.append(node.name)
        else:
            waiting.append(Waiting(node.name, reason))
    return Rollout(slot.kind, slot.model, version, slot.generation, tuple(ready), tuple(waiting))


def rollout_document(progress: Rollout) -> dict[str, object]:
    """A rollout in JSON."""
    return {
        "kind": progress.kind.value,
        "model": progress.model,
        "version": progress.version,
        "generation": progress.generation,
        "ready": list(progress.ready),
        "waiting": [{"node": each.node, "reason": each.reason} for each in progress.waiting],
        "complete": progress.complete,
    }


def _reason_to_wait(node: NodeView, slot: SlotState, version: str) -> str | None:
    held = node.line(slot.kind, slot.model)
    if held is not None and held.current == version and held.generation >= slot.generation:
        return None
    if not node.alive:
        return f"{node.state}, last heard {ago(node.age_seconds)}"
    if held is not None and any(each.version == version for each in held.installed):
        return "has it, and is about to serve it"
    for transfer in node.status.transfers:
        if transfer.model == slot.model and transfer.version == version and transfer.state not in DONE:
            done = f"{transfer.state} {percent(received(transfer), transfer.bytes_total)} %"
            return f"{done}: {transfer.reason}" if transfer.reason else done
    if held is None or held.current is None:
        return "has no version yet"
    return f"serves {held.current} at generation {held.generation}"


def problems(nodes: Sequence[NodeView], rollouts: Sequence[Rollout], dead_letters: int) -> tuple[str, ...]:
    """What is degraded, one sentence each; empty: all is well."""
    found = [
        f"node {node.name} is {node.state}, last heard {ago(node.age_seconds)}" for node in nodes if not node.alive
    ]
    found += [
        f"node {node.name} is degraded: {node.status.status}"
        for node in nodes
        if node.alive and node.status.state is DaemonState.DEGRADED
    ]
    found += [
        f"{each.model}@{each.version} is on {len(each.ready)} of {each.wanted} nodes: "
        + "; ".join(f"{w.node} {w.reason}" for w in each.waiting)
        for each in rollouts
        if each.waiting
    ]
    found += [
        f"{transfer.model}@{transfer.version} on {node.name}: transfer failed: {transfer.reason or 'no reason given'}"
        for node in nodes
        if node.alive
        for transfer in node.status.transfers
        if transfer.state == "failed"
    ]
    if not nodes:
        found.append("no node has been heard from")
    if dead_letters:
        found.append(f"{dead_letters} dead letter{'s' if dead_letters > 1 else ''}")
    return tuple(found)
